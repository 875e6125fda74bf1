//! MemOp: what a pager does to its VM's memory unasked.

use crate::arch::paging::{self, UserPages};
use crate::arch::vmx::ept_entry::EptFormat;
use crate::core::{Context, Core};
use crate::ept::{Entry, Format, Leaf, Tree, pages};
use crate::fault;
use crate::system::System;
use crate::task::Handle;
use crate::vcpu::Status;
use crate::vm::{StaleTlb, Vm};
use crate::window;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, Pfn, Rights};
use ipc_proto::layout::FRAMES;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// An operation of thread `id`: word 0 the handle, word 1 the operation.
pub fn mem_op(core: &mut Core, id: u8, words: &Words) -> Result<Words, Refused> {
    let system = core.system;
    let handle = system.tasks[usize::from(id)].handle(words[0])?;
    let op = MemOp::from_number(words[1]).ok_or(Refused::UnknownVariant)?;
    let vm = match (handle, op) {
        (Handle::PagedVm(vm), _) | (Handle::ReadVm(vm), MemOp::Read | MemOp::Info) => &system.vms[usize::from(vm)],
        (Handle::ReadVm(_), _) => return Err(Refused::NoRight),
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
        MemOp::Unmap => change(system, vm, w2, w3, &mut |place, leaf| remove(system, vm, place, leaf)),
        MemOp::Protect => {
            let keep = u8::try_from(w4).ok().and_then(Rights::from_bits).ok_or(Refused::BadRights)?;
            if keep.contains(Rights::WRITE) && !keep.contains(Rights::READ) {
                return Err(Refused::BadRights);
            }
            change(system, vm, w2, w3, &mut |place, leaf| weaken(place, leaf, keep))
        }
        MemOp::Read => read(system, vm, w2),
        MemOp::Donate => donate(system, vm, id, Pfn(w2), w3).map(|()| [0; 6]),
        MemOp::Info => {
            let left = vm.pool.lock().count();
            Ok([vm.seq(), u64::from(left), vm.mapped.load(Relaxed), 0, 0, 0])
        }
        MemOp::Ready => ready(core, id, w2),
    }
}

/// Changes every leaf of `count` frames from `first`; larger pages that reach beyond are refused. One INVEPT at the end.
fn change(
    system: &System,
    vm: &Vm,
    first: u64,
    count: u64,
    change: &mut dyn FnMut(crate::ept::Place<'_>, Leaf) -> u64,
) -> Result<Words, Refused> {
    let end = first.checked_add(count).filter(|end| *end <= vm.frames()).ok_or(Refused::BeyondGuest)?;
    if count == 0 {
        return Err(Refused::BadCount);
    }
    let ept = system.ept(vm);
    for edge in [first, end - 1] {
        if let Some((_, level)) = ept.leaf(edge) {
            let start = edge & !(pages(level) - 1);
            if start < first || start + pages(level) > end {
                return Err(Refused::LargePageThere);
            }
        }
    }
    let mut changed = 0;
    ept.leaves(first, end, |_, place, leaf| {
        changed += change(place, leaf);
        true
    });
    vm.invalidated();
    window::hide(system, vm, first, end);
    StaleTlb::Some.flush(vm);
    Ok([changed, 0, 0, 0, 0, 0])
}

/// Takes a leaf away. Says how many frames it mapped.
fn remove(system: &System, vm: &Vm, place: crate::ept::Place<'_>, leaf: Leaf) -> u64 {
    place.table[place.index].swap(0, AcqRel);
    let frames = pages(place.level);
    system.frames.unmap(leaf.pfn, frames);
    vm.mapped.fetch_sub(frames, Relaxed);
    frames
}

/// Takes rights away from a leaf. Says whether it had any of them.
fn weaken(place: crate::ept::Place<'_>, leaf: Leaf, keep: Rights) -> u64 {
    let kept = leaf.rights & keep;
    if kept == leaf.rights {
        return 0;
    }
    let weaker = EptFormat::leaf(leaf.pfn, place.level, kept, leaf.mem_type);
    let traces = place.entry & crate::arch::vmx::ept_entry::TRACES;
    place.table[place.index].swap(weaker | traces, AcqRel);
    1
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
    let Leaf { pfn, rights, mem_type, accessed, dirty } = leaf;
    let grant = Grant { gfn: Gfn(first), pfn, count: 1, level, rights, mem_type, mmu_seq: 0 };
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
