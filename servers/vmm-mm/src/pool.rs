//! The pool: every frame that the pager has for a VM is here or in the [`crate::store`], never in both.
//!
//! Frames are handed out of one *region*, neighbours one after the other, so that neighbouring pages get neighbouring
//! frames. The region's beginning is zeroed already: at the start, and later whenever there is time
//! ([`Pool::zero_ahead`]), so that a fault seldom zeroes anything, and then a few frames at most. Frames that are given
//! back are *free*: a run of neighbours is linked by the first one's first words, and becomes the region when the old one
//! is used up. Large pages, 512 frames that lie in a row from a pfn that is a multiple of 512, are cut from the region's
//! end and have a list of their own; when nothing else is left they are broken up.

mod gigabyte;
mod low;
mod peak;
mod promise;
mod rebuild;

pub use low::Owed;

use crate::machine::Memory;
use crate::store::MAX_FRAMES;

/// Frames that are zeroed at the start: 64 MiB.
pub const AT_START: u32 = 16_384;
/// With fewer zeroed frames than this, time to zero more is asked for.
pub const LOW: u32 = 2048;
/// So many zeroed frames are enough.
pub const ENOUGH: u32 = 4096;
/// A fault that finds no zeroed frame zeroes so many, if it wants as many.
pub const AT_ONCE: u32 = 4;

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

    /// Gives the frame up for its index, which must be kept where it is found again.
    pub(crate) const fn into_index(self) -> u32 {
        self.0
    }

    /// The frame whose index has just been taken from where it was kept.
    pub(crate) const fn from_index(index: u32) -> Self {
        Self(index)
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

/// The frames of a VM.
pub struct Pool {
    /// The region's next frame.
    next: u32,
    /// When that is the next frame, something must be done first. Between `next` and `zeroed`.
    stop: u32,
    /// One behind the region's last zeroed frame.
    zeroed: u32,
    /// One behind the region's last frame.
    end: u32,
    /// How many frames there are in all; a VM that is another pager's has none.
    pub(crate) total: u32,
    /// How far the pfn of the frame with index 0 is above a multiple of 512.
    phase: u32,
    /// The first large page that was given back, its number; 0 for none.
    large: u32,
    /// How many are linked from there.
    large_count: u32,
    /// The number of the first free run's first frame, 0 for none. Its word 0 is the same of the next run, word 1 how many
    /// frames it has.
    free: u32,
    /// How many frames are free.
    free_count: u32,
    /// Frames that slots have been promised.
    promised: u64,
    /// Frames given away: to the kernel for good, and for what is kept of pages.
    donated: u64,
    /// The most that were in use when some came back.
    peak: u64,
    /// With fewer left than this, some are taken back for each that is handed out.
    low: u32,
    /// Whether that is to be done.
    owed: Owed,
}

/// Whether frames could still be zeroed ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Enough are zeroed, or all are.
    Enough,
    /// More should be.
    More,
}

