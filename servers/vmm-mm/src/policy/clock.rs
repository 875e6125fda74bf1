//! `clock`: second chance over A bits, for guests that are larger than their frames.

use super::{Advice, Bits, Duties, Overcommit, Policy, Purpose, Verdict, View};
use crate::fault::PageFault;

/// One page at a time, and when frames run out, those that were not used since the hand last passed are taken back. A
/// page that was used gets a second chance: looking takes the mark away. When a whole round has found nothing, every page
/// was in use, and any is taken.
#[derive(Debug)]
pub struct Clock;

impl Policy for Clock {
    const NAME: &'static str = "clock";
    const ONE_PAGE: bool = true;

    #[inline]
    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::THE_PAGE
    }

    fn duties(&self) -> Duties {
        Duties { overcommit: Overcommit::Yes, ..Duties::NONE }
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
