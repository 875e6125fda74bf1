//! The store: which frame backs which page of a slot, and what is noted of the page.
//!
//! One tree for each slot, of the pager's own frames: a node is one frame with 1024 entries of four bytes, 0 for
//! nothing; those of a leaf node are [`Page`]s. One level covers 4 MiB of guest memory, two 4 GiB, three 4 TiB, four
//! 4 PiB. Nodes are made when a page below them is first backed, so a slot costs at most [`Tree::frames_for`] frames
//! beside its own: one in 1024. A leaf node has two *blocks* of 512 pages, each of which can be one large page.

mod block;
mod large;
mod page;
mod scan;
mod walk;

pub use block::{Block, Row};
pub use page::{Content, MAX_FRAMES, Note, Page};
pub use scan::{Stiff, Used};
pub use walk::Held;

use crate::keep::settled;
use crate::machine::{Memory, WORDS};
use crate::pool::{Frame, LargeFrame, Pool};
use page::{INDEX, LARGE, SMALL};

/// log2 of the entries in a node.
const SHIFT: u32 = WORDS.trailing_zeros();
/// Pages in a block.
const BLOCK: usize = 512;

/// The root of a slot's tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The root node's number, 0 before the first page is backed.
    root: u32,
    /// Shift of the root's index: 0 for a tree of one level, then 10, 20, 30.
    top: u32,
    /// Where in a block the slot's first page lies.
    skew: u32,
    /// Large pages that were split, and may be made whole.
    split: u32,
}

/// A page's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backed {
    /// It has just been taken, and is all zeros.
    Fresh(u32),
    /// It was there before, or something is noted of the page.
    Known(Page),
}

/// No frame is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl Tree {
    /// The tree of a slot of `pages` pages from gfn `base` on; takes nothing yet.
    #[must_use]
    pub const fn new(base: u64, pages: u64) -> Self {
        let skew = base % BLOCK as u64;
        let mut top = 0;
        while top < 3 * SHIFT && pages.saturating_add(skew) > 1 << (top + SHIFT) {
            top += SHIFT;
        }
        Self { root: 0, top, skew: skew as u32, split: 0 }
    }

    /// Frames that a slot of `pages` pages from gfn `base` on can need: its pages, and the nodes over them.
    #[must_use]
    pub const fn frames_for(base: u64, pages: u64) -> u64 {
        let mut frames = pages;
        let mut nodes = pages.saturating_add(base % BLOCK as u64).div_ceil(WORDS as u64);
        while nodes > 1 {
            frames = frames.saturating_add(nodes);
            nodes = nodes.div_ceil(WORDS as u64);
        }
        frames.saturating_add(1)
    }

    /// Where in a block the slot's first page lies: only while the slot lies so in guest memory too can its blocks be
    /// large pages.
    #[must_use]
    pub const fn skew(&self) -> u64 {
        self.skew as u64
    }

    /// Whether the tree reaches so far.
    const fn has_key(&self, key: u64) -> bool {
        key >> self.top >> SHIFT == 0
    }

    #[inline]
    const fn key(&self, offset: u64) -> u64 {
        offset + self.skew as u64
    }

    /// What is known of page `offset` of the slot.
    #[must_use]
    pub fn page(&self, offset: u64, memory: &impl Memory) -> Page {
        let key = self.key(offset);
        self.leaf(key, memory).map_or(Page::NONE, |leaf| page_in(leaf, index(key, 0), memory))
    }

    /// The leaf node over `key`.
    fn leaf(&self, key: u64, memory: &impl Memory) -> Option<u32> {
        let mut node = self.root.checked_sub(1)?;
        let mut shift = self.top;
        while shift != 0 {
            node = memory.word(node, index(key, shift)).checked_sub(1)?;
            shift -= SHIFT;
        }
        Some(node)
    }

    /// The leaf node over `key`; nodes on the way are made, and stay when a further one cannot be.
    #[inline]
    fn leaf_or_make(&mut self, key: u64, pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
        if self.root == 0 {
            self.root = new_entry(pool, memory)?;
        }
        let mut node = self.root;
        let mut shift = self.top;
        while shift != 0 {
            let place = index(key, shift);
            let mut entry = memory.word(node - 1, place);
            if entry == 0 {
                entry = new_entry(pool, memory)?;
                memory.set_word(node - 1, place, entry);
            }
            node = entry;
            shift -= SHIFT;
        }
        Ok(node - 1)
    }

    /// The frame of page `offset` of the slot; takes a zeroed one when nothing is known of the page.
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
        let key = self.key(offset);
        let leaf = self.leaf_or_make(key, pool, memory)?;
        let place = index(key, 0);
        let entry = memory.word(leaf, place);
        if Page(entry).is_known() {
            return Ok(Backed::Known(page_in(leaf, place, memory)));
        }
        let mut block = 0;
        if memory.word(leaf, place & !(BLOCK - 1)) & (SMALL | LARGE) != SMALL {
            if memory.word(leaf, place & !(BLOCK - 1)) & LARGE != 0 {
                return Ok(Backed::Known(page_in(leaf, place, memory)));
            }
            block = open_block(leaf, place, memory);
        }
        let frame = pool.take_zeroed(memory).ok_or(OutOfFrames)?;
        let backed = Backed::Fresh(frame.index());
        memory.set_word(leaf, place, frame.into_entry() | entry | block);
        Ok(backed)
    }

    /// Page `offset` with a frame: its own, or a zeroed one.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn back(&mut self, offset: u64, pool: &mut Pool, memory: &mut impl Memory) -> Result<Page, OutOfFrames> {
        match self.find_or_take(offset, pool, memory)? {
            Backed::Known(page) if page.content() == Content::Nothing => {
                let frame = pool.take_zeroed(memory).ok_or(OutOfFrames)?;
                self.set(offset, Content::Own(frame.into_index()), memory);
                Ok(self.page(offset, memory))
            }
            Backed::Known(page) => Ok(page),
            Backed::Fresh(_) => Ok(self.page(offset, memory)),
        }
    }

    /// The content of page `offset` is elsewhere now; what was there is the caller's. The page has an entry: it is known,
    /// or [`Self::open`] has made one. Of a large page nothing changes.
    pub fn set(&mut self, offset: u64, content: Content, memory: &mut impl Memory) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        let place = index(key, 0);
        let page = Page(memory.word(leaf, place));
        if !page_in(leaf, place, memory).is_large() {
            // The content is there before the entry says so, and before what it said before is anybody else's.
            settled();
            memory.set_word(leaf, place, page.with(content).0);
            settled();
        }
    }

    /// Makes an entry for page `offset`.
    ///
    /// # Errors
    /// [`OutOfFrames`] when no node can be made.
    pub fn open(&mut self, offset: u64, pool: &mut Pool, memory: &mut impl Memory) -> Result<(), OutOfFrames> {
        let key = self.key(offset);
        let leaf = self.leaf_or_make(key, pool, memory)?;
        let place = index(key, 0);
        if memory.word(leaf, place & !(BLOCK - 1)) & LARGE == 0 {
            open_block(leaf, place, memory);
        }
        Ok(())
    }

    /// Notes something of page `offset`; a large page must have been split.
    ///
    /// # Errors
    /// [`OutOfFrames`] when nothing was known of the page and no node can be made.
    pub fn note(
        &mut self,
        offset: u64,
        note: Note,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<(), OutOfFrames> {
        let key = self.key(offset);
        let leaf = self.leaf_or_make(key, pool, memory)?;
        let place = index(key, 0);
        open_block(leaf, place, memory);
        memory.set_word(leaf, place, memory.word(leaf, place) | note.bit());
        Ok(())
    }

    /// Takes the note off page `offset`.
    pub fn unnote(&mut self, offset: u64, note: Note, memory: &mut impl Memory) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        memory.set_word(leaf, index(key, 0), memory.word(leaf, index(key, 0)) & !note.bit());
    }

    /// The first page from `from` on that is `wanted`, and its offset. Of a large page, only the first is looked at.
    #[must_use]
    pub fn next(&self, from: u64, memory: &impl Memory, wanted: impl Fn(Page) -> bool) -> Option<(u64, Page)> {
        let mut key = self.key(from);
        while key >> self.top >> SHIFT == 0 {
            let Some(leaf) = self.leaf(key, memory) else {
                key = (key | (WORDS as u64 - 1)) + 1;
                continue;
            };
            for place in index(key, 0)..WORDS {
                let page = Page(memory.word(leaf, place));
                if page.is_known() && wanted(page) {
                    let found = key & !(WORDS as u64 - 1) | place as u64;
                    return Some((found - u64::from(self.skew), page));
                }
            }
            key = (key | (WORDS as u64 - 1)) + 1;
        }
        None
    }

    /// Gives every frame back, nodes and all. Nothing of the slot may be mapped any more.
    pub fn clear(&mut self, pool: &mut Pool, memory: &mut impl Memory) {
        drain(core::mem::take(&mut self.root), self.top, pool, memory);
    }
}

