//! Faults that the ledger already allows: a harvest has taken a right of the CPU's, the granted one is there still. The
//! kernel gives it back and asks nobody. Only rights are added, so nothing needs to be invalidated.

use crate::arch::vmx::ept_entry::{EptFormat, given_back};
use crate::ept::{Entry, Format, Leaf, Place};
use crate::vm::Vm;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::fault::Qualification;
use ipc_proto::grant::Rights;

/// What a violation tried: bits 2:0 of its qualification are rights.
#[must_use]
pub const fn tried(qualification: u64) -> Rights {
    Rights::from_bits_truncate(qualification as u8)
}

/// The bits of a violation's qualification that say that some right was left to the CPU.
pub const LEFT: u64 = Qualification::READABLE.union(Qualification::EXECUTABLE).bits() as u64;

/// Whether the kernel might mend a fault: some right was left to the CPU, or pages are hidden from it.
#[must_use]
pub fn might(vm: &Vm, qualification: u64) -> bool {
    qualification & LEFT != 0 || vm.hides.load(Relaxed)
}

/// Gives the leaf at `place` the rights back that an access needs, if they are granted. Where the CPU has them already,
/// giving them again would mend nothing.
#[inline(always)]
#[must_use]
pub fn mend(place: &Place<'_>, tried: Rights) -> bool {
    let lacking = granted(place, tried).filter(|leaf| !leaf.allowed.contains(tried));
    lacking.inspect(|leaf| give_back(place, leaf, tried)).is_some()
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
