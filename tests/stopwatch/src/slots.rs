//! The pager of many slots: vmm-mm's own answers, and as many slots more as the option `slots` says, beside each other.

use crate::PAGER;
use crate::slots_plan::{FIRST, NUMBER, PAGES};
use ipc_proto::fault::Origin;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use rt::Task;
use vmm_mm::policy::Chosen;
use vmm_mm::serve::Pager;
use vmm_mm::task::{self, Machine};

/// Serves.
pub fn main(task: &Task) -> ! {
    let mut machine = Machine::of(task);
    let mut pager = PAGER.lock();
    let policy = Chosen::by_name("demand").expect("vmm-mm has it");
    let shares = task::frames(task, task.info.frames);
    pager.open(task.info.first_pfn, &shares, task.info.guest_physical_bits, policy, &mut machine);
    let wanted = task.entry().option("slots").and_then(|text| text.parse().ok()).expect("the option slots is a number");
    let mut made = false;
    task::serve(&mut pager, &mut machine, |message, pager, machine| {
        // At the guest's first fault: its RAM has its slots by then.
        let fault = message.fault().filter(|fault| !made && fault.origin == Origin::Vcpu)?;
        made = true;
        (0..wanted).for_each(|n| create(pager, machine, usize::from(fault.vm), (n, wanted)));
        None
    })
}

/// Slot `n` of `wanted`; the last one has the pages that are left.
fn create(pager: &mut Pager, machine: &mut Machine, vm: usize, (n, wanted): (u16, u16)) {
    let each = PAGES / u64::from(wanted);
    let before = u64::from(n) * each;
    let slot = Slot {
        id: SlotId(NUMBER + n),
        space: Space::Normal,
        base: Gfn((FIRST >> 12) + before),
        pages: if n + 1 == wanted { PAGES - before } else { each },
        flags: SlotFlags::empty(),
    };
    let reply = pager.control(vm, SlotRequest::Create(slot), machine);
    assert!(matches!(reply, SlotReply::Done), "slot {n}: {reply:?}");
}
