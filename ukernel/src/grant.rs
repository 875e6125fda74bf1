//! Mapping grants: `decode` checks everything and changes nothing, `perform` changes everything and cannot fail.

use crate::arch::vmx::ept_entry::{EptFormat, TRACES, seen_by};
use crate::ept::{Entry, Format, Leaf, Place, TableMemory, Tree, pages};
use crate::frame::{FrameTable, Granter, Pool, Run, fold, try_fold};
use crate::vm::StaleTlb;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::grant::{ClaimedGrant, Grant, Level, Pfn, Rights};
use ipc_proto::refused::Refused;
use spin::Mutex;

/// What a grant is checked against.
pub struct Against<'a, M> {
    /// The task that grants, and the VM.
    pub by: Granter,
    /// The VM's EPT.
    pub ept: &'a Tree<'a, EptFormat, M>,
    /// Frames in the VM's address space.
    pub guest_frames: u64,
    /// The VM's present invalidation sequence number.
    pub mmu_seq: u64,
    /// What the CPU's EPT can do.
    pub shapes: Shapes,
}

/// What the CPU's EPT can do beyond the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// The largest page.
    pub largest: Level,
    /// Whether a page may be fetched from but not read.
    pub execute_only: bool,
}

/// A grant that was found good: its frames are claimed, and the table frames that it needs are its own.
pub struct Plan<'m> {
    grant: Grant,
    place: Place<'m>,
    tables: Pool,
}

/// Checks and installs a grant. Says how many 4 KiB frames are mapped more than before.
///
/// # Errors
/// The first reason against it; nothing has changed then.
#[inline(always)]
pub fn install<M: TableMemory>(
    claim: ClaimedGrant,
    against: &Against<'_, M>,
    frames: &FrameTable,
    pool: &Mutex<Pool>,
) -> Result<(StaleTlb, u64), Refused> {
    Ok(perform(decode(claim.typed()?, against, frames, pool)?, against.ept, frames))
}

/// Checks everything, changes nothing but what the plan owns: its claim to the frames, and table frames from the pool.
///
/// # Errors
/// The first reason against it; nothing has changed then.
#[inline(always)]
fn decode<'m, M: TableMemory>(
    grant: Grant,
    against: &Against<'m, M>,
    frames: &FrameTable,
    pool: &Mutex<Pool>,
) -> Result<Plan<'m>, Refused> {
    check_shape(&grant, against)?;
    let (level, size) = (grant.level as u8, grant.level.frames());
    let run = Run { first: grant.pfn, count: u64::from(grant.count) * size, level };
    frames.claim(run, against.by)?;
    let place = against.ept.walk(grant.gfn.0, level);
    if place.level == 1 {
        return Ok(Plan { grant, place, tables: Pool::default() });
    }
    let tables = tables_for(&place, level, usize::from(grant.count), frames, pool);
    tables.map(|tables| Plan { grant, place, tables }).inspect_err(|_| frames.unmap(run))
}

/// The tables that are missing between `place` and `level`, where none may be for `count` entries.
#[cold]
fn tables_for(
    place: &Place,
    level: u8,
    count: usize,
    frames: &FrameTable,
    pool: &Mutex<Pool>,
) -> Result<Pool, Refused> {
    if place.level > level {
        return match EptFormat::decode(place.entry, place.level) {
            Entry::Empty => frames.take(&mut pool.lock(), u32::from(place.level - level)).ok_or(Refused::NoTables),
            Entry::Leaf(_) | Entry::Table(_) => Err(Refused::LargePageThere),
        };
    }
    let run = &place.table[place.index..place.index + count];
    let table = run.iter().any(|entry| EptFormat::next(entry.load(Relaxed)).is_some());
    if table { Err(Refused::TablesThere) } else { Ok(Pool::default()) }
}

#[inline(always)]
fn check_shape<M>(grant: &Grant, against: &Against<M>) -> Result<(), Refused> {
    let Grant { gfn, pfn, count, level, rights, mmu_seq, .. } = *grant;
    let size = level.frames();
    if level > against.shapes.largest {
        return Err(Refused::BadLevel);
    }
    let unreadable = !rights.contains(Rights::READ);
    if unreadable && (rights != Rights::EXECUTE || !against.shapes.execute_only) {
        return Err(Refused::BadRights);
    }
    if (gfn.0 | pfn.0) & (size - 1) != 0 {
        return Err(Refused::Misaligned);
    }
    if (gfn.0 / size) % 512 + u64::from(count) > 512 {
        return Err(Refused::CrossesTable);
    }
    if gfn.0 >= against.guest_frames || u64::from(count) * size > against.guest_frames - gfn.0 {
        return Err(Refused::BeyondGuest);
    }
    if mmu_seq != against.mmu_seq {
        return Err(Refused::Stale);
    }
    Ok(())
}

/// Changes everything, checks nothing: the plan is the check. Says how many 4 KiB frames are mapped more than before.
#[inline(always)]
fn perform<M: TableMemory>(plan: Plan<'_>, ept: &Tree<'_, EptFormat, M>, frames: &FrameTable) -> (StaleTlb, u64) {
    let Plan { grant, mut place, mut tables } = plan;
    let Grant { pfn, count, level, rights, mem_type, .. } = grant;
    if place.level > level as u8 {
        place = link(place, &grant, ept, frames, &mut tables);
    }
    let run = &place.table[place.index..(place.index + usize::from(count)).min(512)];
    let first = EptFormat::leaf(pfn, level as u8, rights, mem_type) | seen_by(grant.seen_by);
    // The common size is made apart, so that its steps are constants.
    if level == Level::Page { put(run, first, Level::Page, frames) } else { put(run, first, level, frames) }
}

