//! Harvests: which pages were written or used since the last time (MemOp `Harvest`, `SetLog`).
//!
//! The bits of the leaves are the only record: a harvest reports those that have the bit of its mode, and takes it. Where
//! that is a right, the granted one stays beside it, and [`crate::mend`] gives it back at the next access.

use crate::arch::vmx::ept_entry::reported_by;
use crate::arch::vmx::log::Log;
use crate::core::Core;
use crate::ept::{Table, TableMemory, pages};
use crate::system::System;
use crate::vm::{StaleTlb, Vm};
use crate::window;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::memop::{Abilities, HARVEST, Harvest, LOG};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// Puts what `mode` reports of `count` frames from `first` into the message page of thread `pager`.
///
/// # Errors
/// `BadCount`, `BeyondGuest`, `BadRights`, `NotAsked`; nothing has changed then.
pub fn harvest(core: &mut Core, pager: u8, vm: &Vm, mode: Harvest, first: u64, count: u64) -> Result<Words, Refused> {
    let system = core.system;
    let page = system.memory.table(core.threads[usize::from(pager)].task.message);
    if mode.needs_bits() && !system.abilities.contains(Abilities::ACCESSED_DIRTY) {
        return Err(Refused::BadRights);
    }
    let found = if mode == Harvest::Log {
        take_log(core, vm, page)?
    } else {
        take_bits(system, vm, mode, (first, count), page)?
    };
    Ok([found, 0, 0, 0, 0, 0])
}

fn take_bits(system: &System, vm: &Vm, mode: Harvest, run: (u64, u64), page: &Table) -> Result<u64, Refused> {
    let (first, count) = run;
    if count == 0 || count > HARVEST {
        return Err(Refused::BadCount);
    }
    let end = first.checked_add(count).filter(|end| *end <= vm.frames()).ok_or(Refused::BeyondGuest)?;
    page.iter().take(count.div_ceil(64) as usize).for_each(|word| word.store(0, Relaxed));
    let mut found = 0;
    let told = reported_by(mode);
    let taken = if mode.takes() { told } else { 0 };
    system.ept(vm).leaves(first, end, |start, place, _| {
        if place.entry & told != 0 && place.table[place.index].fetch_and(!taken, AcqRel) & told != 0 {
            for gfn in start.max(first)..end.min(start + pages(place.level)) {
                let word = &page[((gfn - first) / 64) as usize];
                word.store(word.load(Relaxed) | 1 << ((gfn - first) % 64), Relaxed);
                found += 1;
            }
        }
        true
    });
    match mode {
        Harvest::WriteProtect => vm.invalidated(),
        Harvest::Hide => {
            vm.hides.store(true, Relaxed);
            vm.invalidated();
        }
        Harvest::Dirty | Harvest::Accessed | Harvest::Log | Harvest::LookWritable | Harvest::LookDirty => {}
    }
    if found != 0 && mode.takes() {
        window::hide(system, vm, first, end);
        StaleTlb::Some.flush(vm);
    }
    Ok(found)
}

/// The log of the first vCPU of `vm` that has something in it.
fn take_log(core: &mut Core, vm: &Vm, page: &Table) -> Result<u64, Refused> {
    if !vm.logged.load(Relaxed) {
        return Err(Refused::NotAsked);
    }
    let system = core.system;
    let ept = system.ept(vm);
    for index in 0..core.vcpus.len() {
        if core.vcpus[index].vm != vm.id {
            continue;
        }
        core.load(index as u8);
        let (mut found, mut taken) = (0, 0);
        for (gfn, word) in core.vcpus[index].cpu.take_log().take(LOG).zip(page) {
            let place = ept.find(gfn.0, 1);
            taken |= place.table[place.index].fetch_and(!reported_by(Harvest::Log), AcqRel) & reported_by(Harvest::Log);
            word.store(gfn.0, Relaxed);
            found += 1;
        }
        if found != 0 {
            // The log does not see writes of tasks: the pager is asked for each again.
            window::hide(system, vm, 0, vm.frames());
            // What is mapped no more has no D bit that the CPU might remember.
            (if taken != 0 { StaleTlb::Some } else { StaleTlb::Nothing }).flush(vm);
            return Ok(found);
        }
    }
    Ok(0)
}

/// Begins or ends the log of `vm`.
///
/// # Errors
/// `UnknownVariant`, `BadRights` on a CPU without it.
pub fn set_log(core: &mut Core, vm: &Vm, wanted: u64) -> Result<Words, Refused> {
    let log = match wanted {
        0 => Log::Off,
        1 => Log::On,
        _ => return Err(Refused::UnknownVariant),
    };
    if !core.system.abilities.contains(Abilities::LOG) {
        return Err(Refused::BadRights);
    }
    for index in 0..core.vcpus.len() {
        if core.vcpus[index].vm == vm.id {
            core.load(index as u8);
            core.vcpus[index].cpu.set_log(log);
        }
    }
    vm.logged.store(log == Log::On, Relaxed);
    window::hide(core.system, vm, 0, vm.frames());
    Ok([0; 6])
}
