//! Large pages for those who zero them, and a gigabyte of them in a row.

use super::{LARGE, LargeFrame, Pool};
use crate::level::GIGABYTE;
use crate::machine::Memory;
use core::iter::{Map, StepBy};
use core::ops::Range;

/// Large pages that lie in a row.
pub(crate) type LargeFrames = Map<StepBy<Range<u32>>, fn(u32) -> LargeFrame>;

/// Frames in a gigabyte.
const FRAMES: u32 = GIGABYTE as u32;

impl Pool {
    /// A large page with whatever it holds, and the first of its frames that is not zeroed; `None` when no 512 frames lie so.
    pub(crate) fn take_large_dirty(&mut self, memory: &mut impl Memory) -> Option<(LargeFrame, u32)> {
        let (first, dirty) = match self.unlink_large(memory) {
            Some(first) => (first, first),
            None => self.cut_large(memory)?,
        };
        Some((LargeFrame(first), dirty))
    }

    /// The large pages of a gigabyte that lies in a row from a pfn that is a multiple of its size, full of zeros; `None` when
    /// no frames lie so. The first frame of the pool has pfn `first_pfn`. It takes as long as zeroing a gigabyte takes.
    pub(crate) fn take_gigabyte(&mut self, first_pfn: u64, memory: &mut impl Memory) -> Option<LargeFrames> {
        let behind = ((first_pfn + u64::from(self.end)) % GIGABYTE) as u32;
        let end = self.end.checked_sub(behind)?;
        let first = end.checked_sub(FRAMES).filter(|first| *first >= self.next)?;
        while self.end > end {
            // What lies behind it stays large, as far as it can.
            let (large, _) = self.cut_large(memory)?;
            self.release_large(LargeFrame(large), memory);
        }
        let dirty = self.zeroed.clamp(first, end);
        self.shorten(first);
        (dirty..end).for_each(|index| memory.clear(index));
        Some((first..end).step_by(LARGE as usize).map(LargeFrame as fn(u32) -> LargeFrame))
    }
}
