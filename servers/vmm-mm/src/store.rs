//! The store: which frame backs which page of a slot.
//!
//! One tree for each slot, of the pager's own frames: a node is one frame with 1024 entries of four bytes, 0 for
//! nothing. One level covers 4 MiB of guest memory, two 4 GiB, three 4 TiB, four 4 PiB. Nodes are made when a page
//! below them is first backed, so a slot costs at most [`Tree::frames_for`] frames beside its own: one in 1024.

use crate::machine::{Memory, WORDS};
use crate::pool::{Frame, Pool};

/// log2 of the entries in a node.
const SHIFT: u32 = WORDS.trailing_zeros();

/// The root of a slot's tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The root node's number, 0 before the first page is backed.
    root: u32,
    /// Shift of the root's index: 0 for a tree of one level, then 10, 20, 30.
    top: u32,
}

/// A page's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backed {
    /// It has just been taken, and is all zeros.
    Fresh(u32),
    /// It was there before.
    Present(u32),
}

impl Backed {
    /// The frame's index among the pager's frames.
    #[inline]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Fresh(index) | Self::Present(index) => index,
        }
    }
}

/// No frame is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl Tree {
    /// The tree of a slot of `pages` pages; takes nothing yet.
    #[must_use]
    pub const fn new(pages: u64) -> Self {
        let mut top = 0;
        while top < 3 * SHIFT && pages > 1 << (top + SHIFT) {
            top += SHIFT;
        }
        Self { root: 0, top }
    }

    /// Frames that a slot of `pages` pages can need: its pages, and the nodes over them.
    #[must_use]
    pub const fn frames_for(pages: u64) -> u64 {
        let mut frames = pages;
        let mut nodes = pages.div_ceil(WORDS as u64);
        while nodes > 1 {
            frames = frames.saturating_add(nodes);
            nodes = nodes.div_ceil(WORDS as u64);
        }
        frames.saturating_add(1)
    }

    /// The frame of page `offset` of the slot, if it has one.
    #[must_use]
    pub fn find(&self, offset: u64, memory: &impl Memory) -> Option<u32> {
        let mut node = self.root;
        let mut shift = self.top;
        loop {
            let entry = memory.word(node.checked_sub(1)?, index(offset, shift));
            if shift == 0 {
                return entry.checked_sub(1);
            }
            node = entry;
            shift -= SHIFT;
        }
    }

    /// The frame of page `offset` of the slot; takes a zeroed one when it has none.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nodes that were made on the way stay, for the next try.
    #[inline]
    pub fn find_or_take(
        &mut self,
        offset: u64,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<Backed, OutOfFrames> {
        if self.root == 0 {
            self.root = new_entry(pool, memory)?;
        }
        let mut node = self.root;
        let mut shift = self.top;
        while shift != 0 {
            let place = index(offset, shift);
            let mut entry = memory.word(node - 1, place);
            if entry == 0 {
                entry = new_entry(pool, memory)?;
                memory.set_word(node - 1, place, entry);
            }
            node = entry;
            shift -= SHIFT;
        }
        let place = index(offset, 0);
        let entry = memory.word(node - 1, place);
        if entry != 0 {
            return Ok(Backed::Present(entry - 1));
        }
        let frame = pool.take_zeroed(memory).ok_or(OutOfFrames)?;
        let backed = Backed::Fresh(frame.index());
        memory.set_word(node - 1, place, frame.into_entry());
        Ok(backed)
    }

    /// Gives every frame back, nodes and all. Nothing of the slot may be mapped any more.
    pub fn clear(&mut self, pool: &mut Pool, memory: &mut impl Memory) {
        drain(core::mem::take(&mut self.root), Some(self.top), pool, memory);
    }
}

#[cold]
#[inline(never)]
fn new_entry(pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
    pool.take_zeroed(memory).map(Frame::into_entry).ok_or(OutOfFrames)
}

/// Gives back the frame of `entry`, and what is below it when it is a node: `shift` is `None` for a page.
/// Four levels at most, so the recursion is bounded.
fn drain(entry: u32, shift: Option<u32>, pool: &mut Pool, memory: &mut impl Memory) {
    let Some(frame) = Frame::from_entry(entry) else { return };
    if let Some(shift) = shift {
        for place in 0..WORDS {
            drain(memory.word(frame.index(), place), shift.checked_sub(SHIFT), pool, memory);
        }
    }
    pool.release(frame, memory);
}

#[inline]
const fn index(offset: u64, shift: u32) -> usize {
    (offset >> shift) as usize % WORDS
}

#[cfg(test)]
mod tests;
