//! Where the first touch of a page finds its block without a slot and its tree: among those of many blocks that were
//! touched last, or as the last one of its slot.

use super::{MAX_SLOTS, MemSlots};
use crate::level::BLOCK;
use crate::machine::Memory;
use crate::pool::Pool;
use crate::store::{Block, Tree};
use ipc_proto::grant::Gfn;

/// Blocks that are remembered, whatever their slot.
pub(super) const HOT: usize = 16;

impl MemSlots {
    /// The block of `gfn`, in the normal space, if its pages can be touched without further thought: a plain slot holds it,
    /// and it is no large page.
    #[inline(always)]
    pub fn block(&mut self, gfn: Gfn, pool: &mut Pool, memory: &mut impl Memory) -> Option<&Block> {
        let place = (gfn.0 / BLOCK) as usize % HOT;
        if self.hot[place].holds(gfn) {
            return Some(&self.hot[place]);
        }
        let place = self.spaces[0].search(gfn) % MAX_SLOTS;
        if !self.spaces[0].blocks[place].holds(gfn) && !self.find_block(gfn, place, pool, memory) {
            return None;
        }
        Some(&self.spaces[0].blocks[place])
    }

    /// Whatever is remembered may not be so any more.
    pub(super) const fn forget_blocks(&mut self) {
        if self.warm {
            self.hot = [Block::NONE; HOT];
            self.warm = false;
        }
    }

    /// Puts the block of `gfn` where it is looked for, `place` is its slot's; false when there is none.
    #[cold]
    #[inline(never)]
    fn find_block(&mut self, gfn: Gfn, place: usize, pool: &mut Pool, memory: &mut impl Memory) -> bool {
        let Some(slot) = self.spaces[0].at(place).filter(|slot| slot.holds(gfn) && slot.is_plain()) else {
            return false;
        };
        let Ok(Some(block)) = Tree::open_block(slot, gfn, pool, memory) else { return false };
        self.hot[(gfn.0 / BLOCK) as usize % HOT] = block;
        self.warm = true;
        self.spaces[0].blocks[place] = block;
        true
    }
}
