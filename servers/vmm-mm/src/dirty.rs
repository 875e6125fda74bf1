//! The dirty log: which pages of a slot were written (KVM's `LOG_DIRTY_PAGES`).
//!
//! The EPT is the record, in one of three [`Way`]s; what it says moves into notes of the slot's pages when it is asked
//! for, or just before it would be lost with a mapping. The three say the same of the same writes.
//!
//! | way | a written page | cost of a write | cost of asking |
//! | --- | --- | --- | --- |
//! | `write-protect` | the CPU may write it | the first after asking is a fault, which the kernel mends if the right was granted before | every leaf is looked at |
//! | `dirty-bits` | its D bit is set | none | every leaf is looked at |
//! | `pml` | the CPU has logged it | an exit for 512 pages | what was written |
//!
//! A logged slot has no large pages: a bit for 512 pages would say that all of them were written.

use crate::change::Left;
use crate::handover::ids;
use crate::harvest::Found;
use crate::machine::{Kernel, LogSwitch, Memory};
use crate::memslot::{MemSlot, MemSlots};
use crate::store::Note;
use crate::tdp::Mmu;
use core::ops::Range;
use ipc_proto::fault::FaultReply;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::memop::{Abilities, HARVEST, Harvest};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotId, SlotRefused, Space};

/// How writes are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The right to write is taken, and the kernel gives it back.
    WriteProtect,
    /// The CPU sets a bit.
    DirtyBits,
    /// The CPU sets a bit and writes the page down: page-modification logging.
    Pml,
}

impl Way {
    /// Their names in the manifest, in the order of the variants.
    pub const NAMES: &'static [&'static str] = &["write-protect", "dirty-bits", "pml"];

    /// The way of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::WriteProtect, Self::DirtyBits, Self::Pml].into_iter().find(|way| way.name() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteProtect => "write-protect",
            Self::DirtyBits => "dirty-bits",
            Self::Pml => "pml",
        }
    }

    /// The best that the CPU has.
    #[must_use]
    pub const fn best(abilities: Abilities) -> Self {
        if Self::Pml.is_had(abilities) {
            Self::Pml
        } else if Self::DirtyBits.is_had(abilities) {
            Self::DirtyBits
        } else {
            Self::WriteProtect
        }
    }

    /// Whether the CPU has it.
    #[must_use]
    pub const fn is_had(self, abilities: Abilities) -> bool {
        match self {
            Self::WriteProtect => true,
            Self::DirtyBits => abilities.contains(Abilities::ACCESSED_DIRTY),
            Self::Pml => abilities.contains(Abilities::LOG.union(Abilities::ACCESSED_DIRTY)),
        }
    }

    /// What tells of the pages of a range.
    const fn mode(self) -> Harvest {
        match self {
            Self::WriteProtect => Harvest::WriteProtect,
            Self::DirtyBits | Self::Pml => Harvest::Dirty,
        }
    }

    /// What tells of them and takes nothing, when their mappings are about to go.
    const fn look(self) -> Harvest {
        match self {
            Self::WriteProtect => Harvest::LookWritable,
            Self::DirtyBits | Self::Pml => Harvest::LookDirty,
        }
    }
}

