//! A bit for each frame of the pager: whether somebody has it.

use super::Broken;
use crate::machine::{Memory, WORDS};
use core::ops::Range;

/// Bits in a pair of words.
const BITS: u32 = u64::BITS;
/// Bits in a frame.
const IN_FRAME: u32 = 32 * WORDS as u32;

/// A bit for each frame of the pager: set when somebody has it.
pub(crate) struct Marks {
    first: u32,
    total: u32,
}

impl Marks {
    /// In those frames, for `total` frames, which nobody has yet.
    pub fn none(first: u32, count: u32, total: u32, memory: &mut impl Memory) -> Self {
        (first..first + count).for_each(|frame| memory.clear(frame));
        Self { first, total }
    }

    /// Where the bit of a frame is: frame, pair of words, bit.
    const fn place(&self, frame: u32) -> (u32, usize, u32) {
        (self.first + frame / IN_FRAME, (frame % IN_FRAME / BITS) as usize, frame % BITS)
    }

    /// Whether there is such a frame.
    pub const fn has(&self, frame: u32) -> bool {
        frame < self.total
    }

    /// Somebody has the frame; whether somebody else had it is the answer, and it is for frames that there are not.
    #[inline]
    pub fn mark(&self, frame: u32, memory: &mut impl Memory) -> bool {
        if !self.has(frame) {
            return true;
        }
        let (at, pair, bit) = self.place(frame);
        let bits = memory.pair(at, pair);
        memory.set_pair(at, pair, bits | 1 << bit);
        bits >> bit & 1 != 0
    }

    /// Somebody has `count` frames from `first` on, and nobody else has one of them.
    ///
    /// # Errors
    /// [`Broken::Frame`]: somebody has it, or there is none.
    #[inline]
    pub fn mark_once(&self, first: u32, count: u32, memory: &mut impl Memory) -> Result<(), Broken> {
        let end = first.checked_add(count).filter(|end| *end <= self.total).ok_or(Broken::Frame(first))?;
        let mut frame = first;
        while frame < end {
            let (at, pair, bit) = self.place(frame);
            let some = (end - frame).min(BITS - bit);
            let wanted = u64::MAX >> (BITS - some) << bit;
            let bits = memory.pair(at, pair);
            if bits & wanted != 0 {
                return Err(Broken::Frame(frame - bit + (bits & wanted).trailing_zeros()));
            }
            memory.set_pair(at, pair, bits | wanted);
            frame += some;
        }
        Ok(())
    }

    /// The first frame of the range that somebody has.
    pub fn first_marked(&self, frames: Range<u32>, memory: &impl Memory) -> Option<u32> {
        self.find(frames, 0, memory)
    }

    /// The first frames of the range in a row that nobody has.
    pub fn next_free(&self, frames: Range<u32>, memory: &impl Memory) -> Option<Range<u32>> {
        let first = self.find(frames.clone(), u64::MAX, memory)?;
        Some(first..self.first_marked(first..frames.end, memory).unwrap_or(frames.end))
    }

    /// The first frame of the range whose bit is not as in `dull`.
    #[inline]
    fn find(&self, frames: Range<u32>, dull: u64, memory: &impl Memory) -> Option<u32> {
        let mut frame = frames.start;
        while frame < frames.end {
            let (at, pair, bit) = self.place(frame);
            let other = (memory.pair(at, pair) ^ dull) >> bit;
            if other != 0 {
                return Some(frame + other.trailing_zeros()).filter(|found| *found < frames.end);
            }
            frame += BITS - bit;
        }
        None
    }
}
