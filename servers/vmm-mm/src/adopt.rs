//! The next incarnation: what the one before knew is found again, whatever it died over.
//!
//! The records of slots ([`crate::keep`]) lead to their trees, and the trees to every frame and every compressed page. Each is
//! marked once; a frame that is found twice, or that the kernel says is not the pager's, means that nothing may be trusted, and
//! the pager stops before it answers anything. What no mark is on is free. What a tree says of a page is never newer than what
//! the kernel has mapped: a page is in its tree before its grant leaves the pager, and unmapped before its frame is given up.
//!
//! The cost is that of going through the trees once: some instructions for each page that has content, whether it is mapped
//! or not, some hundreds for each slot, and one system call for each run of frames.

mod marks;

pub(crate) use marks::Marks;

use crate::control::chosen;
use crate::keep::{Keeper, Kept};
use crate::machine::{Kernel, LogSwitch, Memory};
use crate::memslot::MemSlot;
use crate::policy::Chosen;
use crate::pool::Pool;
use crate::serve::{Greeted, Pager, VmMemory};
use crate::shares::Shares;
use crate::store::{Held, MAX_FRAMES, OutOfFrames};
use crate::watch::Generation;
use core::fmt;
use core::mem::replace;
use core::ops::Range;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{SlotFlags, SlotRefused, Space};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Slots, in all address spaces of all VMs.
    pub slots: u32,
    /// Frames that somebody has: pages, nodes, the compressed store.
    pub used: u64,
    /// Frames that nobody has.
    pub free: u64,
    /// Frames that are the kernel's tables.
    pub given: u64,
}

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slots, used, free, given } = self;
        write!(f, "adopted {slots} slots: {used} frames in use, {free} free, {given} given for tables")
    }
}

/// Why the pager cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// What was kept is no head of this version, or of other frames.
    Head,
    /// A frame is referred to twice, or is not the pager's.
    Frame(u32),
    /// A compressed page is no chain of units.
    Stored(u32),
    /// A frame is mapped in a guest, and no slot has it.
    Mapped(u64),
    /// Slots that cannot be together.
    Slot(SlotRefused),
    /// No frame is left for what must be noted.
    OutOfFrames,
}