/// Pages that are harvested first for one answer: if anything was written, it is often near.
const NEAR: u64 = DirtyPages::PAGES;

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// The first dirty pages of the slot from offset `from` on, which count as clean from now on; `None` when there are
    /// none.
    ///
    /// # Errors
    /// `NoSuchSlot`, `NotLogged`, `Kernel`; nothing is forgotten then.
    pub fn dirty_log(
        &mut self,
        slots: &mut MemSlots,
        (space, id): (Space, SlotId),
        from: u64,
    ) -> Result<Option<DirtyPages>, SlotRefused> {
        if !slots.slot_mut(space, id)?.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
            return Err(SlotRefused::NotLogged);
        }
        if self.watch.way == Way::Pml {
            self.take_log(slots)?;
        }
        let slot = slots.slot_mut(space, id)?;
        let Some(start) = self.first_dirty(space, slot, from)? else { return Ok(None) };
        let mut pages = DirtyPages { first: start & !63, bits: [0; 16] };
        let end = (pages.first + DirtyPages::PAGES).min(slot.pages());
        if self.watch.way == Way::Pml && space == Space::Normal {
            // What was written through the window is not in the log, but has its D bit set, and is shown there still.
            self.collect(slot, start..end)?;
        }
        let mut next = start;
        while let Some(offset) = slot.tree.next_noted(next..end, Note::Dirty, self.machine) {
            pages.bits[((offset - pages.first) / 64) as usize] |= 1 << (offset % 64);
            slot.tree.unnote(offset, Note::Dirty, self.machine);
            self.counts.dirty_pages += 1;
            next = offset + 1;
        }
        Ok(Some(pages))
    }

    /// The offset of the first page from `from` on that is noted, once everything up to the end of its answer has been
    /// noted.
    fn first_dirty(&mut self, space: Space, slot: &mut MemSlot, from: u64) -> Result<Option<u64>, SlotRefused> {
        let walks = space == Space::Normal && self.watch.way != Way::Pml;
        if !walks {
            return Ok(slot.tree.next_noted(from..slot.pages(), Note::Dirty, self.machine));
        }
        let (mut known, mut step) = (from, NEAR);
        while known < slot.pages() {
            let end = known.saturating_add(step).min(slot.pages());
            self.collect(slot, known..end)?;
            if let Some(start) = slot.tree.next_noted(known..end, Note::Dirty, self.machine) {
                let told = ((start & !63) + DirtyPages::PAGES).min(slot.pages());
                if told > end {
                    self.collect(slot, end..told)?;
                }
                return Ok(Some(start));
            }
            (known, step) = (end, HARVEST);
        }
        Ok(None)
    }

    /// Notes what the EPT says was written of these pages; it says so no more.
    fn collect(&mut self, slot: &mut MemSlot, offsets: Range<u64>) -> Result<(), SlotRefused> {
        self.note_each(slot, offsets, self.watch.way.mode())
    }

    fn note_each(&mut self, slot: &mut MemSlot, offsets: Range<u64>, mode: Harvest) -> Result<(), SlotRefused> {
        self.harvest_each(slot, offsets, mode, &mut |mmu, slot, Found { offset }| mmu.note_dirty(slot, offset))
    }

    /// The page was written. What is mapped has a node in the tree, so no frame is needed.
    pub fn note_dirty(&mut self, slot: &mut MemSlot, offset: u64) -> Result<(), SlotRefused> {
        slot.tree.note(offset, Note::Dirty, self.pool, self.machine).map_err(|_| SlotRefused::OutOfMemory)
    }

    /// Notes every page that the CPU has logged and whose slot wants to know.
    ///
    /// # Errors
    /// `Kernel`, `OutOfMemory`.
    pub fn take_log(&mut self, slots: &mut MemSlots) -> Result<(), SlotRefused> {
        if self.watch.log == LogSwitch::Off {
            return Ok(());
        }
        let is_old = self.watch.log_is_old;
        if is_old {
            self.note_by_bits(slots)?;
        }
        loop {
            let count = self.machine.harvest(self.vm, Gfn(0), 1, Harvest::Log).map_err(SlotRefused::Kernel)?;
            if count == 0 {
                self.watch.log_is_old = false;
                return Ok(());
            }
            for n in 0..if is_old { 0 } else { count as usize } {
                let gfn = Gfn(self.machine.harvested(n));
                let Some(slot) = slots.lookup(Space::Normal, gfn) else { continue };
                if slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
                    let offset = slot.offset(gfn);
                    self.note_dirty(slot, offset)?;
                }
            }
        }
    }

    /// Each page that the CPU has logged has its D bit set too, or was noted when it went: that is the record where the log's
    /// gfns are not.
    fn note_by_bits(&mut self, slots: &mut MemSlots) -> Result<(), SlotRefused> {
        for id in ids(slots) {
            let slot = slots.slot_mut(Space::Normal, id)?;
            if slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
                self.collect(slot, 0..slot.pages())?;
            }
        }
        Ok(())
    }

    /// The CPU cannot log any more. Without what it has logged, what was written would not be known.
    #[cold]
    pub fn log_full(&mut self, slots: &mut MemSlots) -> FaultReply {
        match self.take_log(slots) {
            Ok(()) => FaultReply::Retry,
            Err(why) => {
                log::error!("vm {}: the log of written pages cannot be taken: {why:?}", self.vm);
                FaultReply::Deny(DenyReason::Internal)
            }
        }
    }

    /// Notes what was written of `count` frames from `first`, which are about to lose their mappings or their right to
    /// be written: in a slot that is logged, what the EPT knows would go with them. Nothing else happens to them here, so
    /// that all of it is one invalidation.
    ///
    /// # Errors
    /// `Kernel`, `OutOfMemory`: then nothing may be taken away.
    pub fn save_dirty(&mut self, slots: &mut MemSlots, first: Gfn, count: u64) -> Result<(), SlotRefused> {
        let Some(slot) = slots.lookup(Space::Normal, first) else { return Ok(()) };
        let offset = slot.offset(first);
        let end = (offset + count).min(slot.pages());
        self.save_dirty_of(slot, offset..end)
    }

    /// The same of pages of one slot, which is one that faults ask for. What the CPU has logged stays logged: to take it
    /// would be an invalidation, of the other slots' pages in it.
    ///
    /// # Errors
    /// As [`Self::save_dirty`].
    pub fn save_dirty_of(&mut self, slot: &mut MemSlot, offsets: Range<u64>) -> Result<(), SlotRefused> {
        if !slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
            return Ok(());
        }
        self.note_each(slot, offsets, self.watch.way.look())
    }

    /// The CPU logs from now on, if that is the way.
    ///
    /// # Errors
    /// `Kernel`.
    pub fn log_for(&mut self, slots: &mut MemSlots) -> Result<(), SlotRefused> {
        if self.watch.way == Way::Pml {
            self.switch_log(LogSwitch::On).map_err(SlotRefused::Kernel)?;
            // What is in the log of pages that nobody asked for is from before.
            self.take_log(slots)?;
        }
        Ok(())
    }

    /// Makes the pages of a slot that is about to be logged clean, and the slot's large pages small: one operation of
    /// the kernel for all of those, one for 16384 small pages. The slot's flags do not say so yet.
    ///
    /// # Errors
    /// `Kernel`; the slot is as before, but for what is mapped of it.
    pub fn begin_log(&mut self, slots: &mut MemSlots, (space, id): (Space, SlotId)) -> Result<Left, SlotRefused> {
        self.log_for(slots)?;
        let (vm, way) = (self.vm, self.watch.way);
        let slot = slots.slot_mut(space, id)?;
        let (base, pages) = (slot.base(), slot.pages());
        if slot.tree.has_large(self.machine) {
            self.machine.unmap(vm, base, pages).map_err(SlotRefused::Kernel)?;
            self.counts.splits += slot.tree.split_all(self.machine);
            return Ok(Left::Nothing);
        }
        self.harvest_each(slot, 0..pages, way.mode(), &mut |_, _, _| Ok(()))?;
        if way != Way::WriteProtect {
            // An answer of before might map a large page.
            self.machine.protect(vm, base, pages, Rights::all()).map_err(SlotRefused::Kernel)?;
        }
        Ok(Left::Mapped)
    }

    /// After a slot has stopped to log, or is gone: without any that does, the CPU need not either.
    pub fn end_log(&mut self, slots: &MemSlots) {
        let logs = slots.iter(Space::Normal).any(|slot| slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES));
        if !logs && let Err(refused) = self.switch_log(LogSwitch::Off) {
            log::warn!("vm {}: the log of written pages stays on: {refused}", self.vm);
        }
    }

    fn switch_log(&mut self, log: LogSwitch) -> Result<(), Refused> {
        if self.watch.log != log {
            self.machine.set_log(self.vm, log)?;
            self.watch.log = log;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