impl Pool {
    /// A pool without frames.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            next: 0,
            stop: 0,
            zeroed: 0,
            end: 0,
            total: 0,
            phase: 0,
            large: 0,
            large_count: 0,
            free: 0,
            free_count: 0,
            promised: 0,
            donated: 0,
            peak: 0,
            low: 0,
            owed: Owed::No,
        }
    }

    /// Takes over `frames` frames from the one with index `first` on, and zeroes some. Frame 0 is `first_pfn`; those from
    /// [`MAX_FRAMES`] on are left alone. Says the index behind the last.
    pub fn open(&mut self, first_pfn: u64, first: u32, frames: u64, memory: &mut impl Memory) -> u32 {
        *self = Self::empty();
        self.total = u32::try_from(frames).unwrap_or(u32::MAX).min(MAX_FRAMES.saturating_sub(first));
        (self.next, self.stop, self.zeroed, self.end) = (first, first, first, first + self.total);
        self.phase = (first_pfn % u64::from(LARGE)) as u32;
        self.zero(AT_START, memory);
        self.settle();
        self.end
    }

    /// A frame full of zeros; `None` when no frame is left.
    #[inline(always)]
    pub fn take_zeroed(&mut self, memory: &mut impl Memory) -> Option<Frame> {
        if self.next == self.stop && !self.renew(1, memory) {
            return None;
        }
        self.next += 1;
        Some(Frame(self.next - 1))
    }

    /// Up to `most` neighbouring frames full of zeros, for as many pages: the index of the first, and how many. Fewer when
    /// no more are zeroed; none when no frame is left.
    #[inline(always)]
    pub(crate) fn take_zeroed_run(&mut self, most: u32, memory: &mut impl Memory) -> (u32, u32) {
        if self.stop - self.next < most && !self.renew(most, memory) {
            return (0, 0);
        }
        let (first, count) = (self.next, most.min(self.stop - self.next));
        self.next += count;
        (first, count)
    }

    /// Sees to it that the next frame is zeroed, and asks for time to zero more; false when no frame is left.
    #[cold]
    #[inline(never)]
    fn renew(&mut self, wanted: u32, memory: &mut impl Memory) -> bool {
        if self.next == self.zeroed {
            if self.next == self.end && !self.next_region(memory) {
                return false;
            }
            self.zero(wanted.clamp(1, AT_ONCE), memory);
        }
        self.note_low(memory);
        self.stop = self.until_low(wanted);
        if self.zeroed < self.end {
            memory.ask_for_time();
        }
        true
    }

    /// Zeroes up to `most` frames, when there is time.
    pub fn zero_ahead(&mut self, most: u32, memory: &mut impl Memory) -> Ahead {
        if self.next < self.end || self.next_region(memory) {
            let missing = ENOUGH.saturating_sub(self.zeroed - self.next);
            self.zero(missing.min(most), memory);
        }
        if self.zeroed < self.end && self.zeroed - self.next < ENOUGH {
            self.stop = self.until_low(0);
            return Ahead::More;
        }
        self.settle();
        Ahead::Enough
    }

    /// Time is asked for when few zeroed frames are left, unless all that there are are zeroed.
    fn settle(&mut self) {
        let ahead = self.zeroed - self.next;
        let enough = if self.zeroed < self.end && ahead > LOW { self.zeroed - LOW } else { self.zeroed };
        self.stop = enough.min(self.until_low(0));
    }

    /// Zeroes up to `most` more of the region's frames.
    fn zero(&mut self, most: u32, memory: &mut impl Memory) {
        for _ in 0..most.min(self.end - self.zeroed) {
            memory.clear(self.zeroed);
            self.zeroed += 1;
        }
    }

    /// The region is used up: the first free run is the next one, or else a large page. False when there is neither.
    fn next_region(&mut self, memory: &impl Memory) -> bool {
        let (first, count) = match self.free.checked_sub(1) {
            Some(first) => {
                let count = memory.word(first, 1);
                self.free = memory.word(first, 0);
                self.free_count -= count;
                (first, count)
            }
            None => match self.unlink_large(memory) {
                Some(first) => (first, LARGE),
                None => return false,
            },
        };
        (self.next, self.stop, self.zeroed, self.end) = (first, first, first, first + count);
        true
    }

    /// A frame with whatever it holds, for somebody who writes all of it; `None` when no frame is left.
    pub fn take_any(&mut self, memory: &mut impl Memory) -> Option<Frame> {
        if self.free != 0 {
            return self.take_dirty(1, memory).map(|(first, _)| Frame(first));
        }
        if self.next == self.end && !self.next_region(memory) {
            return None;
        }
        self.next += 1;
        self.zeroed = self.zeroed.max(self.next);
        self.stop = self.stop.max(self.next);
        Some(Frame(self.next - 1))
    }

    /// Up to `most` neighbouring frames with whatever they hold: free ones first, then from the region's end, and of a large
    /// page last. The first, and how many.
    fn take_dirty(&mut self, most: u32, memory: &mut impl Memory) -> Option<(u32, u32)> {
        if let Some(first) = self.free.checked_sub(1) {
            let run = memory.word(first, 1);
            let count = most.min(run);
            self.free_count -= count;
            if count == run {
                self.free = memory.word(first, 0);
            } else {
                memory.set_word(first, 1, run - count);
            }
            return Some((first + run - count, count));
        }
        if self.next == self.end && !self.next_region(memory) {
            return None;
        }
        let count = most.min(self.end - self.next);
        self.shorten(self.end - count);
        Some((self.end, count))
    }

    /// The region ends there now.
    fn shorten(&mut self, end: u32) {
        self.end = end;
        self.zeroed = self.zeroed.min(end);
        self.stop = self.stop.min(end);
    }

    /// A large page full of zeros; `None` when no 512 frames lie so.
    pub fn take_large(&mut self, memory: &mut impl Memory) -> Option<LargeFrame> {
        let (first, dirty) = match self.unlink_large(memory) {
            Some(first) => (first, first),
            None => self.cut_large(memory)?,
        };
        for index in dirty..first + LARGE {
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

    /// Cuts a large page from the region's end: its first frame, and from which frame on it is not zeroed. What lies behind
    /// it becomes free.
    fn cut_large(&mut self, memory: &mut impl Memory) -> Option<(u32, u32)> {
        let behind = (self.end + self.phase) % LARGE;
        let first = self.end.checked_sub(behind)?.checked_sub(LARGE).filter(|first| *first >= self.next)?;
        for index in first + LARGE..self.end {
            self.release(Frame(index), memory);
        }
        let dirty = self.zeroed.clamp(first, first + LARGE);
        self.shorten(first);
        Some((first, dirty))
    }

    /// Takes a large page back. Nothing may map it any more.
    pub fn release_large(&mut self, frame: LargeFrame, memory: &mut impl Memory) {
        self.note_peak();
        memory.set_word(frame.0, 0, self.large);
        self.large = frame.0 + 1;
        self.large_count += 1;
    }

    /// Whether a large page can begin with that frame.
    #[must_use]
    pub const fn is_aligned(&self, index: u32) -> bool {
        (index + self.phase).is_multiple_of(LARGE)
    }

    /// Takes the frame back. Nothing may map it any more. A neighbour of the run that was given back last joins it.
    pub fn release(&mut self, frame: Frame, memory: &mut impl Memory) {
        self.note_peak();
        let index = frame.0;
        self.free_count += 1;
        if let Some(first) = self.free.checked_sub(1) {
            let count = memory.word(first, 1);
            if first + count == index {
                memory.set_word(first, 1, count + 1);
                return;
            }
            if index + 1 == first {
                memory.set_word(index, 0, memory.word(first, 0));
                memory.set_word(index, 1, count + 1);
                self.free = index + 1;
                return;
            }
        }
        memory.set_word(index, 0, self.free);
        memory.set_word(index, 1, 1);
        self.free = index + 1;
    }

    /// Frames that could be taken now.
    #[must_use]
    pub fn left(&self) -> u64 {
        let small = u64::from(self.end - self.next) + u64::from(self.free_count);
        small + u64::from(self.large_count) * u64::from(LARGE)
    }

    /// Frames that were given to the kernel, or keep what is known of pages.
    #[must_use]
    pub const fn donated(&self) -> u64 {
        self.donated
    }
}

#[cfg(test)]
mod tests;
