//! The dirty log: which pages of a slot were written (KVM's `LOG_DIRTY_PAGES`), by write protection.
//!
//! A page of a logged slot is mapped without write until it is written: the fault notes it and gives the right. Reading
//! the log takes the right away again, one operation of the kernel however many pages, and then the notes.

use crate::level::{BLOCK, block};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, rights};
use crate::store::Note;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotRefused, Space};

/// The first dirty pages of the slot from offset `from` on, which count as clean from now on; `None` when there are none.
///
/// # Errors
/// `NotLogged`, `Kernel`; nothing has changed then.
pub fn get_and_clear<M: Memory + Kernel>(
    vm: usize,
    space: Space,
    slot: &mut MemSlot,
    from: u64,
    machine: &mut M,
) -> Result<Option<DirtyPages>, SlotRefused> {
    if !slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
        return Err(SlotRefused::NotLogged);
    }
    let next = |from, machine: &M| {
        let found = (from < slot.pages()).then(|| slot.tree.next(from, machine, |page| page.has(Note::Dirty)));
        found.flatten().map(|(offset, _)| offset)
    };
    let Some(start) = next(from, machine) else { return Ok(None) };
    let mut pages = DirtyPages { first: start & !63, bits: [0; 16] };
    let (mut offset, mut last) = (start, start);
    while let Some(place) = offset.checked_sub(pages.first).filter(|place| *place < DirtyPages::PAGES) {
        pages.bits[(place / 64) as usize] |= 1 << (place % 64);
        last = offset;
        let Some(dirty) = next(offset + 1, machine) else { break };
        offset = dirty;
    }
    match space {
        Space::Normal => protect(vm, slot, start..=last, machine)?,
        // Never mapped: no fault asks for it.
        Space::Smm => {}
    }
    for offset in start..=last {
        slot.tree.unnote(offset, Note::Dirty, machine);
    }
    Ok(Some(pages))
}

/// Takes the right to write from the pages, and from the rest of their blocks: a large page is not cut, and has no right
/// to write in a logged slot anyway.
fn protect<M: Kernel>(
    vm: usize,
    slot: &MemSlot,
    offsets: core::ops::RangeInclusive<u64>,
    kernel: &mut M,
) -> Result<(), SlotRefused> {
    let base = slot.base().0;
    let first = block(Gfn(base + offsets.start())).0.max(base);
    let end = (block(Gfn(base + offsets.end())).0 + BLOCK).min(base + slot.pages());
    let keep = rights(slot.flags()).difference(Rights::WRITE);
    kernel.protect(vm, Gfn(first), end - first, keep).map_err(SlotRefused::Kernel)?;
    Ok(())
}