impl From<OutOfFrames> for Broken {
    fn from(OutOfFrames: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

impl Pager {
    /// For frames from `first_pfn` on, and guests with that many bits of guest-physical address. What is written of the image
    /// must be written anew for the next incarnation: so nothing is, here and below, of VMs that have no frames of this pager.
    pub fn prepare(&mut self, first_pfn: u64, shares: &Shares, guest_physical_bits: u8, policy: Chosen) {
        self.first_pfn = first_pfn;
        self.policy = policy;
        for (vm, _) in self.vms.iter_mut().zip(shares).filter(|(_, frames)| **frames != 0) {
            vm.slots.open(guest_physical_bits);
        }
    }

    /// Takes over so many frames for each VM, which nobody has had.
    pub fn take_over(&mut self, shares: &Shares, memory: &mut impl Memory) {
        let mut first = 0;
        for (vm, frames) in self.vms.iter_mut().zip(shares).filter(|(_, frames)| **frames != 0) {
            first = vm.pool.open(self.first_pfn, first, *frames, memory);
        }
    }

    /// From now on what must outlive the task is kept, and the kernel knows where. Before the first slot.
    ///
    /// # Errors
    /// [`OutOfFrames`]: nothing is kept then.
    pub fn keep_on<M: Memory + Kernel>(&mut self, machine: &mut M) -> Result<(), OutOfFrames> {
        let head = self.begin_to_keep(machine)?;
        machine.keep(self.first_pfn + u64::from(head));
        Ok(())
    }

    /// The same, and the kernel does not know yet where: the head's frame.
    pub(crate) fn begin_to_keep(&mut self, machine: &mut impl Memory) -> Result<u32, OutOfFrames> {
        let total = self.vms.iter().map(|vm| vm.pool.total()).sum();
        let richest = self.vms.iter_mut().max_by_key(|vm| vm.pool.left()).ok_or(OutOfFrames)?;
        self.backing.keeper.begin(total, &mut richest.pool, machine)
    }

    /// Goes on where incarnation before this one, number `incarnation`, has stopped: `kept` is what it kept.
    ///
    /// # Errors
    /// [`Broken`]: then nothing may be answered.
    pub fn adopt<M: Memory + Kernel>(
        &mut self,
        (kept, shares): (u64, &Shares),
        incarnation: u32,
        machine: &mut M,
    ) -> Result<Adopted, Broken> {
        let frames = shares.iter().sum::<u64>().min(u64::from(MAX_FRAMES));
        let head = kept.checked_sub(self.first_pfn).filter(|head| *head < frames).ok_or(Broken::Head)? as u32;
        let (total, first, count) = self.backing.keeper.resume(head, machine).map_err(|_| Broken::Head)?;
        if u64::from(total) != frames || u64::from(first) + u64::from(count) > frames {
            return Err(Broken::Head);
        }
        let mut place = 0;
        for (vm, share) in self.vms.iter_mut().zip(shares).filter(|(_, share)| **share != 0) {
            // No share is larger than all frames.
            vm.pool.reopen(self.first_pfn, place, *share as u32);
            place += vm.pool.total();
        }
        let marks = Marks::none(first, count, total, machine);
        marks.mark_once(head, 1, machine)?;
        marks.mark_once(first, count, machine)?;
        let slots = self.find_slots(&marks, machine)?;
        let shared = self.mark_trees(&marks, machine)?;
        let owned = self.ask_whose(&marks, machine)?;
        if shared {
            self.count_shares(machine)?;
        }
        self.set_again(machine);
        self.tell_kernel(incarnation, machine);
        let free = self.vms.iter().map(|vm| vm.pool.left()).sum();
        let given = frames - owned;
        Ok(Adopted { slots, used: owned - free, free, given })
    }

    /// Makes the slots that were kept. Says how many.
    fn find_slots<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> Result<u32, Broken> {
        let mut slots = 0;
        let mut last = None;
        while let Some(frame) = self.backing.keeper.records_behind(last, machine) {
            marks.mark_once(frame, 1, machine)?;
            for place in Keeper::PLACES {
                let Some(kept) = self.backing.keeper.record(frame, place, machine) else { continue };
                slots += u32::from(self.find_slot(&kept, machine)?);
            }
            last = Some(frame);
        }
        for (number, vm) in self.vms.iter_mut().enumerate().filter(|(_, vm)| vm.pool.total() != 0) {
            if vm.slots.count() != 0 {
                vm.slots.restored();
            }
            if self.backing.keeper.was_greeted(number, machine) {
                vm.greeted = Greeted::Yes;
            }
        }
        Ok(slots)
    }

    /// Makes a slot; of two records of one, the newer is right, and the other one goes. Whether it is a further slot.
    fn find_slot<M: Memory + Kernel>(&mut self, kept: &Kept, machine: &mut M) -> Result<bool, Broken> {
        let Some(vm) = self.vms.get_mut(kept.vm) else { return Err(Broken::Head) };
        let space = kept.slot.space;
        let before = vm.slots.slot_mut(space, kept.slot.id).map(|slot| slot.cell).ok();
        if let Some(cell) = before {
            let (frame, place) = cell.place();
            let older = self.backing.keeper.record(frame, place, machine);
            if older.is_some_and(|older| !kept.is_newer(&older)) {
                self.backing.keeper.remove(kept.cell(), machine);
                return Ok(false);
            }
            let gone = vm.slots.remove(space, kept.slot.id).map_err(Broken::Slot)?;
            vm.pool.unpromise(gone.promised);
            self.backing.keeper.remove(gone.cell, machine);
        }
        vm.slots.restore(kept).map_err(Broken::Slot)?;
        vm.pool.promise_again(kept.promised);
        Ok(before.is_none())
    }

    /// Marks everything that the trees refer to. Says whether a frame is shared.
    fn mark_trees<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> Result<bool, Broken> {
        let Self { vms, backing, .. } = self;
        let mut shared = false;
        for (vm, of_vm) in vms.iter_mut().zip(&mut backing.vms).filter(|(vm, _)| vm.slots.count() != 0) {
            for slot in vm.slots.iter_mut() {
                let (pages, logs) = (slot.pages(), slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES));
                slot.tree.walk(pages, logs, machine, &mut |machine, held| match held {
                    Held::Node(frame) => marks.mark_once(frame, 1, machine),
                    Held::Own(first, count) => marks.mark_once(first, count, machine),
                    Held::Shared(frame) => {
                        shared = true;
                        marks.mark(frame, machine);
                        if marks.has(frame) { Ok(()) } else { Err(Broken::Frame(frame)) }
                    }
                    Held::Packed(place) => of_vm.zstore.adopt(place, marks, machine).map_err(|_| Broken::Stored(place)),
                })?;
            }
            of_vm.zstore.settle(machine);
        }
        Ok(shared)
    }

    /// Asks the kernel about every frame, and fills the pools. Says how many frames are the pager's.
    fn ask_whose<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> Result<u64, Broken> {
        let (mut begin, mut all) = (0, 0);
        for vm in self.vms.iter_mut().filter(|vm| vm.pool.total() != 0) {
            let frames = begin..begin + vm.pool.total();
            begin = frames.end;
            let owned = ask_about(frames, self.first_pfn, &mut vm.pool, marks, machine)?;
            vm.pool.has_donated(u64::from(vm.pool.total() - owned));
            all += u64::from(owned);
        }
        Ok(all)
    }

    /// Counts the pages that share frames.
    fn count_shares<M: Memory + Kernel>(&mut self, machine: &mut M) -> Result<(), Broken> {
        let Self { vms, backing, .. } = self;
        for VmMemory { pool, slots, .. } in vms.iter_mut().filter(|vm| vm.slots.count() != 0) {
            for slot in slots.iter_mut() {
                let pages = slot.pages();
                slot.tree.walk(pages, false, machine, &mut |machine, held| match held {
                    Held::Shared(frame) => Ok(backing.shares.join(frame, pool, machine)?),
                    Held::Node(_) | Held::Own(..) | Held::Packed(_) => Ok::<(), Broken>(()),
                })?;
            }
        }
        Ok(())
    }

    /// What was set at run time holds still.
    fn set_again<M: Memory + Kernel>(&mut self, machine: &mut M) {
        let Self { vms, backing, policy, .. } = self;
        if let Some(words) = backing.keeper.policy(machine)
            && let Ok(last) = chosen(words.as_str())
        {
            *policy = last;
        }
        for (number, vm) in vms.iter_mut().enumerate().filter(|(_, vm)| vm.pool.total() != 0) {
            for (register, value) in backing.keeper.memory_types(number, machine) {
                // There is such a register.
                let _ = vm.mtrrs.write(register, value);
            }
        }
    }

    /// What the kernel was told by the incarnation before may not be so any more.
    fn tell_kernel<M: Memory + Kernel>(&mut self, incarnation: u32, machine: &mut M) {
        for (number, vm) in self.vms.iter_mut().enumerate().filter(|(_, vm)| vm.slots.count() != 0) {
            vm.watch.mmio = Generation::of(incarnation);
            let begun = vm.watch.mmio.begin(number, machine);
            vm.watch.mmio.end();
            let logs = |slot: &MemSlot| slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES);
            let logs = vm.slots.iter(Space::Normal).any(logs) && vm.watch.way == crate::dirty::Way::Pml;
            vm.watch.log = if logs { LogSwitch::On } else { LogSwitch::Off };
            let set = if vm.watch.cpu.abilities.contains(Abilities::LOG) {
                machine.set_log(number, vm.watch.log)
            } else {
                Ok(())
            };
            if let Err(refused) = begun.and(set) {
                log::warn!("vm {number}: the kernel refuses what this incarnation tells it: {refused}");
            }
        }
    }
}

