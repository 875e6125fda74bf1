//! Idle pages: which pages of a slot nobody has used since they were last asked for (Linux's idle page tracking).
//!
//! The CPU's A bits tell, or, where it has none, the rights that the kernel gave back at the next use. A harvest takes
//! the bit of a large page whole, so a large page is noted as used until all of its pages have been told of. What the policy
//! has harvested since is noted in [`crate::seen`], and so is what it has not seen for the harvest here.

use crate::dirty::Way;
use crate::harvest::Found;
use crate::level::{BLOCK, GIGABYTE};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots};
use crate::seen::Reader;
use crate::store::Used;
use crate::tdp::Mmu;
use core::ops::Range;
use ipc_proto::grant::{Gfn, Level};
use ipc_proto::memop::{Abilities, Harvest};
use ipc_proto::slot::{IdlePages, SlotId, SlotRefused, Space};

/// Bits of one answer.
type Bits = [u64; 16];

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// The first idle pages of the slot from offset `from` on; what they and the pages before them did begins anew. `None`
    /// when there are none.
    ///
    /// # Errors
    /// `NoSuchSlot`, `Kernel`.
    pub fn idle_pages(
        &mut self,
        slots: &mut MemSlots,
        (space, id): (Space, SlotId),
        from: u64,
    ) -> Result<Option<IdlePages>, SlotRefused> {
        let slot = slots.slot_mut(space, id)?;
        let mut first = from;
        while first < slot.pages() {
            let told = first..(first + IdlePages::PAGES).min(slot.pages());
            let used = match space {
                Space::Normal => self.used(slot, told.clone())?,
                // Never mapped, never used.
                Space::Smm => [0; 16],
            };
            let bits = self.idle(slot, told.clone(), &used);
            if bits != [0; 16] {
                return Ok(Some(IdlePages { first, bits }));
            }
            first = told.end;
        }
        Ok(None)
    }

    /// Which small pages of the range were used. Large ones are noted.
    fn used(&mut self, slot: &mut MemSlot, told: Range<u64>) -> Result<Bits, SlotRefused> {
        let cpu = self.watch.cpu.abilities;
        let mode = if cpu.contains(Abilities::ACCESSED_DIRTY) { Harvest::Accessed } else { Harvest::Hide };
        if mode == Harvest::Hide && self.watch.way == Way::WriteProtect {
            // The right to write is what tells of writes.
            self.save_dirty_of(slot, told.clone())?;
        }
        let mut used = [0; 16];
        let (first, told_pages) = (told.start, told.end - told.start);
        self.harvest_each(slot, told, mode, &mut |mmu, slot, Found { offset }| {
            if slot.tree.page(offset, mmu.machine).is_large() {
                mmu.large_was_used(slot, offset);
            } else {
                let place = offset - first;
                used[(place / 64) as usize] |= 1 << (place % 64);
            }
            let gfn = Gfn(slot.base().0 + offset);
            mmu.backing.vms[mmu.vm].used.note(Reader::Policy, gfn, mmu.machine);
            Ok(())
        })?;
        let Self { vm, backing, machine, .. } = self;
        let base = slot.base().0;
        backing.vms[*vm].used.take(Reader::IdleMap, (Gfn(base + first), told_pages), *machine, |gfn| {
            let place = gfn.0 - base - first;
            used[(place / 64) as usize] |= 1 << (place % 64);
        });
        Ok(used)
    }

    /// Notes a large page as used, and with it every other that is mapped as one with it.
    pub fn large_was_used(&mut self, slot: &mut MemSlot, offset: u64) {
        if slot.tree.is_used(offset, self.machine) {
            return;
        }
        let gfn = Gfn(slot.base().0 + offset);
        let (mut first, mut count) = (offset, 1);
        if let Some(leaf) = self.machine.mapped(self.vm, gfn)
            && leaf.level == Level::Huge
        {
            (first, count) = (slot.offset(leaf.gfn), GIGABYTE / BLOCK);
        }
        for n in 0..count {
            slot.tree.set_used(first + n * BLOCK, Used::Yes, self.machine);
        }
    }

    /// Which pages of the range have memory and were not used. A large page whose last page is told of begins anew.
    fn idle(&mut self, slot: &mut MemSlot, told: Range<u64>, used: &Bits) -> Bits {
        let mut bits = [0; 16];
        for (place, offset) in told.clone().enumerate() {
            let page = slot.tree.page(offset, self.machine);
            let was_used = if page.is_large() {
                slot.tree.is_used(offset, self.machine)
            } else {
                used[place / 64] >> (place % 64) & 1 == 1
            };
            if page.frame().is_some() && !was_used {
                bits[place / 64] |= 1 << (place % 64);
            }
            // Of the tree's block: a slot that has moved may lie across those of the guest.
            let is_last = (slot.tree.skew() + offset + 1).is_multiple_of(BLOCK);
            if page.is_large() && is_last {
                slot.tree.set_used(offset, Used::No, self.machine);
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests;
