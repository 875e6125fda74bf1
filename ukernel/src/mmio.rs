//! Answers `Mmio` that are remembered: an EPT entry that no mapping has (writable, not readable) brings each access of its page
//! to the VM's server without a message to the pager, for as long as the VM's memory slots are as they were.

use crate::arch::vmx::ept_entry::{EptFormat, remembered};
use crate::ept::{Entry, Format};
use crate::system::System;
use crate::vm::Vm;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::grant::Gfn;

/// Whether the pager has answered for the page of `gfn` that the VM's server emulates its accesses, and the VM's slots are
/// as they were.
#[must_use]
pub fn is_remembered(system: &System, vm: &Vm, gfn: Gfn) -> bool {
    let place = system.ept(vm).find(gfn.0, 1);
    let generation = vm.generation.load(Relaxed);
    generation != 0 && place.level == 1 && place.entry == remembered(generation)
}

/// Remembers that, if there are tables for it and `generation` is that of the VM's slots.
pub fn remember(system: &System, vm: &Vm, gfn: Gfn, generation: u64) {
    if generation == 0 || generation != vm.generation.load(Relaxed) || gfn.0 >= vm.frames() {
        return;
    }
    let ept = system.ept(vm);
    let found = ept.find(gfn.0, 1);
    if EptFormat::decode(found.entry, found.level) != Entry::Empty {
        return;
    }
    let Some(mut tables) = system.frames.take(&mut vm.pool.lock(), u32::from(found.level - 1)) else { return };
    vm.note_tables();
    if let Some(place) = ept.extend(found, gfn.0, 1, || system.frames.next_table(&mut tables)) {
        // Whoever was quicker has mapped the page.
        let _ = place.table[place.index].compare_exchange(place.entry, remembered(generation), AcqRel, Relaxed);
    }
}
