//! MemOp: what a pager does to its VM's memory unasked.

use crate::arch::paging::{self, UserPages};
use crate::arch::vmx::ept_entry::{EptFormat, lost};
use crate::core::{Context, Core};
use crate::ept::{Entry, Format, Leaf, TOP, Tree, pages};
use crate::fault;
use crate::frame::{Found, Pool};
use crate::grant;
use crate::harvest;
use crate::shadow;
use crate::system::System;
use crate::task::Handle;
use crate::vcpu::Status;
use crate::vm::{StaleTlb, Vm};
use crate::window;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, Pfn, Rights};
use ipc_proto::layout::FRAMES;
use ipc_proto::memop::{GENERATIONS, Harvest, MemOp};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// An operation of thread `id`: word 0 the handle, word 1 the operation.
pub fn mem_op(core: &mut Core, id: u8, words: &Words) -> Result<Words, Refused> {
    let system = core.system;
    let handle = system.tasks[usize::from(id)].handle(words[0])?;
    let op = MemOp::from_number(words[1]).ok_or(Refused::UnknownVariant)?;
    let vm = match (handle, op) {
        (Handle::PagedVm(vm), _) | (Handle::ReadVm(vm), MemOp::Read | MemOp::Info | MemOp::Walk | MemOp::Shadow) => {
            &system.vms[usize::from(vm)]
        }
        (Handle::ReadVm(_), _) => return Err(Refused::NoRight),
        (Handle::ShadowedVm(vm), _) => return shadow::mem_op(core, id, &system.vms[usize::from(vm)], op),
        (Handle::Empty | Handle::Machine | Handle::Portal(..) | Handle::Vcpu(_), _) => {
            return Err(Refused::BadHandle);
        }
    };
    let [_, _, w2, w3, w4, w5] = *words;
    match op {
        MemOp::Map => {
            let claim = ClaimedGrant { shape: w2, gfn: w3, pfn: w4, mmu_seq: w5 };
            let (stale, pages) = fault::install(system, vm, id, claim)?;
            stale.flush(vm);
            core.unasked.grants += 1;
            core.unasked.pages += pages;
            Ok([pages, 0, 0, 0, 0, 0])
        }
        MemOp::Unmap => unmap(system, vm, w2, w3),
        MemOp::Protect => protect(system, vm, w2, w3, w4),
        MemOp::Read => read(system, vm, w2),
        MemOp::Donate => donate(system, vm, id, Pfn(w2), w3).map(|()| [0; 6]),
        MemOp::Info => Ok(info(system, vm)),
        MemOp::Ready => ready(core, id, w2),
        MemOp::Harvest => {
            let mode = Harvest::from_number(w4).ok_or(Refused::UnknownVariant)?;
            harvest::harvest(core, id, vm, mode, w2, w3)
        }
        MemOp::Generation if w2 >= GENERATIONS => Err(Refused::Reserved),
        MemOp::Generation => {
            vm.generation.store(w2, Relaxed);
            Ok([0; 6])
        }
        MemOp::SetLog => harvest::set_log(core, vm, w2),
        MemOp::Walk if w2 >= vm.frames() => Ok([0; 6]),
        MemOp::Walk => Ok(system.ept(vm).path(w2)),
        MemOp::Shadow => {
            let row = vm.shown.lock().tally.get(w2 as usize).copied().filter(|_| vm.shadow.is_some());
            row.ok_or(Refused::NotAsked)
        }
        MemOp::Owned => {
            let (first, count, found) = system.frames.owned(id, w2).ok_or(Refused::NotAsked)?;
            Ok([first, count, u64::from(found == Found::Mapped), 0, 0, 0])
        }
    }
}

/// How a VM stands, and what the CPU can do.
pub fn info(system: &System, vm: &Vm) -> Words {
    let left = vm.pool.lock().count();
    let abilities = system.abilities.bits() | (system.shapes.largest as u64) << 4;
    [vm.seq(), u64::from(left), vm.mapped.load(Relaxed), abilities, vm.invepts.load(Relaxed), 0]
}

/// The end of a range of `count` frames from `first` over whose edges no larger page reaches.
fn whole(system: &System, vm: &Vm, first: u64, count: u64) -> Result<u64, Refused> {
    let end = first.checked_add(count).filter(|end| *end <= vm.frames()).ok_or(Refused::BeyondGuest)?;
    if count == 0 {
        return Err(Refused::BadCount);
    }
    let ept = system.ept(vm);
    let last = end - 1;
    // In one 2 MiB block what reaches beyond one edge reaches over the other.
    let edges = if first >> 9 == last >> 9 { &[first][..] } else { &[first, last][..] };
    for &edge in edges {
        let place = ept.find(edge, 1);
        let start = edge & !(pages(place.level) - 1);
        let beyond = start < first || start + pages(place.level) > end;
        if beyond && matches!(EptFormat::decode(place.entry, place.level), Entry::Leaf(_)) {
            return Err(Refused::LargePageThere);
        }
    }
    Ok(end)
}

