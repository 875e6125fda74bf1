//! MemOp, as SPEC §7 has it.

use crate::ledger::{Ledger, PAGER};
use crate::vm::{Log, Vm};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, Pfn, Rights};
use ipc_proto::memop::{Abilities, GENERATIONS, HARVEST, Harvest, LOG, MemOp};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;
use std::sync::atomic::Ordering::Relaxed;
use ukernel::arch::vmx::ept_entry::{lost, reported_by};
use ukernel::ept::pages;
use ukernel::frame::Found;

/// What an operation comes back with: words, and what the message page begins with.
type Done = Result<(Words, Vec<u8>), Refused>;

/// Does an operation; `Ready` is the kernel's, which knows what is pending.
///
/// # Errors
/// The refusals of SPEC §7.
pub fn perform(vm: &mut Vm, ledger: &mut Ledger, op: MemOp, words: &Words) -> Done {
    let [_, _, w2, w3, w4, w5] = *words;
    let one = |word| Ok(([word, 0, 0, 0, 0, 0], Vec::new()));
    match op {
        MemOp::Map => one(vm.install(ClaimedGrant { shape: w2, gfn: w3, pfn: w4, mmu_seq: w5 }, ledger)?),
        MemOp::Unmap => one(unmap(vm, ledger, w2, w3)?),
        MemOp::Protect => one(protect(vm, ledger, w2, w3, w4)?),
        MemOp::Read => read(vm, ledger, w2).map(|words| (words, Vec::new())),
        MemOp::Donate => {
            let mut pool = vm.pool.lock();
            ledger.donate(Pfn(w2), w3, &mut pool, vm.number)?;
            one(0)
        }
        MemOp::Info => {
            let can = vm.cpu.abilities.bits() | (vm.cpu.largest as u64) << 4;
            let left = u64::from(vm.pool.lock().count());
            Ok(([vm.mmu_seq, left, vm.mapped, can, 0, 0], Vec::new()))
        }
        MemOp::Ready => Err(Refused::UnknownToken),
        MemOp::Harvest => {
            let mode = Harvest::from_number(w4).ok_or(Refused::UnknownVariant)?;
            let (found, bytes) = harvest(vm, ledger, mode, (w2, w3))?;
            Ok(([found, 0, 0, 0, 0, 0], bytes))
        }
        MemOp::Generation if w2 >= GENERATIONS => Err(Refused::Reserved),
        MemOp::Generation => {
            vm.generation = w2;
            one(0)
        }
        MemOp::SetLog => {
            set_log(vm, ledger, w2)?;
            one(0)
        }
        MemOp::Walk if w2 >= vm.frames() => one(0),
        // The kit's VMs have no shadow.
        MemOp::Shadow => Err(Refused::NotAsked),
        MemOp::Walk => Ok((vm.ept(ledger).path(w2), Vec::new())),
        MemOp::Owned => {
            let (first, count, found) = ledger.frames.owned(PAGER, w2).ok_or(Refused::NotAsked)?;
            Ok(([first, count, u64::from(found == Found::Mapped), 0, 0, 0], Vec::new()))
        }
    }
}

/// The end of a range over whose edges no larger page reaches.
fn whole(vm: &Vm, ledger: &Ledger, first: u64, count: u64) -> Result<u64, Refused> {
    let end = first.checked_add(count).filter(|end| *end <= vm.frames()).ok_or(Refused::BeyondGuest)?;
    if count == 0 {
        return Err(Refused::BadCount);
    }
    for edge in [first, end - 1] {
        if let Some((_, size)) = vm.leaf(edge, ledger) {
            let start = edge & !(size - 1);
            if start < first || start + size > end {
                return Err(Refused::LargePageThere);
            }
        }
    }
    Ok(end)
}

/// `Unmap`.
fn unmap(vm: &mut Vm, ledger: &Ledger, first: u64, count: u64) -> Result<u64, Refused> {
    let end = whole(vm, ledger, first, count)?;
    let gone = vm.leaves(first, end, ledger).iter().map(|(_, place, leaf)| vm.remove(place, leaf, ledger)).sum();
    vm.give_back_tables(first, end, ledger);
    vm.mmu_seq += 1;
    vm.hide(first, end, ledger);
    Ok(gone)
}

