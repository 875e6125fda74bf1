//! Frames that are kept free: when fewer are left, some are taken back before they are missed.

use super::Pool;
use crate::machine::Memory;

/// Whether frames are owed for one that was handed out when few were left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// None.
    No,
    /// Some shall be taken back.
    Yes,
}

impl Pool {
    /// From now on frames are taken back when fewer than `low` are left; never, if that is 0.
    pub fn keep_free(&mut self, low: u32) {
        if self.low != low {
            self.low = low;
            self.owed = Owed::No;
            self.settle();
        }
    }

    /// How many frames shall be free at least.
    #[must_use]
    pub const fn low(&self) -> u64 {
        self.low as u64
    }

    /// Whether fewer are.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.left() < self.low()
    }

    /// Whether frames are owed.
    #[must_use]
    pub const fn owed(&self) -> Owed {
        self.owed
    }

    /// A page gets a frame: if few are left, some are owed, and the next page's is looked at too.
    pub fn note_low(&mut self, memory: &mut impl Memory) {
        if self.is_low() {
            self.stop = self.next;
            if self.owed == Owed::No {
                self.owed = Owed::Yes;
                memory.ask_for_frames();
            }
        }
    }

    /// What was owed is seen to.
    pub fn forgive(&mut self) {
        self.owed = Owed::No;
    }

    /// How far the region may be handed out before somebody looks how many frames are left: the next `wanted` in any case.
    pub(super) fn until_low(&self, wanted: u32) -> u32 {
        // There are at most as many as a `u32` says.
        let more = self.left().saturating_sub(self.low()) as u32;
        self.zeroed.min(self.next.saturating_add(more.max(wanted)))
    }
}