/// Takes every leaf of `count` frames from `first` away, and the tables that are empty then. One INVEPT at the end,
/// if there was anything.
fn unmap(system: &System, vm: &Vm, first: u64, count: u64) -> Result<Words, Refused> {
    let end = whole(system, vm, first, count)?;
    let mut gone = 0;
    system.ept(vm).runs(first, end, |_, place, count| {
        gone += grant::withdraw(&place, count, &system.frames);
        true
    });
    vm.mapped.fetch_sub(gone, Relaxed);
    // The tables are nobody's before the CPU has forgotten them.
    let mut pool = vm.pool.lock();
    let freed = give_back_tables(system, vm, (first, end), &mut pool);
    vm.invalidated();
    if gone != 0 || freed != 0 {
        window::hide(system, vm, first, end);
        StaleTlb::Some.flush(vm);
    }
    drop(pool);
    if freed != 0 {
        vm.note_tables();
    }
    Ok([gone, 0, 0, 0, 0, 0])
}

/// Takes the tables that cover nothing outside of `first..end`, in which nothing is any more, out of the EPT. Says how many.
fn give_back_tables(system: &System, vm: &Vm, (first, end): (u64, u64), pool: &mut Pool) -> u64 {
    let ept = system.ept(vm);
    let mut freed = 0;
    for level in 2..TOP {
        let size = pages(level);
        let mut page = first.next_multiple_of(size);
        while page + size <= end {
            let place = ept.find(page, level);
            if place.level == level
                && let Entry::Table(table) = EptFormat::decode(place.entry, level)
            {
                place.table[place.index].store(0, Relaxed);
                system.frames.donate(table, pool, vm.id);
                freed += 1;
            }
            page = (page & !(pages(place.level) - 1)) + pages(place.level);
        }
    }
    freed
}

/// Takes the rights that `keep` has not from every leaf of `count` frames from `first`. One INVEPT at the end, if
/// any had them.
fn protect(system: &System, vm: &Vm, first: u64, count: u64, keep: u64) -> Result<Words, Refused> {
    let keep = u8::try_from(keep).ok().and_then(Rights::from_bits).ok_or(Refused::BadRights)?;
    if !keep.contains(Rights::READ) {
        return Err(Refused::BadRights);
    }
    let end = whole(system, vm, first, count)?;
    let mut changed = 0;
    system.ept(vm).leaves(first, end, |_, place, leaf| {
        if !keep.contains(leaf.rights) {
            if keep.intersects(leaf.rights) {
                place.table[place.index].fetch_and(!lost(keep), AcqRel);
            } else {
                // An execute-only page would have no right at all.
                vm.mapped.fetch_sub(grant::withdraw(&place, 1, &system.frames), Relaxed);
            }
            changed += 1;
        }
        true
    });
    vm.invalidated();
    if changed != 0 {
        window::hide(system, vm, first, end);
        StaleTlb::Some.flush(vm);
    }
    Ok([changed, 0, 0, 0, 0, 0])
}

/// The first leaf from `gfn` on.
fn read(system: &System, vm: &Vm, gfn: u64) -> Result<Words, Refused> {
    let mut found = None;
    system.ept(vm).leaves(gfn.min(vm.frames()), vm.frames(), |first, place, leaf| {
        found = Some((first, place.level, leaf));
        false
    });
    let (first, level, leaf) = found.ok_or(Refused::NotAsked)?;
    let level = Level::from_number(u64::from(level)).ok_or(Refused::BadLevel)?;
    let Leaf { pfn, rights, mem_type, accessed, dirty, seen_by, .. } = leaf;
    let grant = Grant { gfn: Gfn(first), pfn, count: 1, level, rights, mem_type, mmu_seq: 0, seen_by };
    let shape = grant.claim().shape | u64::from(accessed) << 32 | u64::from(dirty) << 33;
    Ok([first, pfn.0, shape, 0, 0, 0])
}

/// Moves frames of `task` to the pool of `vm`: out of its address space, cleared.
///
/// # Errors
/// `BadCount`, `NotRam`, `NotYours`, `KernelObject`, `StillMapped`; nothing has moved then.
pub fn donate(system: &System, vm: &Vm, task: u8, first: Pfn, count: u64) -> Result<(), Refused> {
    system.frames.donatable(first, count, task)?;
    let space = system.tasks[usize::from(task)].space;
    let tree = Tree::<UserPages, _>::new(space.root(), &system.memory);
    let mut pool = vm.pool.lock();
    for pfn in (first.0..first.0 + count).map(Pfn) {
        let address = FRAMES + (pfn.0 << 12);
        let place = tree.find(address >> 12, 1);
        if matches!(UserPages::decode(place.entry, place.level), Entry::Leaf(_)) {
            place.table[place.index].store(0, Relaxed);
            paging::forget_page(address);
        }
        system.memory.clear(pfn);
        system.frames.donate(pfn, &mut pool, vm.id);
    }
    drop(pool);
    vm.note_tables();
    Ok(())
}

/// The fault that is pending under `token` is asked again.
fn ready(core: &mut Core, pager: u8, token: u64) -> Result<Words, Refused> {
    let system = core.system;
    let found = core.vcpus.iter().position(|vcpu| {
        vcpu.status == Status::Pending(token) && system.vms[usize::from(vcpu.vm)].pager == Some(pager)
    });
    let index = found.ok_or(Refused::UnknownToken)?;
    // It runs into the same fault at once, and asks as any other does.
    core.vcpus[index].status = Status::Ready;
    core.make_ready(Context::Vcpu(index as u8));
    Ok([0; 6])
}
