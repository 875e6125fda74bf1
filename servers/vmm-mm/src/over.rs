//! A VM that is over: its server has stopped, and nothing of it will run again.

use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::serve::{Pager, VmMemory};
use crate::tdp::Mmu;
use ipc_proto::slot::Space;

impl Pager {
    /// The server of a VM has stopped, and the VM is over: its slots go, and its frames are free again.
    pub fn vm_ended<M: Memory + Kernel>(&mut self, vm: usize, machine: &mut M) {
        let Self { vms, backing, first_pfn, .. } = self;
        let Some(memory) = vms.get_mut(vm) else { return };
        let VmMemory { pool, slots, stats: counts, mtrrs, watch, .. } = memory;
        let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
        for space in [Space::Normal, Space::Smm] {
            loop {
                let first = slots.iter(space).map(MemSlot::id).next();
                let Some(id) = first else { break };
                if let Err(why) = mmu.delete(slots, (space, id)) {
                    log::error!("vm {vm} is over, and its slot {} does not go: {why:?}", id.0);
                    return;
                }
            }
        }
        watch.mmio.end();
        log::info!("vm {vm} is over: its {} frames are free", pool.left());
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{FakeMachine, WRITE, access, pager_with, slot};
    use ipc_proto::slot::{Slot, SlotFlags, SlotReply, SlotRequest, Space};

    /// The server of the VM has stopped: nothing of it is mapped, and every frame but the kernel's tables is free.
    #[test]
    fn what_a_vm_had_comes_home_when_it_is_over() {
        let mut machine = FakeMachine::default();
        let none = SlotFlags::empty();
        let mut pager = pager_with(2000, &mut machine, &[(1, 0x100, 0x20, none), (2, 0x1000, 8, none)]);
        for gfn in 0x100..0x120 {
            let words = pager.answer(&access(gfn, WRITE), &mut machine);
            machine.install(&words);
        }
        let smm = SlotRequest::Create(Slot { space: Space::Smm, ..slot(3, 0x1000, 8, none) });
        assert_eq!(pager.control(0, smm, &mut machine), SlotReply::Done);
        assert_eq!(machine.ept.len(), 0x20);
        pager.vm_ended(0, &mut machine);
        assert!(machine.ept.is_empty());
        assert_eq!(pager.pool(0).map(crate::pool::Pool::left), Some(2000));
        pager.vm_ended(0, &mut machine);
        pager.vm_ended(usize::MAX, &mut machine);
        assert_eq!(pager.pool(0).map(crate::pool::Pool::left), Some(2000));
    }
}
