//! `huge`: 2 MiB at a time where guest, frames and memory types let it.

use super::{Advice, NxHuge, Policy, Refusal};
use crate::fault::PageFault;
use ipc_proto::grant::Level;

/// Fewer faults and shorter walks, at the price of memory that is never touched. Option `nx_huge`: `on` maps large
/// pages without execution and splits one when the guest fetches from it, for CPUs that such a fetch can stop
/// (iTLB multihit); `off` if it is not given.
#[derive(Debug)]
pub struct Huge {
    nx: NxHuge,
}

impl Default for Huge {
    fn default() -> Self {
        Self { nx: NxHuge::Off }
    }
}

impl Policy for Huge {
    const NAME: &'static str = "huge";

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        self.nx = match (key, value) {
            ("nx_huge", "on") => NxHuge::On,
            ("nx_huge", "off") => NxHuge::Off,
            ("nx_huge", _) => return Err(Refusal::BadValue),
            _ => return Err(Refusal::UnknownOption),
        };
        Ok(())
    }

    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice { around: 1, level: Level::Large }
    }

    fn nx_huge(&self) -> NxHuge {
        self.nx
    }
}
