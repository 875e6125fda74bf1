//! Faults that the ledger already allows: a harvest has taken a right of the CPU's, the granted one is there still. The
//! kernel gives it back and asks nobody. Only rights are added, so nothing needs to be invalidated.

use crate::arch::vmx::ept_entry::{EptFormat, given_back, remembered};
use crate::ept::{Entry, Format, Leaf, Place};
use crate::system::System;
use crate::vm::Vm;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::fault::Qualification;
use ipc_proto::grant::{Gfn, Rights};

/// What a violation tried: bits 2:0 of its qualification are rights.
#[must_use]
pub const fn tried(qualification: u64) -> Rights {
    Rights::from_bits_truncate(qualification as u8)
}

/// Whether the kernel might mend a fault: some right was left to the CPU, or pages are hidden from it.
#[inline(always)]
#[must_use]
pub fn might(vm: &Vm, qualification: u64) -> bool {
    const LEFT: u64 = Qualification::READABLE.union(Qualification::EXECUTABLE).bits() as u64;
    qualification & LEFT != 0 || vm.hides.load(Relaxed)
}

/// Gives `gfn` the rights back that an access needs, if they are granted.
#[must_use]
pub fn mend(system: &System, vm: &Vm, gfn: Gfn, tried: Rights) -> bool {
    let place = system.ept(vm).find(gfn.0, 1);
    // Where the CPU has the rights already, giving them again would mend nothing.
    let lacking = granted(&place, tried).filter(|leaf| !leaf.allowed.contains(tried));
    lacking.inspect(|leaf| give_back(&place, leaf, tried)).is_some()
}

/// The leaf at `place`, if its granted rights allow what was tried.
#[must_use]
pub fn granted(place: &Place<'_>, tried: Rights) -> Option<Leaf> {
    match EptFormat::decode(place.entry, place.level) {
        Entry::Leaf(leaf) if leaf.rights.contains(tried) => Some(leaf),
        Entry::Leaf(_) | Entry::Empty | Entry::Table(_) => None,
    }
}

/// Gives a leaf the rights back that the access needs.
pub fn give_back(place: &Place<'_>, leaf: &Leaf, tried: Rights) {
    place.table[place.index].fetch_or(given_back(leaf, tried), AcqRel);
}

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
