//! Large pages that are zeroed before anybody wants them: no fault shall wait until 2 MiB are zeroed.

use crate::machine::Memory;
use crate::pool::{Ahead, LARGE, LargeFrame, Pool};
use heapless::Vec;

/// Large pages that are kept ready.
const READY: usize = 4;

/// Those that are ready, and one that is being zeroed.
#[derive(Debug)]
pub struct LargeAhead {
    ready: Vec<LargeFrame, READY>,
    /// The page, and which of its frames is next.
    begun: Option<(LargeFrame, u32)>,
}

impl LargeAhead {
    /// None is ready.
    pub const EMPTY: Self = Self { ready: Vec::new(), begun: None };

    /// A large page full of zeros, if one is ready.
    pub fn take(&mut self) -> Option<LargeFrame> {
        self.ready.pop()
    }

    /// Zeroes up to `most` frames. Says whether there is more to do.
    pub fn step(&mut self, most: u32, pool: &mut Pool, memory: &mut impl Memory) -> Ahead {
        if self.ready.is_full() {
            return Ahead::Enough;
        }
        let Some((frame, next)) = self.begun.take().or_else(|| pool.take_large_dirty(memory)) else {
            return Ahead::Enough;
        };
        let end = frame.index() + LARGE;
        let until = next.saturating_add(most).min(end);
        (next..until).for_each(|index| memory.clear(index));
        if until < end {
            self.begun = Some((frame, until));
        } else {
            // There is room: it is not full.
            let _ = self.ready.push(frame);
        }
        if self.ready.is_full() { Ahead::Enough } else { Ahead::More }
    }

    /// Gives all back to the pool. Says whether there was anything.
    pub fn give_back(&mut self, pool: &mut Pool, memory: &mut impl Memory) -> bool {
        let begun = self.begun.take().map(|(frame, _)| frame);
        let mut any = false;
        while let Some(frame) = self.ready.pop() {
            pool.release_large(frame, memory);
            any = true;
        }
        if let Some(frame) = begun {
            pool.release_large(frame, memory);
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests;
