//! The frame table: who owns each 4 KiB frame of RAM, and what it is used for.
//!
//! One 64-bit word a frame, and one more for each block of 512 frames, as a large page maps them: whose the block is, how
//! many of its frames are free, and which VM maps it whole. A frame is mapped as often as its own word and its block's
//! say together: a large page is noted in one word, a small one in two. Together with the EPTs the table is the ledger:
//! there is no second copy that could disagree.

mod entry;
mod owned;
mod pool;

pub use entry::{Entry, Use};
pub use pool::Pool;

use crate::ept::pages;
use core::convert::Infallible;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use entry::{MAPPING, VMS, vm_bit};
use ipc_proto::grant::Pfn;
use ipc_proto::refused::Refused;

/// Frames in a block.
const BLOCK: usize = 512;
// The word of a block: `Owned` in bits 3:0 when a frame has an owner, that owner in 15:8, `SEVERAL`, a bit for the VM that
// maps it whole in 23:16, free frames in 33:24, large mappings in 63:36. A frame is free when it is `Owned` and its own word
// counts no mapping.

/// The block's frames have several owners.
const SEVERAL: u64 = 1 << 4;
/// A free frame, in a block's word.
const FREE: u64 = 1 << 24;
/// One large mapping, in a block's word.
const LARGE: u64 = 1 << 36;
/// Whose grant it is, for the check of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Granter {
    /// The pager's task.
    pub task: u8,
    /// The VM that shall see the frame.
    pub vm: u8,
}

/// Frames beside each other that EPT entries of one level map.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first.
    pub first: Pfn,
    /// How many 4 KiB frames.
    pub count: u64,
    /// The entries' level. Above 1, both ends lie between blocks, and the mappings are noted in the words of those.
    pub level: u8,
}

impl Run {
    /// `count` frames from `first` that 4 KiB entries map.
    #[must_use]
    pub const fn small(first: Pfn, count: u64) -> Self {
        Self { first, count, level: 1 }
    }

    /// The word of a frame or block that `task` owns and nothing maps; one mapping in it; and what the word of a block has
    /// more for each such frame in it.
    #[inline(always)]
    const fn units(self, task: u8) -> (u64, u64, u64) {
        if self.level > 1 { (free_block(task), LARGE, 0) } else { (free(task), MAPPING, FREE) }
    }
}

/// How the frames of a grant were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None of them is mapped.
    Unmapped,
    /// Some are mapped in the VM already.
    Mapped,
}

/// What the first mapping by a VM adds to the word of a frame: made once for each VM.
#[derive(Clone, Copy, Debug)]
pub struct FirstMapping(u64);

impl FirstMapping {
    /// That of `vm`.
    #[must_use]
    pub const fn of(vm: u8) -> Self {
        Self(vm_bit(vm) | MAPPING)
    }
}

/// The word of a frame of `task` that is mapped nowhere.
#[inline(always)]
const fn free(task: u8) -> u64 {
    Entry::new(Use::Owned, task, 0, 0, 0).0
}

/// The word of a block of `task` in which every frame is free.
#[inline(always)]
const fn free_block(task: u8) -> u64 {
    free(task) + FREE * BLOCK as u64
}

/// Runs are gone over so many words at a time: a step is a few instructions, which the loop must not double.
const CHUNK: usize = 16;

/// Goes over the words of a run with what the step before says.
#[inline(always)]
pub fn fold<'a, A>(run: &'a [AtomicU64], from: A, mut step: impl FnMut(A, &'a AtomicU64) -> A) -> A {
    let Ok(all) = try_fold(run, from, |all, word| Ok::<_, Infallible>(step(all, word)));
    all
}

/// The same, up to the first error.
///
/// # Errors
/// That of a step.
#[inline(always)]
pub fn try_fold<'a, A, E>(
    run: &'a [AtomicU64],
    mut all: A,
    mut step: impl FnMut(A, &'a AtomicU64) -> Result<A, E>,
) -> Result<A, E> {
    let (chunks, rest) = run.as_chunks::<CHUNK>();
    for chunk in chunks {
        for word in chunk {
            all = step(all, word)?;
        }
    }
    for word in rest {
        all = step(all, word)?;
    }
    Ok(all)
}

/// The table, indexed by frame number.
pub struct FrameTable {
    blocks: &'static [AtomicU64],
    frames: &'static [AtomicU64],
}

impl FrameTable {
    /// A table over `words`, all zero: every frame is absent.
    #[must_use]
    pub const fn new(words: &'static [AtomicU64]) -> Self {
        let (blocks, frames) = words.split_at(words.len().div_ceil(1 + BLOCK));
        Self { blocks, frames }
    }

    /// How many words a table of so many frames needs.
    #[must_use]
    pub const fn words(frames: usize) -> usize {
        frames + frames.div_ceil(BLOCK)
    }

