//! Frames that several pages of a VM have: copy-on-write, and equal pages made one.
//!
//! A shared frame is mapped without the right to write, at every gfn that has it. The first write to one of them faults,
//! and that page gets a frame of its own; the last page that is left keeps the frame as its own.

use crate::backing::Backing;
use crate::compress::{fingerprint, is_zero};
use crate::machine::{FRAME, Kernel, Memory, PageBytes};
use crate::memslot::{MemSlot, MemSlots};
use crate::pool::{Frame, Pool};
use crate::sparse::Sparse;
use crate::store::{Content, OutOfFrames};
use crate::tdp::Mmu;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{SlotRefused, Space};

/// Fingerprints are cut to this many bits: as many pages are remembered as there are numbers of that length.
const FINGERPRINT: u32 = 17;

/// How many pages have each shared frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pages: Sparse,
    frames: u64,
}

impl Shares {
    /// No frame is shared.
    pub const EMPTY: Self = Self { pages: Sparse::EMPTY, frames: 0 };

    /// Frames that are shared.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// How many pages have the frame.
    #[must_use]
    pub fn pages(&self, frame: u32, memory: &impl Memory) -> u32 {
        self.pages.get(frame, memory)
    }

    /// One more page has the frame.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nothing has changed then.
    pub fn join(&mut self, frame: u32, pool: &mut Pool, memory: &mut impl Memory) -> Result<(), OutOfFrames> {
        let pages = self.pages(frame, memory);
        self.pages.set(frame, pages + 1, pool, memory)?;
        self.frames += u64::from(pages == 0);
        Ok(())
    }

    /// One page less has the frame. Says how many are left.
    pub fn leave(&mut self, frame: u32, pool: &mut Pool, memory: &mut impl Memory) -> u32 {
        let left = self.pages(frame, memory).saturating_sub(1);
        // Its entry is there: no frame is needed.
        let _ = self.pages.set(frame, left, pool, memory);
        self.frames -= u64::from(left == 0);
        left
    }
}

impl Backing {
    /// Page `offset` of the slot does not have the shared frame any more. With the last page it goes back to the pool.
    pub fn leave(
        &mut self,
        vm: usize,
        slot: &MemSlot,
        offset: u64,
        frame: u32,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) {
        if self.shares.leave(frame, pool, memory) == 0 {
            self.no_longer_shared(vm, slot, offset, frame, pool, memory);
            pool.release(Frame::from_index(frame), memory);
        }
    }

    /// Nobody shall find the frame, and share it, any more.
    fn no_longer_shared(
        &mut self,
        vm: usize,
        slot: &MemSlot,
        offset: u64,
        frame: u32,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) {
        let of_vm = &mut self.vms[vm];
        if of_vm.zero == Some(frame) {
            of_vm.zero = None;
        }
        if let Some(image) = slot.image()
            && let Some((pages, key)) = of_vm.images.get_mut(usize::from(image)).zip(u32::try_from(offset).ok())
            && pages.get(key, memory) == frame + 1
        {
            // Its entry is there: no frame is needed.
            let _ = pages.set(key, 0, pool, memory);
        }
    }
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Page `offset`, which has a shared frame, gets one of its own with the same content. It must not be mapped.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nothing has changed then.
    pub fn break_share(&mut self, slot: &mut MemSlot, offset: u64, shared: u32) -> Result<(), OutOfFrames> {
        let Self { vm, pool, backing, machine, .. } = self;
        if backing.shares.pages(shared, *machine) == 1 {
            // The last one: nobody else can see it.
            backing.shares.leave(shared, pool, *machine);
            backing.no_longer_shared(*vm, slot, offset, shared, pool, *machine);
            slot.tree.set(offset, Content::Own(shared), *machine);
        } else {
            let own = pool.take_any(*machine).ok_or(OutOfFrames)?.into_index();
            let mut page = [0; FRAME];
            machine.read(shared, &mut page);
            machine.write(own, &page);
            slot.tree.set(offset, Content::Own(own), *machine);
            backing.leave(*vm, slot, offset, shared, pool, *machine);
        }
        backing.vms[*vm].counts.cow_breaks += 1;
        Ok(())
    }

