//! `fault-around`: the pages beside the one that was touched come with it.

use super::{Advice, Policy, Refusal};
use crate::fault::PageFault;

/// Memory is touched in neighbourhoods: one fault pays for a window of pages. Option `window`: its size in pages,
/// 1 to 512, 16 if it is not given. The window lies at a multiple of its size and in one table.
#[derive(Debug)]
pub struct FaultAround {
    window: u16,
}

impl Default for FaultAround {
    fn default() -> Self {
        Self { window: 16 }
    }
}

impl Policy for FaultAround {
    const NAME: &'static str = "fault-around";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[("window", "a whole number from 1 to 512")];

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match (key, value.parse()) {
            ("window", Ok(window @ 1..=512)) => {
                self.window = window;
                Ok(())
            }
            ("window", _) => Err(Refusal::BadValue),
            _ => Err(Refusal::UnknownOption),
        }
    }

    #[inline]
    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::window(self.window)
    }
}
