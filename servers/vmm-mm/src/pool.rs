//! The pool: every frame that the pager owns is here or in the [`crate::store`], never in both.
//!
//! A frame is *untouched* (above the mark, never handed out), *stocked* (zeroed, ready), *free* (given back: its first
//! word links to the next) or out, as a [`Frame`] in somebody's hands. Large pages, 512 frames that lie in a row from a
//! pfn that is a multiple of 512, are cut from the end of what is untouched and have a list of their own; when nothing
//! else is left they are broken up.

use crate::machine::Memory;
use crate::store::MAX_FRAMES;
use heapless::Vec;

/// Frames that are zeroed at a time. A fault that finds the stock empty pays for a whole batch, so that 127 of 128
/// pay nothing.
pub const BATCH: usize = 128;

/// A frame that has been taken out of the pool: neither `Copy` nor `Clone`, so it backs one page only.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is lost: give it back with `release`"]
pub struct Frame(u32);

impl Frame {
    /// Its index among the pager's frames.
    #[inline]
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.0
    }

    /// Gives the frame up for the number that stands for it in a table entry; never 0.
    #[inline]
    pub(crate) const fn into_entry(self) -> u32 {
        self.0 + 1
    }

    /// The frame whose number has just been taken out of a table entry.
    pub(crate) const fn from_entry(entry: u32) -> Option<Self> {
        match entry.checked_sub(1) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }
}

/// The frames of a large page.
pub const LARGE: u32 = 512;

/// 512 frames in a row that have been taken out of the pool, by the index of the first.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a large page that is dropped is lost: give it back with `release_large`"]
pub struct LargeFrame(u32);

impl LargeFrame {
    /// The index of its first frame among the pager's frames.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.0
    }

    pub(crate) const fn into_entry(self) -> u32 {
        self.0 + 1
    }

    /// The large page whose first frame stood in a table entry.
    pub(crate) const fn of(first: Frame) -> Self {
        Self(first.into_entry() - 1)
    }
}

/// Neighbouring frames that have left the pool, for the kernel's tables. Their content is not zeroed.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a run that is dropped is lost"]
pub struct Run {
    /// The index of the first.
    pub first: u32,
    /// How many.
    pub count: u16,
}

/// The frames of the pager.
pub struct Pool {
    /// Zeroed and ready.
    stock: Vec<u32, BATCH>,
    /// The first frame that was never handed out.
    fresh: u32,
    /// One behind the last frame that was never handed out.
    end: u32,
    /// How many frames there are in all.
    total: u32,
    /// How far the first frame's pfn is above a multiple of 512.
    phase: u32,
    /// The first large page that was given back, its number; 0 for none.
    large: u32,
    /// How many are linked from there.
    large_count: u32,
    /// The first free frame's number, 0 for none.
    free: u32,
    /// How many free frames are linked from there.
    free_count: u32,
    /// Frames that slots have been promised and tables may not take.
    promised: u64,
    /// Frames given to the kernel for good.
    donated: u64,
}

