//! The whole of a tree that another incarnation has made.

use super::page::{LARGE as LARGE_BIT, Note, Page, SMALL};
use super::{BLOCK, Content, OutOfFrames, SHIFT, Tree, WORDS, new_entry};
use crate::machine::Memory;
use crate::pool::{LARGE, Pool};
use core::ops::Range;

/// What a tree refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A node of its own.
    Node(u32),
    /// So many frames from that one on are a page's own.
    Own(u32, u32),
    /// A frame that other pages may have too.
    Shared(u32),
    /// A place in the compressed store.
    Packed(u32),
}

impl Tree {
    /// The root, and where in a block the first page lies; the root is made if there is none.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn plant(&mut self, pool: &mut Pool, memory: &mut impl Memory) -> Result<(u32, u32), OutOfFrames> {
        if self.root == 0 {
            self.root = new_entry(pool, memory)?;
        }
        Ok((self.root, self.skew))
    }

    /// The tree with that root and skew, of a slot of `pages` pages.
    #[must_use]
    pub const fn planted(root: u32, skew: u32, pages: u64) -> Self {
        Self { root, ..Self::new(skew as u64, pages) }
    }

    /// Visits everything that the tree refers to, nodes before what is below them. What a death may have left behind in the
    /// entries of a large page is cleared; with `written` every page that has content is noted as written. The slot has `pages`
    /// pages: what else is in the nodes is not looked at.
    ///
    /// # Errors
    /// The first of `visit`.
    pub fn walk<M: Memory, E>(
        &mut self,
        pages: u64,
        written: bool,
        memory: &mut M,
        visit: &mut impl FnMut(&mut M, Held) -> Result<(), E>,
    ) -> Result<(), E> {
        self.split = 0;
        let first = self.key(0);
        Walk { keys: first..first + pages, written }.below(self.root, (0, self.top), memory, visit)
    }
}

/// How a tree is walked.
struct Walk {
    /// The slot's pages, as the tree counts them.
    keys: Range<u64>,
    /// Every page that has content is noted as written.
    written: bool,
}

impl Walk {
    /// The node of `entry`, whose first page is `begin`, and what is below it; four levels at most, so the recursion is bounded.
    fn below<M: Memory, E>(
        &self,
        entry: u32,
        (begin, shift): (u64, u32),
        memory: &mut M,
        visit: &mut impl FnMut(&mut M, Held) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(node) = entry.checked_sub(1) else { return Ok(()) };
        visit(memory, Held::Node(node))?;
        // At most `WORDS`.
        let place = |key: u64| (key.saturating_sub(begin) >> shift).min(WORDS as u64) as usize;
        let (mut at, end) = (place(self.keys.start), place(self.keys.end + (1 << shift) - 1));
        if shift == 0 {
            return self.leaf(node, at..end, memory, visit);
        }
        loop {
            at += memory.zeros(node, at, end - at);
            if at == end {
                return Ok(());
            }
            let first = begin + ((at as u64) << shift);
            self.below(memory.word(node, at), (first, shift - SHIFT), memory, visit)?;
            at += 1;
        }
    }

    /// The entries of a leaf node, block by block.
    fn leaf<M: Memory, E>(
        &self,
        node: u32,
        entries: Range<usize>,
        memory: &mut M,
        visit: &mut impl FnMut(&mut M, Held) -> Result<(), E>,
    ) -> Result<(), E> {
        for head in [0, BLOCK] {
            let first = memory.word(node, head);
            if first & LARGE_BIT != 0 {
                if !memory.is_zero(node, head + 1, BLOCK - 1) {
                    (head + 1..head + BLOCK).for_each(|place| memory.set_word(node, place, 0));
                }
                if let Content::Own(frame) = Page(first).content() {
                    visit(memory, Held::Own(frame, LARGE))?;
                }
                continue;
            }
            let mut place = entries.start.max(head);
            let end = entries.end.min(head + BLOCK);
            while place < end {
                let page = Page(memory.word(node, place));
                let (held, count) = match page.content() {
                    Content::Nothing => {
                        place += 1;
                        place += memory.zeros(node, place, end - place);
                        continue;
                    }
                    Content::Own(frame) => {
                        // Neighbours with the same notes, whose frames are neighbours too.
                        let count = 1 + memory.row(node, place + 1, end - place - 1, (page.0 & !SMALL) + 1);
                        (Held::Own(frame, count as u32), count)
                    }
                    Content::Shared(frame) => (Held::Shared(frame), 1),
                    Content::Packed(place) => (Held::Packed(place), 1),
                };
                if self.written {
                    (place..place + count)
                        .for_each(|place| memory.set_word(node, place, memory.word(node, place) | Note::Dirty.bit()));
                }
                visit(memory, held)?;
                place += count;
            }
        }
        Ok(())
    }
}
