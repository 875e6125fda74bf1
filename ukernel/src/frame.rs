//! The frame table: who owns each 4 KiB frame of RAM, and what it is used for.
//!
//! One 64-bit entry a frame. Together with the EPTs it is the ledger: there is no second copy that could disagree.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::grant::Pfn;
use ipc_proto::manifest::MAX_VMS;
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

/// One entry: use in bits 3:0, owner in 15:8, a bit for its VM in 23:16, level in 31:24, mappings or link in 63:32. A VM is
/// a bit so that a run of frames is checked with one operation for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

/// One mapping, in an entry.
const MAPPING: u64 = 1 << 32;
/// The bits of an entry that say which VM maps it.
const VMS: u64 = 0xff << 16;
const _: () = assert!(MAX_VMS <= 8, "each VM has a bit");

/// The bit of a VM in an entry.
const fn vm_bit(vm: u8) -> u64 {
    1 << (16 + vm % 8)
}

impl Entry {
    const fn new(used: Use, owner: u8, vm: u64, level: u8, word: u32) -> Self {
        Self(used as u64 | (owner as u64) << 8 | vm | (level as u64) << 24 | (word as u64) << 32)
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
        match (self.0 & VMS) >> 16 {
            0 => None,
            bit => Some(bit.trailing_zeros() as u8),
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

/// How the frames of a grant were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None of them is mapped.
    Unmapped,
    /// Some are mapped in the VM already.
    Mapped,
}

/// A frame that may be granted and is mapped nowhere.
pub struct Unmapped<'a> {
    entry: &'a AtomicU64,
    by: Granter,
}

impl Unmapped<'_> {
    /// Notes that an EPT entry maps it.
    #[inline(always)]
    pub fn granted(self) {
        self.entry.store(Entry::new(Use::Owned, self.by.task, vm_bit(self.by.vm), 0, 1).0, Relaxed);
    }
}

/// All of `change(entry)` or-ed together: several at a time, since a run is long and each step short.
#[inline(always)]
fn or_each(run: &[AtomicU64], change: impl Fn(u64) -> u64) -> u64 {
    let (chunks, rest) = run.as_chunks::<CHUNK>();
    let mut all = 0;
    for chunk in chunks {
        all |= chunk.iter().fold(0, |all, entry| all | change(entry.load(Relaxed)));
    }
    rest.iter().fold(all, |all, entry| all | change(entry.load(Relaxed)))
}

/// Makes every entry of a run `value`.
#[inline(always)]
fn set_each(run: &[AtomicU64], value: u64) {
    each(run, |entry| entry.store(value, Relaxed));
}

/// Runs are gone over so many entries at a time: a step is a few instructions, which the loop must not double.
pub const CHUNK: usize = 32;

/// Does `step` for each entry of a run.
#[inline(always)]
pub fn each<'a>(run: &'a [AtomicU64], mut step: impl FnMut(&'a AtomicU64)) {
    let (chunks, rest) = run.as_chunks::<{ CHUNK / 2 }>();
    chunks.iter().for_each(|chunk| chunk.iter().for_each(&mut step));
    rest.iter().for_each(step);
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
        self.set(pfn, Entry::new(Use::Table, 0, vm_bit(vm), 4, 0));
    }

    /// Whether every one of `count` frames may be granted by `by`, and whether any is mapped already.
    ///
    /// # Errors
    /// `NotRam`, `KernelObject`, `NotYours`, `OtherVm`.
    #[inline(always)]
    pub fn grantable(&self, first: Pfn, count: u64, by: Granter) -> Result<Found, Refused> {
        let end = first.0.checked_add(count).ok_or(Refused::NotRam)?;
        let run = self.entries.get(first.0 as usize..end as usize).ok_or(Refused::NotRam)?;
        let free = Entry::new(Use::Owned, by.task, 0, 0, 0).0;
        let other = or_each(run, |entry| entry ^ free);
        if other == 0 {
            return Ok(Found::Unmapped);
        }
        if other & (MAPPING - 1) & !vm_bit(by.vm) == 0 {
            return Ok(Found::Mapped);
        }
        Err(Self::why_not(run, by))
    }

    #[cold]
    fn why_not(run: &[AtomicU64], by: Granter) -> Refused {
        let refused = |entry: Entry| match entry.used() {
            Use::Absent => Some(Refused::NotRam),
            Use::Kernel | Use::Module | Use::Pool | Use::Table => Some(Refused::KernelObject),
            Use::Owned if entry.owner() != by.task => Some(Refused::NotYours),
            Use::Owned => entry.vm().filter(|vm| *vm != by.vm).map(|_| Refused::OtherVm),
        };
        run.iter().find_map(|entry| refused(Entry(entry.load(Relaxed)))).unwrap_or(Refused::NotRam)
    }

    /// The frame `pfn`, if it may be granted by `by` and is mapped nowhere: the usual frame of a fault.
    #[inline(always)]
    pub fn unmapped(&self, pfn: Pfn, by: Granter) -> Option<Unmapped<'_>> {
        let entry = self.entries.get(pfn.0 as usize)?;
        (entry.load(Relaxed) == Entry::new(Use::Owned, by.task, 0, 0, 0).0).then_some(Unmapped { entry, by })
    }

    /// Notes that an EPT entry maps each of `count` frames from `first`, which `by` was found to grant and which were
    /// `found` so.
    #[inline(always)]
    pub fn granted(&self, first: Pfn, count: u64, by: Granter, found: Found) {
        match found {
            Found::Unmapped => {
                let mapped = Entry::new(Use::Owned, by.task, vm_bit(by.vm), 0, 1).0;
                set_each(self.run(first, count), mapped);
            }
            Found::Mapped => self.map(first, count, by.vm),
        }
    }

    /// Notes that an EPT entry of `vm` maps `count` frames from `first`, which were found grantable.
    pub fn map(&self, first: Pfn, count: u64, vm: u8) {
        for entry in self.run(first, count) {
            entry.store((entry.load(Relaxed) | vm_bit(vm)) + MAPPING, Relaxed);
        }
    }

    /// Notes that an EPT entry that mapped `count` frames from `first` is gone.
    pub fn unmap(&self, first: Pfn, count: u64) {
        let run = self.run(first, count);
        let Some(owned) = run.first().map(|entry| entry.load(Relaxed) & (MAPPING - 1)) else { return };
        // Mapped once and owned like the first: the usual frame.
        let (once, free) = (owned | MAPPING, owned & !VMS);
        each(run, |entry| {
            if entry.load(Relaxed) == once {
                entry.store(free, Relaxed);
            } else {
                Self::less(entry);
            }
        });
    }

    /// One mapping less.
    #[cold]
    #[inline(never)]
    fn less(entry: &AtomicU64) {
        let left = entry.load(Relaxed) - MAPPING;
        entry.store(if left < MAPPING { left & !VMS } else { left }, Relaxed);
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
        match self.grantable(first, count, Granter { task, vm: 0 }) {
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
        self.set(pfn, Entry::new(Use::Table, entry.owner(), entry.0 & VMS, 0, 0));
        Some(pfn)
    }
}

#[cfg(test)]
mod tests;
