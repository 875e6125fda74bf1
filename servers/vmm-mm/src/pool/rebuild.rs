//! A pool that is put together from what nobody has.

use super::{LARGE, Pool};
use crate::machine::Memory;
use crate::store::MAX_FRAMES;
use core::ops::Range;

impl Pool {
    /// `count` neighbouring frames with whatever they hold, for as long as the pager has frames at all; the index of the first.
    pub(crate) fn take_row(&mut self, count: u32, memory: &mut impl Memory) -> Option<u32> {
        if self.end - self.next < count {
            return None;
        }
        let (first, _) = match self.free {
            0 => self.take_dirty(count, memory)?,
            _ => {
                self.shorten(self.end - count);
                (self.end, count)
            }
        };
        Some(first)
    }

    /// Forgets everything: there are `total` frames from index `first` on, of which nobody knows yet who has them.
    pub(crate) fn reopen(&mut self, first_pfn: u64, first: u32, total: u32) {
        *self = Self::empty();
        self.total = total.min(MAX_FRAMES.saturating_sub(first));
        (self.next, self.stop, self.zeroed, self.end) = (first, first, first, first);
        self.phase = (first_pfn % u64::from(LARGE)) as u32;
    }

    /// Nobody has the frames of the run. The longest run that is given becomes the region.
    pub(crate) fn give_run(&mut self, run: Range<u32>, memory: &mut impl Memory) {
        let region = self.next..self.end;
        let (longer, other) = if run.len() > region.len() { (run, region) } else { (region, run) };
        (self.next, self.stop, self.zeroed, self.end) = (longer.start, longer.start, longer.start, longer.end);
        if !other.is_empty() {
            memory.set_word(other.start, 0, self.free);
            memory.set_word(other.start, 1, other.len() as u32);
            self.free = other.start + 1;
            self.free_count += other.len() as u32;
        }
    }

    /// A slot was promised so many frames, by the incarnation before.
    pub(crate) const fn promise_again(&mut self, frames: u64) {
        self.promised = self.promised.saturating_add(frames);
    }

    /// How many frames there are in all.
    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// So many frames are the kernel's for good.
    pub(crate) const fn has_donated(&mut self, frames: u64) {
        self.donated = frames;
    }
}
