//! Slots are changed while the guest runs: KVM's `kvm_set_memory_region` and `kvm_commit_memory_region`.
//!
//! Each change goes through the same steps: everything is checked; the kernel learns of a new generation; the slot is
//! marked invalid, so that its faults are tried again; what must go is unmapped or protected by one operation of the kernel
//! however many pages (which advances `mmu_seq`, so that no reply on its way can map the old frame); the slot is changed;
//! and only then are frames used again. What the kernel refuses leaves the slot as it was.

use crate::level::{BLOCK, block};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlots, State, check_flags, rights};
use crate::policy::Overcommit;
use crate::pool::Pool;
use crate::store::{Note, OutOfFrames, Tree};
use crate::tdp::Mmu;
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, Space, Tracking};

/// A slot by its number.
pub type Which = (Space, SlotId);

/// Whether a slot has mappings still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It may have.
    Mapped,
    /// All were taken away.
    Nothing,
}

/// What becomes of what the EPT knows of writes, when it is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It is noted of the pages.
    Noted,
    /// It goes with them.
    Forgotten,
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Nothing that the kernel remembers of the slots is true for long.
    fn begin(&mut self) -> Result<(), SlotRefused> {
        self.watch.mmio.begin(self.vm, self.machine).map_err(SlotRefused::Kernel)
    }

    /// A new slot, with frames promised to it unless more are promised than there are.
    ///
    /// # Errors
    /// As [`MemSlots::check_create`], and `OutOfMemory`, `Kernel`.
    pub fn create(&mut self, slots: &mut MemSlots, slot: &Slot, overcommit: Overcommit) -> Result<(), SlotRefused> {
        slots.check_create(slot)?;
        let frames = match overcommit {
            Overcommit::Yes => 0,
            Overcommit::No => Tree::frames_for(slot.base.0, slot.pages),
        };
        if !self.pool.promise(frames) {
            return Err(SlotRefused::OutOfMemory);
        }
        self.try_create(slots, slot, frames).inspect_err(|_| self.pool.unpromise(frames))
    }

    fn try_create(&mut self, slots: &mut MemSlots, slot: &Slot, promised: u64) -> Result<(), SlotRefused> {
        self.begin()?;
        if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) && slot.space == Space::Normal {
            self.log_for(slots)?;
        }
        slots.create(slot)?;
        let made = slots.slot_mut(slot.space, slot.id)?;
        made.promised = promised;
        if let Some(image) = self.backing.images.of(slot.id).filter(|_| slot.space == Space::Normal) {
            made.set_image(image);
        }
        let kept = self.keep(slots, (slot.space, slot.id));
        if kept.is_err() {
            let mut made = slots.remove(slot.space, slot.id)?;
            made.tree.clear(self.pool, self.machine);
        }
        kept
    }

    /// A slot can be kept in another state.
    fn room_to_keep(&mut self) -> Result<(), SlotRefused> {
        let room = self.backing.keeper.make_room(self.pool, self.machine);
        room.map_err(|OutOfFrames| SlotRefused::OutOfMemory)
    }

    /// The next incarnation shall find the slot as it is now.
    fn keep(&mut self, slots: &mut MemSlots, (space, id): Which) -> Result<(), SlotRefused> {
        let slot = slots.slot_mut(space, id)?;
        let kept = self.backing.keeper.put(self.vm, space, slot, self.pool, self.machine);
        kept.map_err(|OutOfFrames| SlotRefused::OutOfMemory)
    }

    /// The slot and its memory are gone.
    ///
    /// # Errors
    /// `NoSuchSlot`, `Kernel`.
    pub fn delete(&mut self, slots: &mut MemSlots, (space, id): Which) -> Result<(), SlotRefused> {
        slots.slot_mut(space, id)?;
        self.begin()?;
        self.zap(slots, (space, id), Written::Forgotten)?;
        let mut slot = slots.remove(space, id)?;
        // Its frames may be anybody's from here on.
        self.backing.keeper.remove(slot.cell, self.machine);
        self.backing.forget(self.vm, &mut slot, self.pool, self.machine);
        slot.tree.clear(self.pool, self.machine);
        self.pool.unpromise(slot.promised);
        self.end_log(slots);
        Ok(())
    }

    /// The slot lies at `base` with all of its memory.
    ///
    /// # Errors
    /// `NoSuchSlot`, `BeyondGuest`, `Overlap`, `Kernel`.
    pub fn relocate(&mut self, slots: &mut MemSlots, (space, id): Which, base: Gfn) -> Result<(), SlotRefused> {
        slots.check_move(space, id, base)?;
        self.room_to_keep()?;
        self.begin()?;
        self.zap(slots, (space, id), Written::Noted)?;
        if slots.slot_mut(space, id)?.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
            self.watch.log_is_old = true;
        }
        slots.relocate(space, id, base)?;
        self.keep(slots, (space, id))?;
        slots.set_state(space, id, State::Valid)
    }

    /// The slot behaves so: fewer rights at once, more with the next fault of each page.
    ///
    /// # Errors
    /// `UnknownFlag`, `NoSuchSlot`, `Kernel`.
    pub fn set_flags(&mut self, slots: &mut MemSlots, (space, id): Which, flags: SlotFlags) -> Result<(), SlotRefused> {
        check_flags(flags)?;
        let before = slots.slot_mut(space, id)?.flags();
        self.room_to_keep()?;
        self.begin()?;
        slots.set_state(space, id, State::Invalid)?;
        let shrunk = self.shrink(slots, (space, id), before, flags);
        if shrunk.is_ok() {
            slots.set_flags(space, id, flags)?;
            self.keep(slots, (space, id))?;
        }
        slots.set_state(space, id, State::Valid)?;
        let lost = before.difference(flags);
        if shrunk.is_ok() && lost.contains(SlotFlags::LOG_DIRTY_PAGES) {
            // So that the next log begins clean.
            slots.slot_mut(space, id)?.tree.forget(Note::Dirty, self.machine);
            self.collapse(slots, (space, id))?;
        }
        self.end_log(slots);
        shrunk
    }

    /// Takes from the slot's mappings what the new flags do not allow.
    fn shrink(
        &mut self,
        slots: &mut MemSlots,
        (space, id): Which,
        before: SlotFlags,
        flags: SlotFlags,
    ) -> Result<(), SlotRefused> {
        let gained = flags.difference(before);
        let turned = flags.symmetric_difference(before);
        if space == Space::Smm {
            return Ok(());
        }
        let slot = slots.slot_mut(space, id)?;
        let (base, pages) = (slot.base(), slot.pages());
        let mut left = Left::Mapped;
        if turned.contains(SlotFlags::PRIVATE) {
            // Who sees a page is granted with it: the guest faults it back.
            self.save_dirty_of(slot, 0..pages)?;
            self.machine.unmap(self.vm, base, pages).map_err(SlotRefused::Kernel)?;
            left = Left::Nothing;
        }
        if gained.contains(SlotFlags::LOG_DIRTY_PAGES) && self.begin_log(slots, (space, id))? == Left::Nothing {
            left = Left::Nothing;
        }
        if left == Left::Mapped && gained.contains(SlotFlags::READONLY) {
            self.save_dirty_of(slots.slot_mut(space, id)?, 0..pages)?;
            self.machine.protect(self.vm, base, pages, rights(flags)).map_err(SlotRefused::Kernel)?;
        }
        Ok(())
    }

    /// Makes large pages again of what a dirty log made small, where the frames still lie so. When the kernel does not
    /// unmap the small ones, they stay: without them gone no large one can be mapped.
    fn collapse(&mut self, slots: &mut MemSlots, (space, id): Which) -> Result<(), SlotRefused> {
        if slots.slot_mut(space, id)?.tree.has_split() && self.zap(slots, (space, id), Written::Noted).is_ok() {
            slots.set_state(space, id, State::Valid)?;
            let pool: &Pool = self.pool;
            let tree = &mut slots.slot_mut(space, id)?.tree;
            self.counts.collapses += tree.collapse(self.machine, |frame| pool.is_aligned(frame));
        }
        Ok(())
    }

    /// Writes to the page are the guest's own from now on, or are not.
    ///
    /// # Errors
    /// `NoSuchSlot`, `OutOfMemory`, `Kernel`.
    pub fn track(&mut self, slots: &mut MemSlots, space: Space, gfn: Gfn, on: Tracking) -> Result<(), SlotRefused> {
        let slot = slots.lookup(space, gfn).ok_or(SlotRefused::NoSuchSlot)?;
        let offset = slot.offset(gfn);
        match on {
            Tracking::Off => slot.tree.unnote(offset, Note::Tracked, self.machine),
            Tracking::On if slot.tree.page(offset, self.machine).has(Note::Tracked) => {}
            Tracking::On => {
                // First, because it can fail; the right is taken before anybody can rely on the note.
                let was_large = slot.tree.page(offset, self.machine).is_large();
                slot.tree.split(offset, self.machine);
                let noted = slot.tree.note(offset, Note::Tracked, self.pool, self.machine);
                noted.map_err(|_| SlotRefused::OutOfMemory)?;
                let taken = match space {
                    Space::Normal => self.take_write(slots, gfn),
                    Space::Smm => Ok(()),
                };
                if let (Err(why), Some(slot)) = (taken, slots.lookup(space, gfn)) {
                    slot.tree.unnote(offset, Note::Tracked, self.machine);
                    if was_large {
                        // It is mapped as one still.
                        slot.tree.make_whole(offset, self.machine);
                    }
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// The guest cannot write the page any more. A large page over it goes away whole.
    fn take_write(&mut self, slots: &mut MemSlots, gfn: Gfn) -> Result<(), SlotRefused> {
        let Some(leaf) = self.machine.mapped(self.vm, gfn) else { return Ok(()) };
        let taken = if leaf.level > Level::Page {
            self.machine.unmap(self.vm, leaf.gfn, leaf.level.frames())
        } else {
            self.save_dirty(slots, gfn, 1)?;
            self.machine.protect(self.vm, gfn, 1, Rights::READ | Rights::EXECUTE)
        };
        taken.map(|_| ()).map_err(SlotRefused::Kernel)
    }

    /// Nothing of any slot is mapped any more, by one operation.
    ///
    /// # Errors
    /// `Kernel`.
    pub fn zap_all(&mut self, slots: &mut MemSlots) -> Result<(), SlotRefused> {
        let all: heapless::Vec<SlotId, { crate::memslot::MAX_SLOTS }> =
            slots.iter(Space::Normal).map(|slot| slot.id()).collect();
        let (mut first, mut end) = (u64::MAX, 0);
        for id in all {
            let slot = slots.slot_mut(Space::Normal, id)?;
            let pages = slot.pages();
            (first, end) = (first.min(slot.base().0), end.max(slot.base().0 + pages));
            self.save_dirty_of(slot, 0..pages)?;
        }
        if first < end {
            self.machine.unmap(self.vm, Gfn(first), end - first).map_err(SlotRefused::Kernel)?;
        }
        Ok(())
    }

    /// Nothing of the slot is mapped any more; it is left invalid, or as it was when the kernel refuses. A slot of the SMM
    /// space is never mapped: no fault asks for it.
    fn zap(&mut self, slots: &mut MemSlots, (space, id): Which, written: Written) -> Result<(), SlotRefused> {
        slots.set_state(space, id, State::Invalid)?;
        let slot = slots.slot_mut(space, id)?;
        let (base, pages) = (slot.base(), slot.pages());
        let done = match space {
            Space::Normal => {
                let noted = match written {
                    Written::Noted => self.save_dirty_of(slot, 0..pages),
                    Written::Forgotten => Ok(()),
                };
                noted.and_then(|()| self.machine.unmap(self.vm, base, pages).map(|_| ()).map_err(SlotRefused::Kernel))
            }
            Space::Smm => Ok(()),
        };
        if done.is_err() {
            slots.set_state(space, id, State::Valid)?;
        } else if space == Space::Normal {
            self.backing.vms[self.vm].used.forget(base, pages, self.machine);
        }
        done
    }

    /// Takes the block at `gfn` away and makes it one large page again, if its frames lie so and nothing is noted of its
    /// pages. Says whether it did.
    pub fn recover_at(&mut self, slots: &mut MemSlots, gfn: Gfn) -> bool {
        let first = block(gfn);
        let Some(slot) = slots.lookup(Space::Normal, gfn) else { return false };
        let logged = slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES);
        if logged || !slot.holds_block(first) || !self.mtrrs.is_uniform(first, BLOCK) {
            return false;
        }
        let offset = slot.offset(first);
        let pool: &Pool = self.pool;
        if !slot.tree.can_be_whole(offset, self.machine, |frame| pool.is_aligned(frame))
            || self.machine.unmap(self.vm, first, BLOCK).is_err()
        {
            return false;
        }
        slot.tree.make_whole(offset, self.machine);
        self.counts.collapses += 1;
        true
    }
}

#[cfg(test)]
mod tests;