    /// The words of a frame's block and of the frame.
    #[inline(always)]
    fn slots(&self, pfn: Pfn) -> Option<(&AtomicU64, &AtomicU64)> {
        Some((self.blocks.get(pfn.0 as usize / BLOCK)?, self.frames.get(pfn.0 as usize)?))
    }

    /// The entry of a frame, with what maps its block whole; absent beyond the end.
    #[must_use]
    pub fn entry(&self, pfn: Pfn) -> Entry {
        let Some((whole, entry)) = self.slots(pfn) else { return Entry(0) };
        let (whole, entry) = (whole.load(Relaxed), Entry(entry.load(Relaxed)));
        if entry.used() == Use::Owned { Entry((entry.0 | whole & VMS) + whole / LARGE * MAPPING) } else { entry }
    }

    /// How many frames the table covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Makes the word of a frame that is not mapped `entry`, and its block's what follows of that.
    fn set(&self, pfn: Pfn, entry: Entry) {
        let Some((whole, slot)) = self.slots(pfn) else { return };
        let owned = |word: u64| Entry(word).used() == Use::Owned;
        let (before, mut block) = (slot.load(Relaxed), whole.load(Relaxed));
        slot.store(entry.0, Relaxed);
        block -= if owned(before) { FREE } else { 0 };
        if owned(entry.0) {
            let owner = free(entry.owner());
            block = if owned(block) && Entry(block).owner() != entry.owner() { block | SEVERAL } else { block | owner };
            block += FREE;
        }
        whole.store(block, Relaxed);
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

    /// Notes that EPT entries of a VM are going to map the frames of a run, if `by` may grant all of them. Words change by
    /// one operation each, so that of two CPUs that want a frame for two VMs one is refused.
    ///
    /// # Errors
    /// `NotRam`, `KernelObject`, `NotYours`, `OtherVm`; nothing has changed then.
    #[inline(always)]
    pub fn claim(&self, run: Run, by: Granter) -> Result<(), Refused> {
        let end = run.first.0.checked_add(run.count).filter(|end| *end <= self.size());
        let frames = run.first.0..end.ok_or(Refused::NotRam)?;
        let (free, one, in_block) = run.units(by.task);
        let mapped = free | vm_bit(by.vm) | one;
        let mut claimed = 0;
        for (whole, words) in self.parts(run) {
            let count = Self::claim_part(whole, words, (free, mapped, in_block));
            claimed += count * pages(run.level);
            if count < words.len() as u64 {
                self.unmap(Run { count: claimed, ..run });
                return self.claim_mapped(run, frames, by);
            }
        }
        Ok(())
    }

    /// Turns `words` of the block `whole`, up to the first that is not `free`, into `mapped`. Says how many.
    #[inline(always)]
    fn claim_part(whole: &AtomicU64, words: &[AtomicU64], (free, mapped, in_block): (u64, u64, u64)) -> u64 {
        let len = words.len() as u64;
        let large = whole.fetch_sub(in_block * len, AcqRel) & VMS != 0 && in_block != 0;
        // What was found in a word, that it is free, is what is expected in the next.
        let claim = |(free, count), word: &AtomicU64| {
            let found = word.compare_exchange(free, mapped, AcqRel, Relaxed);
            found.map(|free| (free, count + 1)).map_err(|_| count)
        };
        let (Ok((_, count)) | Err(count)) = if large { Err(0) } else { try_fold(words, (free, 0), claim) };
        if count < len {
            whole.fetch_add(in_block * (len - count), AcqRel);
        }
        count
    }

    /// [`FrameTable::claim`] when some are mapped already, or may not be granted.
    #[cold]
    fn claim_mapped(&self, run: Run, frames: Range<u64>, by: Granter) -> Result<(), Refused> {
        self.grantable(frames, by)?;
        self.map(run, by.vm);
        Ok(())
    }

    /// Whether every one of `frames` may be granted by `by`, and how they were found.
    ///
    /// # Errors
    /// `NotRam`, `KernelObject`, `NotYours`, `OtherVm`.
    pub fn grantable(&self, frames: Range<u64>, by: Granter) -> Result<Found, Refused> {
        frames.map(|pfn| self.entry(Pfn(pfn))).try_fold(Found::Unmapped, |found, entry| match entry.used() {
            Use::Absent => Err(Refused::NotRam),
            Use::Kernel | Use::Module | Use::Pool | Use::Table => Err(Refused::KernelObject),
            Use::Owned if entry.owner() != by.task => Err(Refused::NotYours),
            Use::Owned if entry.vm().is_some_and(|vm| vm != by.vm) => Err(Refused::OtherVm),
            Use::Owned => Ok(if entry.mappings() == 0 { found } else { Found::Mapped }),
        })
    }

    /// [`FrameTable::claim`] of the usual frame of a fault: one that is mapped nowhere. Says whether it is claimed.
    #[inline(always)]
    pub fn claim_page(&self, pfn: Pfn, task: u8, first: FirstMapping) -> bool {
        let Some((whole, entry)) = self.slots(pfn) else { return false };
        let free = free(task);
        let claimed = whole.fetch_sub(FREE, AcqRel) & VMS == 0
            && entry.compare_exchange(free, free + first.0, AcqRel, Relaxed).is_ok();
        if !claimed {
            whole.fetch_add(FREE, AcqRel);
        }
        claimed
    }

    /// The same of `count` frames of one block.
    #[inline(always)]
    pub fn claim_run(&self, pfn: Pfn, count: usize, task: u8, first: FirstMapping) -> bool {
        let (number, place) = (pfn.0 as usize / BLOCK, pfn.0 as usize % BLOCK);
        let words = self.frames.get(pfn.0 as usize..).and_then(|words| words.get(..count));
        let (Some(whole), Some(words)) = (self.blocks.get(number), words.filter(|_| place + count <= BLOCK)) else {
            return false;
        };
        let free = free(task);
        let claimed = Self::claim_part(whole, words, (free, free + first.0, FREE));
        if claimed < count as u64 {
            self.unmap(Run::small(pfn, claimed));
        }
        claimed == count as u64
    }

    /// [`FrameTable::claim`] of a block of which nothing is mapped. Says whether it is claimed.
    #[inline(always)]
    pub fn claim_block(&self, first: Pfn, by: Granter) -> bool {
        let free = free_block(by.task);
        let claim = |whole: &AtomicU64| whole.compare_exchange(free, free | vm_bit(by.vm) | LARGE, AcqRel, Relaxed);
        self.blocks.get(first.0 as usize / BLOCK).is_some_and(|whole| claim(whole).is_ok())
    }

    /// Notes that EPT entries of `vm` map the frames of `run`, which were found grantable.
    pub fn map(&self, run: Run, vm: u8) {
        let (_, one, in_block) = run.units(0);
        for (whole, words) in self.parts(run) {
            let first = fold(words, 0, |first, word| {
                word.fetch_or(vm_bit(vm), AcqRel);
                first + u64::from(word.fetch_add(one, AcqRel) < one)
            });
            whole.fetch_sub(in_block * first, AcqRel);
        }
    }

    /// Notes that the EPT entries that mapped the frames of `run`, or were going to, are gone.
    pub fn unmap(&self, run: Run) {
        let (_, one, in_block) = run.units(0);
        for (whole, words) in self.parts(run) {
            let Some(owned) = words.first().map(|word| word.load(Relaxed) & (one - 1)) else { return };
            // Mapped once and owned like the first: the usual frame.
            let (once, free) = (owned | one, owned & !VMS);
            let (_, left) = fold(words, (once, 0), |(expected, left), word| {
                match word.compare_exchange(expected, free, AcqRel, Relaxed) {
                    Ok(found) => (found, left),
                    Err(_) => (once, left + Self::less(word, one)),
                }
            });
            whole.fetch_add(in_block * (words.len() as u64 - left), AcqRel);
        }
    }

    /// One mapping less. Says whether there are more: 1 or 0.
    #[cold]
    #[inline(never)]
    fn less(word: &AtomicU64, one: u64) -> u64 {
        let before = word.fetch_sub(one, AcqRel);
        if before < 2 * one {
            word.fetch_and(!VMS, AcqRel);
        }
        u64::from(before >= 2 * one)
    }

    /// The blocks that a run lies in: the word of each, and the words in which the run's mappings are counted.
    #[inline(always)]
    fn parts(&self, run: Run) -> impl Iterator<Item = (&AtomicU64, &[AtomicU64])> {
        let (mut first, end) = (run.first.0 as usize, (run.first.0 + run.count) as usize);
        core::iter::from_fn(move || {
            let block = self.blocks.get(first / BLOCK).filter(|_| first < end)?;
            let from = first;
            first = end.min((from / BLOCK + 1) * BLOCK);
            let words = if run.level > 1 { core::slice::from_ref(block) } else { self.frames.get(from..first)? };
            Some((block, words))
        })
    }

    /// Whether the word of the block of `first` says what the words of its frames do.
    #[must_use]
    pub fn block_is_true(&self, first: Pfn) -> bool {
        let number = first.0 as usize / BLOCK;
        let frames = self.frames.iter().skip(number * BLOCK).take(BLOCK);
        let Some(whole) = self.blocks.get(number).map(|word| word.load(Relaxed)) else { return true };
        let owned =
            || frames.clone().map(|entry| Entry(entry.load(Relaxed))).filter(|entry| entry.used() == Use::Owned);
        let free = owned().filter(|entry| entry.mappings() == 0).count() as u64;
        let of_one = whole & SEVERAL != 0 || owned().all(|entry| entry.owner() == Entry(whole).owner());
        whole / FREE % (LARGE / FREE) == free && of_one && (whole & VMS == 0) == (whole < LARGE)
    }
}

#[cfg(test)]
mod tests;