/// Puts leaves of `level` into all entries of `run`: `first` and what follows it, whose frames are claimed. Says how many
/// 4 KiB frames are mapped more than before.
#[inline(always)]
pub fn put(run: &[AtomicU64], first: u64, level: Level, frames: &FrameTable) -> (StaleTlb, u64) {
    let step = level.frames() << 12;
    // What was found in an entry, nothing, is what is expected in the next.
    let end = try_fold(run, (first, 0), |(leaf, nothing), slot| {
        let found = slot.compare_exchange(nothing, leaf, AcqRel, Relaxed);
        found.map(|nothing| (leaf + step, nothing)).map_err(|_| leaf)
    });
    let (Ok((end, _)) | Err(end)) = end;
    let filled = ((end - first) / step) as usize;
    let added = (end - first) >> 12;
    if filled == run.len() {
        return (StaleTlb::Nothing, added);
    }
    let (stale, more) = replace_run(&run[filled..], end, level, frames);
    (stale, added + more)
}

#[cold]
fn link<'m, M: TableMemory>(
    place: Place<'m>,
    grant: &Grant,
    ept: &Tree<'m, EptFormat, M>,
    frames: &FrameTable,
    tables: &mut Pool,
) -> Place<'m> {
    // The plan has as many frames as there are levels.
    ept.extend(place, grant.gfn.0, grant.level as u8, || frames.next_table(tables)).unwrap_or(place)
}

/// Installs a run where something is mapped already.
#[cold]
fn replace_run(run: &[AtomicU64], first: u64, level: Level, frames: &FrameTable) -> (StaleTlb, u64) {
    let size = level.frames();
    let (mut stale, mut added) = (StaleTlb::Nothing, 0);
    for (n, slot) in run.iter().enumerate() {
        let offset = n as u64 * size;
        let leaf = first + (offset << 12);
        if slot.compare_exchange(0, leaf, AcqRel, Relaxed).is_ok() {
            added += size;
        } else {
            let (more_stale, more) = replace(slot, leaf, level, frames);
            stale = stale.and(more_stale);
            added += more;
        }
    }
    (stale, added)
}

/// Something is there already: the new leaf takes its place. More rights on the same frame need no flush, since the CPU
/// drops what it cached of an address whose access faulted (SDM vol. 3C, 29.4.3.1). Says how many frames are mapped more.
fn replace(slot: &AtomicU64, leaf: u64, level: Level, frames: &FrameTable) -> (StaleTlb, u64) {
    let (size, level) = (level.frames(), level as u8);
    let old = slot.swap(leaf | slot.load(Relaxed) & TRACES, AcqRel);
    let Entry::Leaf(after) = EptFormat::decode(leaf, level) else { return (StaleTlb::Nothing, 0) };
    let Entry::Leaf(before) = EptFormat::decode(old, level) else {
        // An answer that was remembered; the CPU caches no misconfiguration.
        return (StaleTlb::Nothing, size);
    };
    // If it is the same frame, it was counted twice.
    frames.unmap(Run { first: before.pfn, count: size, level });
    let same = Leaf { accessed: false, dirty: false, rights: after.rights, allowed: after.rights, ..before };
    let stale = same != after || !after.rights.contains(before.allowed);
    (if stale { StaleTlb::Some } else { StaleTlb::Nothing }, 0)
}

/// Takes what is in `count` entries from `place`, which refer to no tables. Says how many 4 KiB frames they mapped.
pub fn withdraw(place: &Place<'_>, count: usize, frames: &FrameTable) -> u64 {
    let step = pages(place.level) << 12;
    let mut taken = Taken { frames, level: place.level, first: Pfn(0), gone: 0 };
    let next = fold(&place.table[place.index..place.index + count], NOTHING, |next, slot| {
        let entry = slot.swap(0, AcqRel) & !TRACES;
        if entry == next { next + step } else { taken.begin(next, entry) }
    });
    taken.begin(next, 0);
    taken.gone
}

/// No entry at all.
const NOTHING: u64 = u64::MAX;

/// Leaves that were taken out one after another and map frames one after another.
struct Taken<'a> {
    frames: &'a FrameTable,
    level: u8,
    first: Pfn,
    gone: u64,
}

impl Taken<'_> {
    /// Tells the ledger of the leaves from `first` to before `next`, and begins anew with `entry`. Says which would follow
    /// that.
    #[cold]
    fn begin(&mut self, next: u64, entry: u64) -> u64 {
        if next != NOTHING
            && let Entry::Leaf(next) = EptFormat::decode(next, self.level)
        {
            let count = next.pfn.0 - self.first.0;
            self.frames.unmap(Run { first: self.first, count, level: self.level });
            self.gone += count;
        }
        match EptFormat::decode(entry, self.level) {
            Entry::Leaf(leaf) => {
                self.first = leaf.pfn;
                entry + (pages(self.level) << 12)
            }
            Entry::Empty | Entry::Table(_) => NOTHING,
        }
    }
}

#[cfg(test)]
mod tests;