/// `Protect`.
fn protect(vm: &mut Vm, ledger: &Ledger, first: u64, count: u64, keep: u64) -> Result<u64, Refused> {
    let keep = u8::try_from(keep).ok().and_then(Rights::from_bits).ok_or(Refused::BadRights)?;
    if !keep.contains(Rights::READ) {
        return Err(Refused::BadRights);
    }
    let end = whole(vm, ledger, first, count)?;
    let mut changed = 0;
    for (_, place, leaf) in vm.leaves(first, end, ledger) {
        if keep.contains(leaf.rights) {
            continue;
        }
        if keep.intersects(leaf.rights) {
            place.table[place.index].fetch_and(!lost(keep), Relaxed);
        } else {
            vm.remove(&place, &leaf, ledger);
        }
        changed += 1;
    }
    vm.mmu_seq += 1;
    vm.hide(first, end, ledger);
    Ok(changed)
}

/// `Read`.
fn read(vm: &Vm, ledger: &Ledger, gfn: u64) -> Result<Words, Refused> {
    let mut found = None;
    vm.ept(ledger).leaves(gfn.min(vm.frames()), vm.frames(), |first, place, leaf| {
        found = Some((first, place.level, leaf));
        false
    });
    let (first, level, leaf) = found.ok_or(Refused::NotAsked)?;
    let level = Level::from_number(u64::from(level)).ok_or(Refused::BadLevel)?;
    let grant = Grant {
        gfn: Gfn(first),
        pfn: leaf.pfn,
        count: 1,
        level,
        rights: leaf.rights,
        mem_type: leaf.mem_type,
        mmu_seq: 0,
        seen_by: leaf.seen_by,
    };
    let shape = grant.claim().shape | u64::from(leaf.accessed) << 32 | u64::from(leaf.dirty) << 33;
    Ok([first, leaf.pfn.0, shape, 0, 0, 0])
}

/// `Harvest`: how many, and what the message page begins with.
fn harvest(vm: &mut Vm, ledger: &Ledger, mode: Harvest, run: (u64, u64)) -> Result<(u64, Vec<u8>), Refused> {
    if mode.needs_bits() && !vm.cpu.abilities.contains(Abilities::ACCESSED_DIRTY) {
        return Err(Refused::BadRights);
    }
    if mode == Harvest::Log {
        return take_log(vm, ledger);
    }
    let (first, count) = run;
    if count == 0 || count > HARVEST {
        return Err(Refused::BadCount);
    }
    let end = first.checked_add(count).filter(|end| *end <= vm.frames()).ok_or(Refused::BeyondGuest)?;
    let mut bitmap = vec![0; (count.div_ceil(64) * 8) as usize];
    let (mut found, told) = (0, reported_by(mode));
    let taken = if mode.takes() { told } else { 0 };
    for (start, place, _) in vm.leaves(first, end, ledger) {
        if place.table[place.index].fetch_and(!taken, Relaxed) & told == 0 {
            continue;
        }
        for gfn in start.max(first)..end.min(start + pages(place.level)) {
            bitmap[((gfn - first) / 8) as usize] |= 1 << ((gfn - first) % 8);
            found += 1;
        }
    }
    match mode {
        Harvest::WriteProtect | Harvest::Hide => vm.mmu_seq += 1,
        Harvest::Dirty | Harvest::Accessed | Harvest::Log | Harvest::LookWritable | Harvest::LookDirty => {}
    }
    if found != 0 && mode.takes() {
        vm.hide(first, end, ledger);
    }
    Ok((found, bitmap))
}

fn take_log(vm: &mut Vm, ledger: &Ledger) -> Result<(u64, Vec<u8>), Refused> {
    let Log::On(log) = &mut vm.log else { return Err(Refused::NotAsked) };
    let taken: Vec<u64> = log.drain(..log.len().min(LOG)).collect();
    for gfn in &taken {
        let place = vm.ept(ledger).find(*gfn, 1);
        place.table[place.index].fetch_and(!reported_by(Harvest::Log), Relaxed);
    }
    Ok((taken.len() as u64, taken.iter().flat_map(|gfn| gfn.to_le_bytes()).collect()))
}

fn set_log(vm: &mut Vm, ledger: &Ledger, wanted: u64) -> Result<(), Refused> {
    let log = match wanted {
        0 => Log::Off,
        1 => Log::On(Vec::new()),
        _ => return Err(Refused::UnknownVariant),
    };
    if !vm.cpu.abilities.contains(Abilities::LOG) {
        return Err(Refused::BadRights);
    }
    vm.log = log;
    vm.hide(0, vm.frames(), ledger);
    Ok(())
}
