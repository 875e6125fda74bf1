//! The grants of one reply: neighbouring pages with neighbouring frames and the same rights become one run.

use heapless::Vec;
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};

/// Most grants in one reply. The message page has room for 128; a window that falls into more pieces is cut.
pub const MOST: usize = 32;

/// Runs of small pages, the first with the page that faulted.
#[derive(Debug)]
pub struct Runs {
    grants: Vec<Grant, MOST>,
    seen_by: SeenBy,
}

/// Whether there was room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The page is in.
    Taken,
    /// It is not, and no page that begins a new run will be.
    Full,
}

impl Runs {
    /// None yet, of a slot whose pages are seen so.
    #[must_use]
    pub const fn new(seen_by: SeenBy) -> Self {
        Self { grants: Vec::new(), seen_by }
    }

    /// Adds a page, to the last run if it goes on there.
    pub fn add(&mut self, gfn: Gfn, pfn: Pfn, rights: Rights, mmu_seq: u64) -> Room {
        if let Some(last) = self.grants.last_mut() {
            let count = u64::from(last.count);
            let small = matches!(last.level, Level::Page);
            if small
                && last.gfn.0 + count == gfn.0
                && last.pfn.0 + count == pfn.0
                && last.rights == rights
                && count < 512
            {
                last.count += 1;
                return Room::Taken;
            }
        }
        self.push(Grant { level: Level::Page, ..self.large(gfn, pfn, 1, rights, mmu_seq) })
    }

    /// Adds `count` large pages that lie in a row.
    pub fn add_large(&mut self, gfn: Gfn, pfn: Pfn, count: u16, rights: Rights, mmu_seq: u64) -> Room {
        self.push(self.large(gfn, pfn, count, rights, mmu_seq))
    }

    const fn large(&self, gfn: Gfn, pfn: Pfn, count: u16, rights: Rights, mmu_seq: u64) -> Grant {
        let (level, mem_type, seen_by) = (Level::Large, MemType::WriteBack, self.seen_by);
        Grant { gfn, pfn, count, level, rights, mem_type, mmu_seq, seen_by }
    }

    fn push(&mut self, grant: Grant) -> Room {
        if self.grants.push(grant).is_ok() { Room::Taken } else { Room::Full }
    }

    /// The runs.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// How many pages of 4 KiB they have.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.grants.iter().map(|grant| u64::from(grant.count) * grant.level.frames()).sum()
    }
}

#[cfg(test)]
mod tests;