/// Asks the kernel about the frames of a VM: what somebody has must be the pager's, what is mapped must be somebody's, and what
/// nobody has is the pool's. Says how many are the pager's.
fn ask_about<M: Memory + Kernel>(
    frames: Range<u32>,
    first_pfn: u64,
    pool: &mut Pool,
    marks: &Marks,
    machine: &mut M,
) -> Result<u32, Broken> {
    // At most the end.
    let place = |pfn: u64| pfn.saturating_sub(first_pfn).min(u64::from(frames.end)) as u32;
    let (mut next, mut owned, mut free) = (frames.start, 0, frames.start..frames.start);
    // Behind the last frame the kernel would look through all that are not the pager's.
    while next < frames.end {
        let found = machine.owned(first_pfn + u64::from(next));
        let run = found.map_or(frames.end..frames.end, |run| place(run.first)..place(run.first + run.count));
        if let Some(frame) = marks.first_marked(next..run.start, machine) {
            return Err(Broken::Frame(frame));
        }
        owned += run.len() as u32;
        next = run.end;
        let mut rest = run;
        while let Some(nobodys) = marks.next_free(rest.clone(), machine) {
            if found.is_some_and(|run| run.mapped) {
                return Err(Broken::Mapped(first_pfn + u64::from(nobodys.start)));
            }
            rest.start = nobodys.end;
            if nobodys.start == free.end {
                // The kernel does not tell all of a long run at once.
                free.end = nobodys.end;
            } else {
                pool.give_run(replace(&mut free, nobodys), machine);
            }
        }
    }
    pool.give_run(free, machine);
    Ok(owned)
}

#[cfg(test)]
mod tests;
