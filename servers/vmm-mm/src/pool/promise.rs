//! What slots have been promised, and what may be taken beside.

use super::{Frame, Pool, Run};
use crate::machine::Memory;

/// So many frames, and one of so many, are left for tables of the guest and of its window.
const TABLES: u64 = 16;
const TABLES_ONE_OF: u64 = 128;

impl Pool {
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

    /// Frames that are neither given away nor promised.
    #[must_use]
    pub fn spare(&self) -> u64 {
        u64::from(self.total).saturating_sub(self.donated).saturating_sub(self.promised)
    }

    /// A frame full of zeros to keep something in that could be done without; `None` when all are promised.
    pub fn take_spare(&mut self, memory: &mut impl Memory) -> Option<Frame> {
        // The kernel's tables for what is promised have to come from somewhere.
        let tables = if self.promised == 0 { 0 } else { TABLES + u64::from(self.total) / TABLES_ONE_OF };
        let frame = if self.spare() > tables { self.take_zeroed(memory) } else { None };
        self.donated += u64::from(frame.is_some());
        frame
    }

    /// Takes such a frame back.
    pub fn release_spare(&mut self, frame: Frame, memory: &mut impl Memory) {
        self.donated -= 1;
        self.release(frame, memory);
    }

    /// Up to `most` neighbouring frames for the kernel, that nobody has been promised, or `needed` ones whatever was
    /// promised; `None` when there are none.
    pub fn take_run(&mut self, most: u16, needed: u16, memory: &mut impl Memory) -> Option<Run> {
        let allowed = u64::from(most).min(self.spare().max(u64::from(needed)));
        if allowed == 0 {
            return None;
        }
        // At most `most`.
        let (first, count) = self.take_dirty(allowed as u32, memory)?;
        self.donated += u64::from(count);
        // `count` is at most `most`.
        Some(Run { first, count: count as u16 })
    }
}
