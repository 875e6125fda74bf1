//! An open block: where the entries of up to 512 neighbouring pages are, so that each page's first touch need not look for
//! its own.

use super::page::{LARGE, Page, SMALL};
use super::{BLOCK, OutOfFrames, Tree, index, open_block};
use crate::machine::Memory;
use crate::memslot::MemSlot;
use crate::pool::Pool;
use ipc_proto::grant::Gfn;

/// A block of small pages of a slot that lies in guest memory as in its tree: those of its pages that are the slot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first page.
    first: Gfn,
    /// How many pages, and where the first one's entry is in the leaf node.
    pages: u32,
    place: u32,
    /// The leaf node.
    leaf: u32,
}

/// Neighbouring pages that have just got neighbouring frames of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The first page.
    pub gfn: Gfn,
    /// The index of its frame.
    pub frame: u32,
    /// How many pages; never 0.
    pub pages: u16,
}

impl Tree {
    /// Opens the block of `gfn`, which the slot holds: its pages have entries of their own from now on. `None` when it is a
    /// large page, and when the slot lies elsewhere in guest memory than it was made for.
    ///
    /// # Errors
    /// [`OutOfFrames`] when no node can be made.
    pub fn open_block(
        slot: &mut MemSlot,
        gfn: Gfn,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<Option<Block>, OutOfFrames> {
        if !slot.is_congruent() {
            return Ok(None);
        }
        let key = slot.tree.key(slot.offset(gfn));
        let leaf = slot.tree.leaf_or_make(key, pool, memory)?;
        let head = index(key, 0) & !(BLOCK - 1);
        if memory.word(leaf, head) & LARGE != 0 {
            return Ok(None);
        }
        open_block(leaf, head, memory);
        let begin = gfn.0 - gfn.0 % BLOCK as u64;
        let first = slot.base().0.max(begin);
        let behind = (slot.base().0 + slot.pages()).min(begin + BLOCK as u64);
        // Both are at most 1024.
        let (pages, place) = ((behind - first) as u32, (head as u64 + first - begin) as u32);
        Ok(Some(Block { first: Gfn(first), pages, place, leaf }))
    }
}

impl Block {
    /// Holds no page.
    pub const NONE: Self = Self { first: Gfn(0), pages: 0, place: 0, leaf: 0 };

    /// Whether it holds `gfn`.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, gfn: Gfn) -> bool {
        gfn.0.wrapping_sub(self.first.0) < self.pages as u64
    }

    /// Whether its pages still have entries of their own.
    #[inline(always)]
    fn is_open(&self, memory: &impl Memory) -> bool {
        memory.word(self.leaf, self.place as usize & BLOCK) & (SMALL | LARGE) == SMALL
    }

    /// Backs page `gfn`, which it holds, with a zeroed frame, and says which. `None` when something is known of the page and
    /// when no frame is left: nothing has been taken then.
    #[inline(always)]
    pub fn touch(&self, gfn: Gfn, pool: &mut Pool, memory: &mut impl Memory) -> Option<u32> {
        let place = (self.place + (gfn.0 - self.first.0) as u32) as usize;
        let entry = memory.word(self.leaf, place);
        if Page(entry).is_known() || !self.is_open(memory) {
            return None;
        }
        let frame = pool.take_zeroed(memory)?;
        let index = frame.index();
        memory.set_word(self.leaf, place, frame.into_entry() | entry);
        Some(index)
    }

    /// As [`Self::touch`], with those of the `around` pages at a multiple of that which lie next to it in the block and of
    /// which nothing is known either, as far as zeroed frames lie in a row.
    #[inline(always)]
    pub fn touch_around(&self, gfn: Gfn, around: u16, pool: &mut Pool, memory: &mut impl Memory) -> Option<Row> {
        if !self.is_open(memory) {
            return None;
        }
        let in_block = gfn.0 as u32 % BLOCK as u32;
        let before = in_block % u32::from(around).max(1);
        let at = (gfn.0 - self.first.0) as u32;
        let first = at.saturating_sub(before);
        let behind = (at + u32::from(around).max(1) - before).min(self.pages);
        let touched = (self.place + at) as usize;
        let (mut place, mut count) = ((self.place + first) as usize, (behind - first) as usize);
        if !memory.is_zero(self.leaf, place, count) {
            (place, count) = unknown(self.leaf, touched, (place, count), memory)?;
        }
        let (frame, pages) = pool.take_zeroed_run(count as u32, memory);
        if pages == 0 {
            return None;
        }
        if (pages as usize) < count {
            // Those from the touched one on, or the last.
            place = touched.min(place + count - pages as usize);
        }
        let mark = memory.word(self.leaf, place) & SMALL;
        memory.set_row(self.leaf, place, pages as usize, frame + 1);
        if mark != 0 {
            memory.set_word(self.leaf, place, (frame + 1) | mark);
        }
        // No more than a block has.
        Some(Row { gfn: Gfn(gfn.0 - (touched - place) as u64), frame, pages: pages as u16 })
    }
}

/// The entries around `place`, among `count` from `first` on, of which nothing is known; `None` when it is known itself.
#[cold]
#[inline(never)]
fn unknown(leaf: u32, place: usize, (first, count): (usize, usize), memory: &impl Memory) -> Option<(usize, usize)> {
    let is_known = |place: usize| Page(memory.word(leaf, place)).is_known();
    if is_known(place) {
        return None;
    }
    let from = (first..place).rev().take_while(|place| !is_known(*place)).last().unwrap_or(place);
    let last = (place..first + count).take_while(|place| !is_known(*place)).last().unwrap_or(place);
    Some((from, last + 1 - from))
}
