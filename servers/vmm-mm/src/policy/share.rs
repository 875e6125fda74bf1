//! `share`: equal pages have one frame, until one of them is written.

use super::{Advice, Duties, Policy, Purpose, Refusal, Verdict, View, ZeroPages, number};
use crate::fault::PageFault;

/// A page that is read before it was ever written gets the VM's shared frame of zeros; and at times a batch of pages is
/// compared with those seen before (Linux's KSM). Option `ticks`: how often, in ticks of the time-stamp counter,
/// 2,000,000 if it is not given.
#[derive(Debug)]
pub struct Share {
    ticks: u64,
}

impl Default for Share {
    fn default() -> Self {
        Self { ticks: 2_000_000 }
    }
}

impl Policy for Share {
    const NAME: &'static str = "share";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[("ticks", "a whole number from 1 on")];

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "ticks" => self.ticks = number(value, 1..=u64::MAX)?,
            _ => return Err(Refusal::UnknownOption),
        }
        Ok(())
    }

    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice { zero: ZeroPages::Shared, ..Advice::THE_PAGE }
    }

    fn duties(&self) -> Duties {
        Duties { period: Some(self.ticks), ..Duties::NONE }
    }

    fn survey(&mut self, view: &View) -> Verdict {
        match view.purpose {
            Purpose::Frames { .. } => Verdict::KEEP,
            Purpose::Time { .. } => Verdict { merge: view.resident, ..Verdict::KEEP },
        }
    }
}
