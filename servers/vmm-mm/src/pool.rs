//! The pool: every frame that the pager owns is here or in the [`crate::store`], never in both.
//!
//! A frame is *untouched* (above the mark, never handed out), *stocked* (zeroed, ready), *free* (given back: its first
//! word links to the next) or out, as a [`Frame`] in somebody's hands.

use crate::machine::Memory;
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
    /// One behind the last frame.
    end: u32,
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
        Self { stock: Vec::new(), fresh: 0, end: 0, free: 0, free_count: 0, promised: 0, donated: 0 }
    }

    /// Takes over frames `0..frames` and zeroes a first batch. More than 2³² - 1 are left alone.
    pub fn open(&mut self, frames: u64, memory: &mut impl Memory) {
        *self = Self::empty();
        self.end = u32::try_from(frames).unwrap_or(u32::MAX).min(u32::MAX - 1);
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
        while !self.stock.is_full() {
            let Some(index) = self.take_dirty(memory) else { return };
            memory.clear(index);
            // There is room: the loop asks before.
            let _ = self.stock.push(index);
        }
    }

    /// A frame with whatever it holds: untouched ones first.
    fn take_dirty(&mut self, memory: &impl Memory) -> Option<u32> {
        if self.fresh < self.end {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        let index = self.free.checked_sub(1)?;
        self.free = memory.word(index, 0);
        self.free_count -= 1;
        Some(index)
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
            Some(promised) if promised <= u64::from(self.end).saturating_sub(self.donated) => {
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
        u64::from(self.end - self.fresh) + u64::from(self.free_count) + self.stock.len() as u64
    }

    /// Frames that were given to the kernel.
    #[must_use]
    pub const fn donated(&self) -> u64 {
        self.donated
    }
}

#[cfg(test)]
mod tests;
