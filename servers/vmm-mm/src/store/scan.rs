//! Looking through a slot's pages.

use super::page::{Content, INDEX, LARGE, Note, Page, STIFF, USED};
use super::{BLOCK, Tree, index, page_in};
use crate::level::GIGABYTE;
use crate::machine::{Memory, WORDS};
use core::ops::Range;

impl Tree {
    /// The first page of the range of which that is noted.
    #[must_use]
    pub fn next_noted(&self, offsets: Range<u64>, note: Note, memory: &impl Memory) -> Option<u64> {
        let (mut key, end) = (self.key(offsets.start), self.key(offsets.end));
        while key < end {
            let next = ((key | (WORDS as u64 - 1)) + 1).min(end);
            if let Some(leaf) = self.leaf(key, memory) {
                let noted = |key: &u64| {
                    let page = Page(memory.word(leaf, index(*key, 0)));
                    page.has(note) && !page.is_large()
                };
                if let Some(found) = (key..next).find(noted) {
                    return Some(found - self.skew());
                }
            }
            key = next;
        }
        None
    }

    /// Which of up to 512 pages from `offset` on have a frame of their own, by their distance from it. They lie in one block.
    pub fn own(&self, offset: u64, pages: u64, stiff: Stiff, memory: &impl Memory, mut each: impl FnMut(usize)) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        let first = index(key, 0);
        let large = memory.word(leaf, first & !(BLOCK - 1)) & LARGE != 0;
        for n in 0..pages as usize {
            let page = Page(memory.word(leaf, first + n));
            let wanted = matches!(page.content(), Content::Own(_)) && (stiff == Stiff::Too || !page.is_stiff());
            if large || wanted {
                each(n);
            }
        }
    }

    /// The content of page `offset` does not become smaller. Nothing is noted of one without a small frame of its own.
    pub fn set_stiff(&mut self, offset: u64, memory: &mut impl Memory) {
        let key = self.key(offset);
        let Some(leaf) = self.leaf(key, memory) else { return };
        let page = page_in(leaf, index(key, 0), memory);
        if matches!(page.content(), Content::Own(_)) && !page.is_large() {
            memory.set_word(leaf, index(key, 0), memory.word(leaf, index(key, 0)) | STIFF);
        }
    }

    /// The first page of each block that is one large page, from offset `from` on.
    #[must_use]
    pub fn next_large(&self, from: u64, memory: &impl Memory) -> Option<u64> {
        let block = BLOCK as u64;
        let mut key = self.key(from).next_multiple_of(block);
        while self.has_key(key) {
            match self.leaf(key, memory) {
                Some(leaf) if memory.word(leaf, index(key, 0)) & LARGE != 0 => return Some(key - self.skew()),
                Some(_) => key += block,
                None => key = (key | (WORDS as u64 - 1)) + 1,
            }
        }
        None
    }

    /// Whether a block of the slot is one large page.
    #[must_use]
    pub fn has_large(&self, memory: &impl Memory) -> bool {
        self.next_large(0, memory).is_some()
    }

    /// Gives the pages of every large page entries of their own. Says how many there were.
    pub fn split_all(&mut self, memory: &mut impl Memory) -> u64 {
        let (mut from, mut count) = (0, 0);
        while let Some(offset) = self.next_large(from, memory) {
            self.split(offset, memory);
            count += 1;
            from = offset + BLOCK as u64;
        }
        count
    }

    /// The first frame of the gigabyte from page `offset` on, if its blocks are large pages that lie in a row.
    #[must_use]
    pub fn gigabyte(&self, offset: u64, memory: &impl Memory) -> Option<u32> {
        let head = |block: u64| {
            let key = self.key(offset + block * BLOCK as u64);
            let word = memory.word(self.leaf(key, memory)?, index(key, 0));
            (word & LARGE != 0).then(|| (word & INDEX) - 1)
        };
        let first = head(0)?;
        let in_a_row = |block: u64| head(block) == Some(first + (block * BLOCK as u64) as u32);
        (1..GIGABYTE / BLOCK as u64).all(in_a_row).then_some(first)
    }

    /// Whether the large page over page `offset` was used since that was last forgotten.
    #[must_use]
    pub fn is_used(&self, offset: u64, memory: &impl Memory) -> bool {
        self.head(offset, memory).is_some_and(|(_, _, head)| head & USED != 0)
    }

    /// The large page over page `offset` was used, or is forgotten to have been.
    pub fn set_used(&self, offset: u64, used: Used, memory: &mut impl Memory) {
        if let Some((leaf, place, head)) = self.head(offset, memory) {
            let word = match used {
                Used::Yes => head | USED,
                Used::No => head & !USED,
            };
            memory.set_word(leaf, place, word);
        }
    }

    /// Where the entry of the large page over page `offset` is, and what it says.
    fn head(&self, offset: u64, memory: &impl Memory) -> Option<(u32, usize, u32)> {
        let key = self.key(offset);
        let leaf = self.leaf(key, memory)?;
        let place = index(key, 0) & !(BLOCK - 1);
        let word = memory.word(leaf, place);
        (word & LARGE != 0).then_some((leaf, place, word))
    }
}

/// Whether a large page was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// It was.
    Yes,
    /// It was not, as far as is remembered.
    No,
}

/// Whether pages are asked for whose content did not become smaller when that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stiff {
    /// Those too.
    Too,
    /// They are left alone.
    Left,
}
