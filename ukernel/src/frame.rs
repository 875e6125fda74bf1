//! The frame table: who owns each 4 KiB frame of RAM, and what it is used for.
//!
//! One 64-bit entry a frame. Together with the EPTs it is the ledger: there is no second copy that could disagree.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::grant::Pfn;
use ipc_proto::refused::Refused;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// No RAM, or RAM that the firmware keeps.
    Absent = 0,
    /// The kernel's image and objects.
    Kernel = 1,
    /// A boot module.
    Module = 2,
    /// A task's, to grant or to donate.
    Owned = 3,
    /// Donated to a VM, free for a table.
    Pool = 4,
    /// Donated to a VM, and a table of its EPT or window.
    Table = 5,
}

/// One entry: use in bits 3:0, owner in 15:8, VM in 23:16 (plus one), level in 31:24, mappings or link in 63:32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    const fn new(used: Use, owner: u8, vm: u8, level: u8, word: u32) -> Self {
        Self(used as u64 | (owner as u64) << 8 | (vm as u64) << 16 | (level as u64) << 24 | (word as u64) << 32)
    }

    /// What the frame is used for.
    #[must_use]
    pub const fn used(self) -> Use {
        match self.0 & 0xf {
            1 => Use::Kernel,
            2 => Use::Module,
            3 => Use::Owned,
            4 => Use::Pool,
            5 => Use::Table,
            _ => Use::Absent,
        }
    }

    /// The task that owns it, or donated it.
    #[must_use]
    pub const fn owner(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The VM in which it is mapped, or whose table it is.
    #[must_use]
    pub const fn vm(self) -> Option<u8> {
        match (self.0 >> 16) as u8 {
            0 => None,
            vm => Some(vm - 1),
        }
    }

    /// How many EPT entries map it, counting a large page once for each of its frames.
    #[must_use]
    pub const fn mappings(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Table frames that were taken from a pool together: a list linked through the frame table, like the pool.
#[derive(Debug, Default)]
#[must_use = "table frames that are dropped are lost"]
pub struct TableFrames {
    first: u32,
    count: u32,
}

/// The free table frames of a VM: a list linked through the frame table.
#[derive(Debug, Default)]
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

/// Whose grant it is, for the check of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Granter {
    /// The pager's task.
    pub task: u8,
    /// The VM that shall see the frame.
    pub vm: u8,
}

/// The table, indexed by frame number.
pub struct FrameTable {
    entries: &'static [AtomicU64],
}

impl FrameTable {
    /// A table over `entries`, one a frame from frame 0 on, all absent.
    #[must_use]
    pub const fn new(entries: &'static [AtomicU64]) -> Self {
        Self { entries }
    }

    /// The entry of a frame; absent beyond the end.
    #[must_use]
    pub fn entry(&self, pfn: Pfn) -> Entry {
        self.entries.get(pfn.0 as usize).map_or(Entry(0), |entry| Entry(entry.load(Relaxed)))
    }

    /// How many frames the table covers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it covers no frame at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn set(&self, pfn: Pfn, entry: Entry) {
        if let Some(slot) = self.entries.get(pfn.0 as usize) {
            slot.store(entry.0, Relaxed);
        }
    }

    /// At boot: frame `pfn` is used so.
    pub fn found(&self, pfn: Pfn, used: Use) {
        self.set(pfn, Entry::new(used, 0, 0, 0, 0));
    }

    /// At boot: frame `pfn` belongs to `task`.
    pub fn assign(&self, pfn: Pfn, task: u8) {
        self.set(pfn, Entry::new(Use::Owned, task, 0, 0, 0));
    }

    /// At boot: frame `pfn` is the root table of `vm`.
    pub fn assign_root(&self, pfn: Pfn, vm: u8) {
        self.set(pfn, Entry::new(Use::Table, 0, vm + 1, 4, 0));
    }

    /// Whether every one of `count` frames may be granted by `by`.
    ///
    /// # Errors
    /// `NotRam`, `KernelObject`, `NotYours`, `OtherVm`.
    #[inline(always)]
    pub fn grantable(&self, first: Pfn, count: u64, by: Granter) -> Result<(), Refused> {
        let end = first.0.checked_add(count).ok_or(Refused::NotRam)?;
        let run = self.entries.get(first.0 as usize..end as usize).ok_or(Refused::NotRam)?;
        let free = Entry::new(Use::Owned, by.task, 0, 0, 0).0;
        let mapped_here = Entry::new(Use::Owned, by.task, by.vm + 1, 0, 0).0;
        for entry in run {
            let known = entry.load(Relaxed) & 0xffff_ffff;
            if known != free && known != mapped_here {
                return Err(Self::why_not(Entry(known), by));
            }
        }
        Ok(())
    }

    #[cold]
    fn why_not(entry: Entry, by: Granter) -> Refused {
        match entry.used() {
            Use::Absent => Refused::NotRam,
            Use::Kernel | Use::Module | Use::Pool | Use::Table => Refused::KernelObject,
            Use::Owned if entry.owner() != by.task => Refused::NotYours,
            Use::Owned => Refused::OtherVm,
        }
    }

    /// Notes that an EPT entry of `vm` maps `count` frames from `first`, which were found grantable.
    #[inline(always)]
    pub fn map(&self, first: Pfn, count: u64, vm: u8) {
        for entry in self.run(first, count) {
            let known = entry.load(Relaxed) & !(0xff << 16);
            entry.store((known | (u64::from(vm) + 1) << 16) + (1 << 32), Relaxed);
        }
    }

    /// Notes that an EPT entry that mapped `count` frames from `first` is gone.
    #[inline]
    pub fn unmap(&self, first: Pfn, count: u64) {
        for entry in self.run(first, count) {
            let left = entry.load(Relaxed) - (1 << 32);
            let known = if left >> 32 == 0 { left & !(0xff << 16) } else { left };
            entry.store(known, Relaxed);
        }
    }

    fn run(&self, first: Pfn, count: u64) -> &[AtomicU64] {
        let first = first.0 as usize;
        self.entries.get(first..first + count as usize).unwrap_or_default()
    }

    /// Whether `task` may donate `count` frames from `first`: owned by it and mapped in no guest.
    ///
    /// # Errors
    /// `BadCount`, `NotRam`, `NotYours`, `KernelObject`, `StillMapped`.
    pub fn donatable(&self, first: Pfn, count: u64, task: u8) -> Result<(), Refused> {
        if count == 0 || count > 512 {
            return Err(Refused::BadCount);
        }
        self.grantable(first, count, Granter { task, vm: u8::MAX - 1 }).map_err(|refused| match refused {
            Refused::OtherVm => Refused::StillMapped,
            other => other,
        })
    }

    /// Moves a donatable frame, cleared and out of its owner's sight, to the pool of `vm`.
    pub fn donate(&self, pfn: Pfn, pool: &mut Pool, vm: u8) {
        let owner = self.entry(pfn).owner();
        self.set(pfn, Entry::new(Use::Pool, owner, vm + 1, 0, pool.first));
        pool.first = pfn.0 as u32;
        pool.count += 1;
    }

    /// Takes `count` cleared frames from a pool, all or none.
    pub fn take(&self, pool: &mut Pool, count: u32) -> Option<TableFrames> {
        pool.count = pool.count.checked_sub(count)?;
        let taken = TableFrames { first: pool.first, count };
        for _ in 0..count {
            pool.first = self.entry(Pfn(u64::from(pool.first))).mappings();
        }
        Some(taken)
    }

    /// Uses the next of `frames` for a table.
    pub fn next_table(&self, frames: &mut TableFrames) -> Option<Pfn> {
        frames.count = frames.count.checked_sub(1)?;
        let pfn = Pfn(u64::from(frames.first));
        let entry = self.entry(pfn);
        frames.first = entry.mappings();
        self.set(pfn, Entry::new(Use::Table, entry.owner(), (entry.0 >> 16) as u8, 0, 0));
        Some(pfn)
    }
}

#[cfg(test)]
mod tests;
