//! `huge`: 2 MiB at a time where guest, frames and memory types let it.

use super::{Advice, Duties, NxHuge, Policy, Refusal};
use crate::fault::PageFault;
use ipc_proto::grant::Level;

/// Fewer faults and shorter walks, at the price of memory that is never touched. Option `nx_huge`: `on` maps large
/// pages without execution and splits one when the guest fetches from it, for CPUs that such a fetch can stop
/// (iTLB multihit); `off` if it is not given. Option `page`: `1g` takes each gigabyte of a slot that lies so when the slot is
/// made, and maps it as one page; `2m` if it is not given. Option `ticks`: with `nx_huge`, one of 60 split pages is made whole
/// again every so many ticks, 10,000,000,000 if it is not given.
#[derive(Debug)]
pub struct Huge {
    nx: NxHuge,
    page: Level,
    ticks: u64,
}

/// Ticks between two times that blocks are made whole, if no other number is given: some seconds.
const TICKS: u64 = 10_000_000_000;

impl Default for Huge {
    fn default() -> Self {
        Self { nx: NxHuge::Off, page: Level::Large, ticks: TICKS }
    }
}

impl Policy for Huge {
    const NAME: &'static str = "huge";
    const OPTIONS: &'static [(&'static str, &'static str)] =
        &[("nx_huge", "on, off"), ("page", "2m, 1g"), ("ticks", "a whole number from 1 on")];

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        if key == "ticks" {
            self.ticks = value.parse().ok().filter(|ticks| *ticks > 0).ok_or(Refusal::BadValue)?;
            return Ok(());
        }
        match (key, value) {
            ("nx_huge", "on") => self.nx = NxHuge::On,
            ("nx_huge", "off") => self.nx = NxHuge::Off,
            ("page", "2m") => self.page = Level::Large,
            ("page", "1g") => self.page = Level::Huge,
            ("nx_huge" | "page", _) => return Err(Refusal::BadValue),
            _ => return Err(Refusal::UnknownOption),
        }
        Ok(())
    }

    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice { level: self.page, ..Advice::THE_PAGE }
    }

    fn nx_huge(&self) -> NxHuge {
        self.nx
    }

    fn duties(&self) -> Duties {
        match self.nx {
            NxHuge::On => Duties { period: Some(self.ticks), ..Duties::NONE },
            NxHuge::Off => Duties::NONE,
        }
    }

    fn reserve(&self) -> Level {
        self.page
    }
}