impl Pool {
    /// A pool without frames.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            stock: Vec::new(),
            fresh: 0,
            end: 0,
            total: 0,
            phase: 0,
            large: 0,
            large_count: 0,
            free: 0,
            free_count: 0,
            promised: 0,
            donated: 0,
        }
    }

    /// Takes over frames `0..frames`, the first of which is `first_pfn`, and zeroes a first batch. More than
    /// [`MAX_FRAMES`] are left alone.
    pub fn open(&mut self, first_pfn: u64, frames: u64, memory: &mut impl Memory) {
        *self = Self::empty();
        self.total = u32::try_from(frames).unwrap_or(u32::MAX).min(MAX_FRAMES);
        self.end = self.total;
        self.phase = (first_pfn % u64::from(LARGE)) as u32;
        self.refill(memory);
    }

    /// A frame full of zeros; `None` when no frame is left.
    #[inline]
    pub fn take_zeroed(&mut self, memory: &mut impl Memory) -> Option<Frame> {
        if self.stock.is_empty() {
            self.refill(memory);
        }
        self.stock.pop().map(Frame)
    }

    /// Zeroes frames until the stock is full or no frame is left.
    #[cold]
    #[inline(never)]
    fn refill(&mut self, memory: &mut impl Memory) {
        // Untouched ones go in backwards, so that they come out in a row: neighbours can share a grant.
        let most = (BATCH - self.stock.len()) as u32;
        let first = self.fresh;
        self.fresh += most.min(self.end - self.fresh);
        for index in (first..self.fresh).rev() {
            memory.clear(index);
            // There is room: no more than were missing.
            let _ = self.stock.push(index);
        }
        while !self.stock.is_full() {
            let Some(index) = self.take_dirty(memory) else { return };
            memory.clear(index);
            // There is room: the loop asks before.
            let _ = self.stock.push(index);
        }
    }

    /// A frame with whatever it holds: untouched ones first, and of a large page last.
    fn take_dirty(&mut self, memory: &impl Memory) -> Option<u32> {
        if self.fresh == self.end {
            if let Some(index) = self.free.checked_sub(1) {
                self.free = memory.word(index, 0);
                self.free_count -= 1;
                return Some(index);
            }
            self.fresh = self.unlink_large(memory)?;
            self.end = self.fresh + LARGE;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// A large page full of zeros; `None` when no 512 frames lie so.
    pub fn take_large(&mut self, memory: &mut impl Memory) -> Option<LargeFrame> {
        let first = self.unlink_large(memory).or_else(|| self.cut_large(memory))?;
        for index in first..first + LARGE {
            memory.clear(index);
        }
        Some(LargeFrame(first))
    }

    fn unlink_large(&mut self, memory: &impl Memory) -> Option<u32> {
        let index = self.large.checked_sub(1)?;
        self.large = memory.word(index, 0);
        self.large_count -= 1;
        Some(index)
    }

    /// Cuts a large page from the end of what is untouched; what lies behind it becomes free.
    fn cut_large(&mut self, memory: &mut impl Memory) -> Option<u32> {
        let behind = (self.end + self.phase) % LARGE;
        let first = self.end.checked_sub(behind)?.checked_sub(LARGE).filter(|first| *first >= self.fresh)?;
        for index in first + LARGE..self.end {
            self.release(Frame(index), memory);
        }
        self.end = first;
        Some(first)
    }

    /// Takes a large page back. Nothing may map it any more.
    pub fn release_large(&mut self, frame: LargeFrame, memory: &mut impl Memory) {
        memory.set_word(frame.0, 0, self.large);
        self.large = frame.0 + 1;
        self.large_count += 1;
    }

    /// Whether a large page can begin with that frame.
    #[must_use]
    pub const fn is_aligned(&self, index: u32) -> bool {
        (index + self.phase).is_multiple_of(LARGE)
    }

    /// Takes the frame back. Nothing may map it any more.
    pub fn release(&mut self, frame: Frame, memory: &mut impl Memory) {
        memory.set_word(frame.0, 0, self.free);
        self.free = frame.0 + 1;
        self.free_count += 1;
    }

    /// Up to `most` neighbouring frames for the kernel; `None` when no frame is left.
    pub fn take_run(&mut self, most: u16, memory: &mut impl Memory) -> Option<Run> {
        let count = u32::from(most).min(self.end - self.fresh);
        let run = if count > 0 {
            self.fresh += count;
            // `count` is at most `most`.
            Run { first: self.fresh - count, count: count as u16 }
        } else {
            Run { first: self.take_dirty(memory).or_else(|| self.stock.pop())?, count: 1 }
        };
        self.donated += u64::from(run.count);
        Some(run)
    }

    /// Promises `frames` to a slot; false when that many are not to be had.
    #[must_use]
    pub fn promise(&mut self, frames: u64) -> bool {
        match self.promised.checked_add(frames) {
            Some(promised) if promised <= u64::from(self.total).saturating_sub(self.donated) => {
                self.promised = promised;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes back a promise of as many frames.
    pub fn unpromise(&mut self, frames: u64) {
        self.promised = self.promised.saturating_sub(frames);
    }

    /// Frames that could be taken now.
    #[must_use]
    pub fn left(&self) -> u64 {
        let small = u64::from(self.end - self.fresh) + u64::from(self.free_count) + self.stock.len() as u64;
        small + u64::from(self.large_count) * u64::from(LARGE)
    }

    /// Frames that were given to the kernel.
    #[must_use]
    pub const fn donated(&self) -> u64 {
        self.donated
    }
}

#[cfg(test)]
mod tests;
