//! Blocks of 512 pages: as one large page, and as pages of their own.

use super::page::{INDEX, LARGE, Note, Page, SMALL};
use super::{BLOCK, OutOfFrames, Tree, index};
use crate::keep::settled;
use crate::machine::Memory;
use crate::pool::{Frame, LargeFrame, Pool};

impl Tree {
    /// Whether nothing was ever said of a page in the block of page `offset`, so that one large page can back it.
    #[must_use]
    pub fn block_is_empty(&self, offset: u64, memory: &impl Memory) -> bool {
        let key = self.key(offset);
        self.leaf(key, memory).is_none_or(|leaf| memory.word(leaf, index(key, 0) & !(BLOCK - 1)) == 0)
    }

    /// Backs the block of page `offset`, which is empty, with one large page.
    ///
    /// # Errors
    /// [`OutOfFrames`] without a frame for a node; the large page has gone back to the pool.
    pub fn set_large(
        &mut self,
        offset: u64,
        frame: LargeFrame,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<(), OutOfFrames> {
        let first = frame.index();
        self.hold_large(offset, frame, pool, memory)
            .inspect_err(|OutOfFrames| pool.release_large(LargeFrame::of(Frame::from_index(first)), memory))
    }

    /// The block of page `offset`, which is empty, has had that large page, and keeps it.
    ///
    /// # Errors
    /// [`OutOfFrames`] without a frame for a node; the large page is nobody's then.
    pub fn hold_large(
        &mut self,
        offset: u64,
        frame: LargeFrame,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<(), OutOfFrames> {
        let key = self.key(offset);
        let leaf = self.leaf_or_make(key, pool, memory)?;
        memory.set_word(leaf, index(key, 0) & !(BLOCK - 1), frame.into_entry() | LARGE);
        Ok(())
    }

    /// Gives the pages of a large page entries of their own. They keep their frames. Nothing happens to other blocks.
    pub fn split(&mut self, offset: u64, memory: &mut impl Memory) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        let first = index(key, 0) & !(BLOCK - 1);
        let head = memory.word(leaf, first);
        if head & LARGE == 0 {
            return;
        }
        // The first entry last: as long as it says that the page is large, the others mean nothing.
        for (n, place) in (first..first + BLOCK).enumerate().skip(1) {
            memory.set_word(leaf, place, (head & INDEX) + n as u32);
        }
        settled();
        memory.set_word(leaf, first, head & INDEX | SMALL);
        self.split += 1;
    }

    /// Whether a large page was split since the last collapse.
    #[must_use]
    pub const fn has_split(&self) -> bool {
        self.split != 0
    }

    /// Makes large pages again of blocks whose frames still lie as one (in a row, from a frame that `aligned` accepts)
    /// and of whose pages nothing is noted. Says how many.
    pub fn collapse(&mut self, memory: &mut impl Memory, aligned: impl Fn(u32) -> bool) -> u64 {
        let mut collapsed = 0;
        let mut from = 0;
        while let Some((offset, _)) = self.next(from, memory, Page::is_known) {
            from = (self.key(offset) | (BLOCK as u64 - 1)) + 1 - u64::from(self.skew);
            if self.can_be_whole(offset, memory, &aligned) {
                self.make_whole(offset, memory);
                collapsed += 1;
            }
        }
        self.split = 0;
        collapsed
    }

    /// Whether the block of page `offset` is small, its frames lie as one (in a row, from a frame that `aligned` accepts),
    /// and nothing is noted of its pages.
    #[must_use]
    pub fn can_be_whole(&self, offset: u64, memory: &impl Memory, aligned: impl Fn(u32) -> bool) -> bool {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return false };
        lies_as_one(leaf, index(key, 0) & !(BLOCK - 1), memory).is_some_and(aligned)
    }

    /// Makes the block of page `offset`, which can be whole, one large page.
    pub fn make_whole(&mut self, offset: u64, memory: &mut impl Memory) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        let first = index(key, 0) & !(BLOCK - 1);
        let head = memory.word(leaf, first) & INDEX;
        memory.set_word(leaf, first, head | LARGE);
        settled();
        (first + 1..first + BLOCK).for_each(|place| memory.set_word(leaf, place, 0));
        self.split = self.split.saturating_sub(1);
    }

    /// How many large pages were split and not made whole again.
    #[must_use]
    pub const fn splits(&self) -> u64 {
        self.split as u64
    }

    /// The first page of the first block from page `from` on that has small pages.
    #[must_use]
    pub fn next_small(&self, from: u64, memory: &impl Memory) -> Option<u64> {
        self.next(from, memory, |page| page.is_known() && !page.is_large()).map(|(offset, _)| offset)
    }

    /// Takes the note off every page of the slot.
    pub fn forget(&mut self, note: Note, memory: &mut impl Memory) {
        let mut from = 0;
        while let Some((offset, _)) = self.next(from, memory, |page| page.has(note)) {
            self.unnote(offset, note, memory);
            from = offset + 1;
        }
    }
}

/// The first frame of the block at entry `first` of a leaf node, if its frames lie in a row and nothing is noted.
fn lies_as_one(leaf: u32, first: usize, memory: &impl Memory) -> Option<u32> {
    let head = memory.word(leaf, first);
    let in_a_row = |n: usize| memory.word(leaf, first + n) == (head & INDEX) + n as u32;
    let frame = Page(head).frame()?;
    (head & !INDEX == SMALL && (1..BLOCK).all(in_a_row)).then_some(frame)
}