    /// Page `offset`, which nobody has touched, gets the VM's shared frame of zeros.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nothing has changed then, but for nodes of the tree.
    pub fn share_zero(&mut self, slot: &mut MemSlot, offset: u64) -> Result<(), OutOfFrames> {
        let Self { vm, pool, backing, machine, .. } = self;
        slot.tree.open(offset, pool, *machine)?;
        let zero = match backing.vms[*vm].zero {
            Some(zero) => zero,
            None => pool.take_zeroed(*machine).ok_or(OutOfFrames)?.into_index(),
        };
        if let Err(out) = backing.shares.join(zero, pool, *machine) {
            if backing.vms[*vm].zero.is_none() {
                pool.release(Frame::from_index(zero), *machine);
            }
            return Err(out);
        }
        backing.vms[*vm].zero = Some(zero);
        slot.tree.set(offset, Content::Shared(zero), *machine);
        backing.vms[*vm].counts.zero_shared += 1;
        Ok(())
    }

    /// Looks for a page with the content of the one at `gfn`, which has frame `own` for itself, and lets both have one
    /// frame. Says whether a frame became free.
    pub fn merge(&mut self, slots: &mut MemSlots, gfn: Gfn, own: u32) -> bool {
        let mut page = [0; FRAME];
        self.machine.read(own, &mut page);
        if is_zero(&page) {
            return self.merge_zero(slots, gfn, own);
        }
        let key = fingerprint(&page) >> (u32::BITS - FINGERPRINT);
        let seen = self.backing.vms[self.vm].seen.get(key, self.machine);
        let other = seen.checked_sub(1).map(|other| Gfn(u64::from(other))).filter(|other| *other != gfn);
        if let Some(other) = other
            && let Some(frame) = self.frame_at(slots, other)
            && frame != own
            && self.is_equal(frame, &page)
        {
            return self.make_one(slots, (gfn, own), (other, frame));
        }
        if let Ok(entry) = u32::try_from(gfn.0 + 1) {
            // Without a frame for the entry it is not found, which costs memory, not correctness.
            let _ = self.backing.vms[self.vm].seen.set(key, entry, self.pool, self.machine);
        }
        false
    }

    /// The small frame that the page at `gfn` has.
    fn frame_at(&self, slots: &mut MemSlots, gfn: Gfn) -> Option<u32> {
        let slot = slots.lookup(Space::Normal, gfn)?;
        let page = slot.tree.page(slot.offset(gfn), self.machine);
        if page.is_large() { None } else { page.frame() }
    }

    fn is_equal(&self, frame: u32, page: &PageBytes) -> bool {
        let mut other = [0; FRAME];
        self.machine.read(frame, &mut other);
        other == *page
    }

    fn merge_zero(&mut self, slots: &mut MemSlots, gfn: Gfn, own: u32) -> bool {
        if self.take_away(slots, gfn, 1).is_err() {
            return false;
        }
        let mut page = [0; FRAME];
        self.machine.read(own, &mut page);
        let Some(slot) = slots.lookup(Space::Normal, gfn) else { return false };
        let offset = slot.offset(gfn);
        if !is_zero(&page) || self.share_zero(slot, offset).is_err() {
            return false;
        }
        self.pool.release(Frame::from_index(own), self.machine);
        true
    }

    /// Gives the page at `gfn` the frame of the page at `other`. Neither can be written while they are compared again:
    /// what is equal then stays so.
    fn make_one(&mut self, slots: &mut MemSlots, (gfn, own): (Gfn, u32), (other, frame): (Gfn, u32)) -> bool {
        if self.take_away(slots, gfn, 1).is_err() || self.no_writes(slots, other).is_err() {
            return false;
        }
        let mut page = [0; FRAME];
        self.machine.read(own, &mut page);
        if !self.is_equal(frame, &page) {
            return false;
        }
        let Self { pool, backing, machine, .. } = self;
        if let Some(slot) = slots.lookup(Space::Normal, other) {
            let offset = slot.offset(other);
            if slot.tree.page(offset, *machine).content() == Content::Own(frame) {
                if backing.shares.join(frame, pool, *machine).is_err() {
                    return false;
                }
                slot.tree.set(offset, Content::Shared(frame), *machine);
            }
        }
        if backing.shares.join(frame, pool, *machine).is_err() {
            return false;
        }
        if let Some(slot) = slots.lookup(Space::Normal, gfn) {
            slot.tree.set(slot.offset(gfn), Content::Shared(frame), *machine);
        }
        pool.release(Frame::from_index(own), *machine);
        backing.vms[self.vm].counts.merged += 1;
        true
    }

    /// The guest cannot write the page any more.
    fn no_writes(&mut self, slots: &mut MemSlots, gfn: Gfn) -> Result<(), SlotRefused> {
        self.save_dirty(slots, gfn, 1)?;
        let keep = Rights::READ | Rights::EXECUTE;
        self.machine.protect(self.vm, gfn, 1, keep).map(|_| ()).map_err(SlotRefused::Kernel)
    }
}

#[cfg(test)]
mod tests;
