//! What the kernel harvests of a slot, page by page.

use crate::level::{BLOCK, block};
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::tdp::Mmu;
use core::ops::Range;
use ipc_proto::grant::Gfn;
use ipc_proto::memop::{HARVEST, Harvest};
use ipc_proto::slot::SlotRefused;

/// A page that a harvest reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its offset in the slot, in pages.
    pub offset: u64,
}

/// What is done with one.
pub type Each<'e, 'm, M> = dyn FnMut(&mut Mmu<'m, M>, &mut MemSlot, Found) -> Result<(), SlotRefused> + 'e;

impl<'m, M: Memory + Kernel> Mmu<'m, M> {
    /// Harvests these pages of a slot that faults ask for, and does `each` with every page that is reported. A harvest
    /// takes the bit of a large page whole, so pieces end where blocks do.
    ///
    /// # Errors
    /// `Kernel`, and what `each` says.
    pub fn harvest_each(
        &mut self,
        slot: &mut MemSlot,
        offsets: Range<u64>,
        mode: Harvest,
        each: &mut Each<'_, 'm, M>,
    ) -> Result<(), SlotRefused> {
        let base = slot.base().0;
        let (mut first, end) = (base + offsets.start, base + offsets.end);
        while first < end {
            let piece = block(Gfn(first + HARVEST)).0.min(end).max(first + 1);
            let found = self.machine.harvest(self.vm, Gfn(first), piece - first, mode).map_err(SlotRefused::Kernel)?;
            let words = if found == 0 { 0 } else { (piece - first).div_ceil(64) };
            for word in 0..words {
                let mut bits = self.machine.harvested(word as usize);
                while bits != 0 {
                    let gfn = first + word * 64 + u64::from(bits.trailing_zeros());
                    bits &= bits - 1;
                    each(self, slot, Found { offset: gfn - base })?;
                }
            }
            first = piece;
        }
        Ok(())
    }
}

/// Pages in a harvest's piece, at least: a block less than what the kernel takes.
const _: () = assert!(HARVEST > BLOCK);
