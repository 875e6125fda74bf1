//! `clock`: second chance over A bits, for guests that are larger than their frames.

use super::{Advice, Bits, Duties, Overcommit, Policy, Purpose, Refusal, Verdict, View};
use crate::fault::PageFault;

/// One page at a time, and when frames run out, those that were not used since the hand last passed are taken back. A
/// page that was used gets a second chance: looking takes the mark away. When a whole round has found nothing, every page
/// was in use, and any is taken. Option `free`: one of how many frames is kept free, 8 to 1024, 32 if it is not given; 0: none,
/// so that faults wait.
#[derive(Debug)]
pub struct Clock {
    free: u32,
}

impl Default for Clock {
    fn default() -> Self {
        Self { free: Duties::NONE.free }
    }
}

impl Policy for Clock {
    const NAME: &'static str = "clock";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[("free", "0 or a whole number from 8 to 1024")];
    const ONE_PAGE: bool = true;

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match (key, value.parse()) {
            ("free", Ok(free @ (0 | 8..=1024))) => {
                self.free = free;
                Ok(())
            }
            ("free", _) => Err(Refusal::BadValue),
            _ => Err(Refusal::UnknownOption),
        }
    }

    #[inline]
    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::THE_PAGE
    }

    fn duties(&self) -> Duties {
        Duties { overcommit: Overcommit::Yes, free: self.free, ..Duties::NONE }
    }

    fn survey(&mut self, view: &View) -> Verdict {
        let spared = match view.purpose {
            Purpose::Frames { round: 0 } => view.accessed.unwrap_or(Bits::NONE),
            Purpose::Frames { .. } => Bits::NONE,
            Purpose::Time { .. } => return Verdict::KEEP,
        };
        Verdict { evict: view.resident.without(spared), ..Verdict::KEEP }
    }
}