/// The page at entry `place` of a leaf node, which may be a part of a large page.
fn page_in(leaf: u32, place: usize, memory: &impl Memory) -> Page {
    let head = memory.word(leaf, place & !(BLOCK - 1));
    if head & LARGE == 0 {
        return Page(memory.word(leaf, place) & !SMALL);
    }
    Page(LARGE | ((head & INDEX) + (place % BLOCK) as u32))
}

/// From now on the pages of the block have entries of their own. Hands back the mark, if `place` is where it belongs.
#[cold]
#[inline(never)]
fn open_block(leaf: u32, place: usize, memory: &mut impl Memory) -> u32 {
    let head = place & !(BLOCK - 1);
    memory.set_word(leaf, head, memory.word(leaf, head) | SMALL);
    if head == place { SMALL } else { 0 }
}

#[cold]
#[inline(never)]
fn new_entry(pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
    pool.take_zeroed(memory).map(Frame::into_entry).ok_or(OutOfFrames)
}

/// Gives back the node of `entry` and what is below it; four levels at most, so the recursion is bounded.
fn drain(entry: u32, shift: u32, pool: &mut Pool, memory: &mut impl Memory) {
    let Some(node) = Frame::from_entry(entry) else { return };
    for place in 0..WORDS {
        let below = memory.word(node.index(), place);
        match shift.checked_sub(SHIFT) {
            Some(shift) => drain(below, shift, pool, memory),
            None => release(Page(below), pool, memory),
        }
    }
    pool.release(node, memory);
}

fn release(page: Page, pool: &mut Pool, memory: &mut impl Memory) {
    let Some(frame) = page.owned() else { return };
    if page.is_large() {
        pool.release_large(LargeFrame::of(frame), memory);
    } else {
        pool.release(frame, memory);
    }
}

#[inline]
const fn index(key: u64, shift: u32) -> usize {
    (key >> shift) as usize % WORDS
}

#[cfg(test)]
mod tests;
