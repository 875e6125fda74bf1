//! Mapping grants: `decode` checks everything and changes nothing, `perform` changes everything and cannot fail.

use crate::arch::vmx::ept_entry::{EptFormat, TRACES};
use crate::ept::{Entry, Format, Leaf, Place, TOP, TableMemory, Tree, pages};
use crate::frame::{FrameTable, Granter, Pool, TableFrame};
use crate::vm::StaleTlb;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use heapless::Vec;
use ipc_proto::grant::{ClaimedGrant, Grant, Level, Rights};
use ipc_proto::refused::Refused;

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

/// A grant that was found good, with the table frames that it needs.
pub struct Plan<'m> {
    grant: Grant,
    place: Place<'m>,
    tables: Vec<TableFrame, { TOP as usize }>,
    vm: u8,
}

/// Checks everything, changes nothing but the pool, from which the plan owns the frames that it needs.
///
/// # Errors
/// The first reason against it; nothing has changed then.
#[inline]
pub fn decode<'m, M: TableMemory>(
    claim: ClaimedGrant,
    against: &Against<'m, M>,
    frames: &FrameTable,
    pool: &mut Pool,
) -> Result<Plan<'m>, Refused> {
    let grant = claim.typed()?;
    check_shape(&grant, against)?;
    let level = grant.level as u8;
    frames.grantable(grant.pfn, u64::from(grant.count) * pages(level), against.by)?;
    let place = against.ept.find(grant.gfn.0, level);
    check_place(&grant, &place)?;
    let missing = place.level - level;
    if pool.count() < u32::from(missing) {
        return Err(Refused::NoTables);
    }
    let mut tables = Vec::new();
    for _ in 0..missing {
        if let Some(frame) = frames.take(pool) {
            // Capacity is one frame for each level.
            let _ = tables.push(frame);
        }
    }
    Ok(Plan { grant, place, tables, vm: against.by.vm })
}

#[inline]
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

#[inline]
fn check_place(grant: &Grant, place: &Place) -> Result<(), Refused> {
    let level = grant.level as u8;
    if place.level > level {
        return match EptFormat::decode(place.entry, place.level) {
            Entry::Empty => Ok(()),
            Entry::Leaf(_) | Entry::Table(_) => Err(Refused::LargePageThere),
        };
    }
    if level > 1 {
        let run = &place.table[place.index..place.index + usize::from(grant.count)];
        let table = |entry: u64| matches!(EptFormat::decode(entry, level), Entry::Table(_));
        if run.iter().any(|entry| table(entry.load(Relaxed))) {
            return Err(Refused::TablesThere);
        }
    }
    Ok(())
}

/// Changes everything, checks nothing: the plan is the check. Returns how many 4 KiB frames are mapped more than before.
#[inline]
pub fn perform<M: TableMemory>(
    plan: Plan<'_>,
    ept: &Tree<'_, EptFormat, M>,
    frames: &FrameTable,
) -> (StaleTlb, u64) {
    let Plan { grant, place, tables, vm } = plan;
    let Grant { gfn, pfn, count, level, rights, mem_type, .. } = grant;
    let mut supply = tables.into_iter().map(TableFrame::into_pfn);
    let place = ept.extend(place, gfn.0, level as u8, || supply.next()).unwrap_or(place);
    let size = level.frames();
    let first = EptFormat::leaf(pfn, level as u8, rights, mem_type);
    let (mut stale, mut added) = (StaleTlb::Nothing, 0);
    let run = place.table.iter().skip(place.index).take(usize::from(count));
    for (n, slot) in run.enumerate() {
        let offset = n as u64 * size;
        let leaf = first + (offset << 12);
        if slot.compare_exchange(0, leaf, AcqRel, Relaxed).is_ok() {
            frames.map(ipc_proto::grant::Pfn(pfn.0 + offset), size, vm);
            added += size;
        } else if replace(slot, leaf, level, frames, vm) == StaleTlb::Some {
            stale = StaleTlb::Some;
        }
    }
    (stale, added)
}

/// Another leaf is there already: the new one takes its place. More rights on the same frame need no flush, since the
/// CPU drops what it cached of an address whose access faulted (SDM vol. 3C, 29.4.3.1).
#[cold]
fn replace(
    slot: &core::sync::atomic::AtomicU64,
    leaf: u64,
    level: Level,
    frames: &FrameTable,
    vm: u8,
) -> StaleTlb {
    let old = slot.swap(leaf | slot.load(Relaxed) & TRACES, AcqRel);
    let (Entry::Leaf(before), Entry::Leaf(after)) =
        (EptFormat::decode(old, level as u8), EptFormat::decode(leaf, level as u8))
    else {
        return StaleTlb::Some;
    };
    if before.pfn != after.pfn {
        frames.map(after.pfn, level.frames(), vm);
        frames.unmap(before.pfn, level.frames());
    }
    let same = Leaf { accessed: false, dirty: false, rights: after.rights, ..before };
    if same == after && after.rights.contains(before.rights) { StaleTlb::Nothing } else { StaleTlb::Some }
}

#[cfg(test)]
mod tests;
