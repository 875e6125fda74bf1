//! Frames that were donated to a VM, for its tables: a list linked through the frame table.

use super::entry::{VMS, vm_bit};
use super::{Entry, Found, FrameTable, Granter, Use};
use ipc_proto::grant::Pfn;
use ipc_proto::refused::Refused;

/// Frames for tables, linked through the frame table: those of a VM that are free, or some that were taken from there together.
#[derive(Debug, Default)]
#[must_use = "table frames that are dropped are lost"]
pub struct Pool {
    first: u32,
    count: u32,
}

impl Pool {
    /// How many frames are free.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }
}

impl FrameTable {
    /// Whether `task` may donate `count` frames from `first`: owned by it and mapped in no guest.
    ///
    /// # Errors
    /// `BadCount`, `NotRam`, `NotYours`, `KernelObject`, `StillMapped`.
    pub fn donatable(&self, first: Pfn, count: u64, task: u8) -> Result<(), Refused> {
        if count == 0 || count > 512 {
            return Err(Refused::BadCount);
        }
        let end = first.0.checked_add(count).ok_or(Refused::NotRam)?;
        match self.grantable(first.0..end, Granter { task, vm: 0 }) {
            Ok(Found::Unmapped) => Ok(()),
            Ok(Found::Mapped) | Err(Refused::OtherVm) => Err(Refused::StillMapped),
            Err(refused) => Err(refused),
        }
    }

    /// Moves a donatable frame, or a table that is not used any more, empty and out of its owner's sight, to the pool of
    /// `vm`.
    pub fn donate(&self, pfn: Pfn, pool: &mut Pool, vm: u8) {
        let owner = self.entry(pfn).owner();
        self.set(pfn, Entry::new(Use::Pool, owner, vm_bit(vm), 0, pool.first));
        pool.first = pfn.0 as u32;
        pool.count += 1;
    }

    /// Takes `count` cleared frames from a pool, all or none.
    pub fn take(&self, pool: &mut Pool, count: u32) -> Option<Pool> {
        pool.count = pool.count.checked_sub(count)?;
        let taken = Pool { first: pool.first, count };
        for _ in 0..count {
            pool.first = self.entry(Pfn(u64::from(pool.first))).mappings();
        }
        Some(taken)
    }

    /// Uses the next of `frames` for a table.
    pub fn next_table(&self, frames: &mut Pool) -> Option<Pfn> {
        frames.count = frames.count.checked_sub(1)?;
        let pfn = Pfn(u64::from(frames.first));
        let entry = self.entry(pfn);
        frames.first = entry.mappings();
        self.set(pfn, Entry::new(Use::Table, entry.owner(), entry.0 & VMS, 0, 0));
        Some(pfn)
    }
}
