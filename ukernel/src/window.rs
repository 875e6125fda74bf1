//! Windows: the memory of a VM as its server sees it. A page appears there only after the EPT has it, with no more rights
//! than the access needed, and goes with it: what a harvest reports, and what another grant replaces, is gone from the
//! window too. A page that was granted to the guest alone never appears.

use crate::arch::paging::UserPages;
use crate::arch::vmx::ept_entry::traces;
use crate::core::{Context, Core, Next};
use crate::ept::{Format, Tree};
use crate::mend;
use crate::system::System;
use crate::thread::{Question, State};
use crate::vm::Vm;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::call::Cause;
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gpa, Pfn, Rights, SeenBy};
use ipc_proto::layout::{WINDOW, WINDOW_STRIDE};
use ipc_proto::manifest::MAX_VMS;
use ipc_proto::words::Words;

/// The VM and the guest-physical address that a task sees at `address`.
#[must_use]
pub fn at(address: u64) -> Option<(u8, Gpa)> {
    let offset = address.checked_sub(WINDOW)?;
    let vm = offset / WINDOW_STRIDE;
    (vm < MAX_VMS as u64).then_some((vm as u8, Gpa(offset % WINDOW_STRIDE)))
}

/// Where the server of `vm` sees the frame `gfn`, as a page number.
const fn page(vm: u8, gfn: u64) -> u64 {
    ((WINDOW + vm as u64 * WINDOW_STRIDE) >> 12) + gfn
}

/// A page fault of `thread` in its window on `vm`: shown if the EPT has it, asked for otherwise.
pub fn fault(core: &mut Core, thread: u8, vm: u8, gpa: Gpa, access: u32) -> Next {
    // The CPU's log does not see writes of tasks: the pager is always asked for them.
    let logged = core.system.vms[usize::from(vm)].logged.load(Relaxed);
    let tried = mend::tried(access.into());
    if !(logged && tried.contains(Rights::WRITE)) && show(core, thread, vm, gpa, tried) {
        return core.run(Next::Resume(thread));
    }
    let Some(pager) = core.system.vms[usize::from(vm)].pager else {
        let why = format_args!("window access at {:#x}, and no task serves the VM's faults", gpa.0);
        return core.stop(thread, (Cause::Window, gpa.0), why);
    };
    core.threads[usize::from(thread)].state = State::Asking(Question::Window { vm, gpa, access });
    let question = core.question(Context::Thread(thread));
    core.ask(Context::Thread(thread), pager, question)
}

/// A window access as a fault message.
#[must_use]
pub fn message(system: &System, vm: u8, gpa: Gpa, access: u32) -> Words {
    let vm = &system.vms[usize::from(vm)];
    let leaf = system.ept(vm).leaf(gpa.gfn().0);
    let allowed = leaf.map_or(0, |(leaf, _)| u32::from(leaf.rights.bits()));
    Fault {
        vcpu: 0,
        vm: u16::from(vm.id),
        tables_left: vm.tables_left.load(Relaxed) as u16,
        origin: Origin::Window,
        kind: FaultKind::Violation,
        gpa,
        qualification: Qualification::from_bits_retain(access | allowed << 3),
        idt_vectoring: 0,
        mmu_seq: vm.seq(),
        rip: 0,
    }
    .to_words()
}

/// Shows the page at `gpa` in the window for what was `tried`, if it is granted and there are table frames.
pub fn show(core: &Core, thread: u8, vm: u8, gpa: Gpa, tried: Rights) -> bool {
    let system = core.system;
    let vm = &system.vms[usize::from(vm)];
    let gfn = gpa.gfn().0;
    let seen = system.ept(vm).find(gfn, 1);
    let granted = mend::granted(&seen, tried).filter(|leaf| leaf.seen_by == SeenBy::Everyone);
    let Some(leaf) = granted else { return false };
    let space = system.tasks[usize::from(thread)].space;
    let tree = Tree::<UserPages, _>::new(space.root(), &system.memory);
    let page = page(vm.id, gfn);
    let found = tree.find(page, 1);
    let Some(mut tables) = system.frames.take(&mut vm.pool.lock(), u32::from(found.level - 1)) else {
        return false;
    };
    let Some(place) = tree.extend(found, page, 1, || system.frames.next_table(&mut tables)) else {
        return false;
    };
    vm.note_tables();
    mend::give_back(&seen, &leaf, tried);
    seen.table[seen.index].fetch_or(traces(tried), AcqRel);
    let pfn = Pfn(leaf.pfn.0 + gfn % crate::ept::pages(seen.level));
    place.table[place.index].store(UserPages::leaf(pfn, 1, tried | Rights::READ, leaf.mem_type), Relaxed);
    true
}

/// Hides the frames `first..end` of `vm` from its server.
pub fn hide(system: &System, vm: &Vm, first: u64, end: u64) {
    let server = &system.tasks[usize::from(vm.server)];
    let tree = Tree::<UserPages, _>::new(server.space.root(), &system.memory);
    tree.leaves(page(vm.id, first), page(vm.id, end), |_, place, _| {
        place.table[place.index].store(0, Relaxed);
        true
    });
    server.stale.store(true, Relaxed);
}
