//! The next incarnation: what the one before knew is found again, whatever it died over.
//!
//! The records of slots ([`crate::keep`]) lead to their trees, and the trees to every frame and every compressed page. Each is
//! marked once; a frame that is found twice, or that the kernel says is not the pager's, means that nothing may be trusted, and
//! the pager stops before it answers anything. What no mark is on is free. What a tree says of a page is never newer than what
//! the kernel has mapped: a page is in its tree before its grant leaves the pager, and unmapped before its frame is given up.
//!
//! The cost is that of going through the trees once: some instructions for each page that has content, whether it is mapped
//! or not, some hundreds for each slot, and one system call for each run of frames.

use crate::control::chosen;
use crate::keep::{Keeper, Kept};
use crate::machine::{Kernel, LogSwitch, Memory, WORDS};
use crate::memslot::MemSlot;
use crate::policy::Chosen;
use crate::serve::{Greeted, Pager, VmMemory};
use crate::shares::Shares;
use crate::store::{Held, MAX_FRAMES, OutOfFrames};
use crate::watch::Generation;
use core::fmt;
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

/// A bit for each frame of the pager: set when somebody has it, or it is not the pager's.
pub(crate) struct Marks {
    first: u32,
    total: u32,
}

impl Marks {
    /// In those frames, for `total` frames, all of them set.
    fn all_set(first: u32, count: u32, total: u32, memory: &mut impl Memory) -> Self {
        for frame in first..first + count {
            (0..WORDS).for_each(|place| memory.set_word(frame, place, u32::MAX));
        }
        Self { first, total }
    }

    const fn place(&self, frame: u32) -> (u32, usize) {
        (self.first + frame / (32 * WORDS as u32), (frame / 32) as usize % WORDS)
    }

    fn word(&self, frame: u32, memory: &impl Memory) -> u32 {
        let (at, place) = self.place(frame);
        memory.word(at, place)
    }

    /// Clears the bits of a run.
    fn clear(&self, mut frame: u32, end: u32, memory: &mut impl Memory) {
        while frame < end.min(self.total) {
            let (at, place) = self.place(frame);
            if frame.is_multiple_of(32) && end - frame >= 32 {
                memory.set_word(at, place, 0);
                frame += 32;
            } else {
                memory.set_word(at, place, memory.word(at, place) & !(1 << (frame % 32)));
                frame += 1;
            }
        }
    }

    fn is_set(&self, frame: u32, memory: &impl Memory) -> bool {
        frame >= self.total || self.word(frame, memory) >> (frame % 32) & 1 != 0
    }

    /// Somebody has the frame; whether somebody else had it is the answer.
    pub(crate) fn mark(&self, frame: u32, memory: &mut impl Memory) -> bool {
        if frame >= self.total {
            return true;
        }
        let (at, place) = self.place(frame);
        let word = memory.word(at, place);
        memory.set_word(at, place, word | 1 << (frame % 32));
        word >> (frame % 32) & 1 != 0
    }

    fn mark_once(&self, frame: u32, memory: &mut impl Memory) -> Result<(), Broken> {
        if self.mark(frame, memory) { Err(Broken::Frame(frame)) } else { Ok(()) }
    }

    /// The first frame from `frame` on whose bit is or is not set.
    fn next(&self, mut frame: u32, set: bool, memory: &impl Memory) -> u32 {
        let dull = if set { 0 } else { u32::MAX };
        while frame < self.total {
            if frame.is_multiple_of(32) && self.word(frame, memory) == dull {
                frame += 32;
            } else if self.is_set(frame, memory) == set {
                return frame;
            } else {
                frame += 1;
            }
        }
        self.total
    }
}

impl Pager {
    /// For frames from `first_pfn` on, and guests with that many bits of guest-physical address.
    pub fn prepare(&mut self, first_pfn: u64, guest_physical_bits: u8, policy: Chosen) {
        self.first_pfn = first_pfn;
        self.policy = policy;
        for vm in &mut self.vms {
            vm.slots.open(guest_physical_bits);
        }
    }

    /// Takes over so many frames for each VM, which nobody has had.
    pub fn take_over(&mut self, shares: &Shares, memory: &mut impl Memory) {
        let mut first = 0;
        for (vm, frames) in self.vms.iter_mut().zip(shares) {
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
        for (vm, share) in self.vms.iter_mut().zip(shares) {
            // No share is larger than all frames.
            vm.pool.reopen(self.first_pfn, place, *share as u32);
            place += vm.pool.total();
        }
        let marks = Marks::all_set(first, count, total, machine);
        let owned = self.find_owned(&marks, machine);
        marks.mark_once(head, machine)?;
        (first..first + count).try_for_each(|frame| marks.mark_once(frame, machine))?;
        let slots = self.find_slots(&marks, machine)?;
        let shared = self.mark_trees(&marks, machine)?;
        self.backing.vms.iter_mut().for_each(|vm| vm.zstore.settle(machine));
        self.look_for_strays(&marks, machine)?;
        self.fill_pool(&marks, machine);
        if shared {
            self.count_shares(machine)?;
        }
        self.set_again(machine);
        self.tell_kernel(incarnation, machine);
        let free = self.vms.iter().map(|vm| vm.pool.left()).sum();
        let given = frames - owned;
        Ok(Adopted { slots, used: owned - free, free, given })
    }

    /// Clears the marks of the frames that the kernel says are the pager's. Says how many.
    fn find_owned<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> u64 {
        let (mut pfn, mut all) = (self.first_pfn, 0);
        for vm in &mut self.vms {
            let (end, mut owned) = (pfn + u64::from(vm.pool.total()), 0);
            // Behind the last frame the kernel would look through all that are not the pager's.
            while pfn < end
                && let Some(run) = machine.owned(pfn).filter(|run| run.first < end)
            {
                let behind = (run.first + run.count).min(end);
                owned += behind - run.first;
                // Both are below the number of frames.
                let place = |pfn: u64| (pfn - self.first_pfn) as u32;
                marks.clear(place(run.first), place(behind), machine);
                pfn = behind;
            }
            pfn = end;
            vm.pool.has_donated(u64::from(vm.pool.total()) - owned);
            all += owned;
        }
        all
    }

    /// Makes the slots that were kept. Says how many.
    fn find_slots<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> Result<u32, Broken> {
        let mut slots = 0;
        let mut last = None;
        while let Some(frame) = self.backing.keeper.records_behind(last, machine) {
            marks.mark_once(frame, machine)?;
            for place in Keeper::PLACES {
                let Some(kept) = self.backing.keeper.record(frame, place, machine) else { continue };
                slots += u32::from(self.find_slot(&kept, machine)?);
            }
            last = Some(frame);
        }
        for (number, vm) in self.vms.iter_mut().enumerate() {
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
        vm.slots.create(&kept.slot).map_err(Broken::Slot)?;
        vm.slots.slot_mut(space, kept.slot.id).map_err(Broken::Slot)?.restore(kept);
        vm.pool.promise_again(kept.promised);
        Ok(before.is_none())
    }

    /// Marks everything that the trees refer to. Says whether a frame is shared.
    fn mark_trees<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) -> Result<bool, Broken> {
        let Self { vms, backing, .. } = self;
        let mut shared = false;
        for (vm, of_vm) in vms.iter_mut().zip(&mut backing.vms) {
            for slot in vm.slots.iter_mut() {
                let logs = slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES);
                slot.tree.walk(logs, machine, &mut |machine, held| match held {
                    Held::Node(frame) => marks.mark_once(frame, machine),
                    Held::Own(first, count) => {
                        (first..first + count).try_for_each(|frame| marks.mark_once(frame, machine))
                    }
                    Held::Shared(frame) => {
                        shared = true;
                        marks.mark(frame, machine);
                        if frame < marks.total { Ok(()) } else { Err(Broken::Frame(frame)) }
                    }
                    Held::Packed(place) => of_vm.zstore.adopt(place, marks, machine).map_err(|_| Broken::Stored(place)),
                })?;
            }
        }
        Ok(shared)
    }

    /// What is mapped in a guest is some page's.
    fn look_for_strays<M: Memory + Kernel>(&self, marks: &Marks, machine: &mut M) -> Result<(), Broken> {
        let end = self.first_pfn + u64::from(marks.total);
        let mut pfn = self.first_pfn;
        while pfn < end
            && let Some(run) = machine.owned(pfn).filter(|run| run.first < end)
        {
            pfn = run.first + run.count;
            let first = (run.first - self.first_pfn) as u32;
            let free = marks.next(first, false, machine);
            if run.mapped && u64::from(free) < pfn - self.first_pfn {
                return Err(Broken::Mapped(self.first_pfn + u64::from(free)));
            }
        }
        Ok(())
    }

    /// What nobody has is the pool's.
    fn fill_pool<M: Memory + Kernel>(&mut self, marks: &Marks, machine: &mut M) {
        let mut begin = 0;
        for vm in &mut self.vms {
            let end = begin + vm.pool.total();
            let mut first = marks.next(begin, false, machine);
            while first < end {
                let behind = marks.next(first, true, machine).min(end);
                vm.pool.give_run(first..behind, machine);
                first = marks.next(behind, false, machine);
            }
            begin = end;
        }
    }

    /// Counts the pages that share frames.
    fn count_shares<M: Memory + Kernel>(&mut self, machine: &mut M) -> Result<(), Broken> {
        let Self { vms, backing, .. } = self;
        for VmMemory { pool, slots, .. } in vms.iter_mut() {
            for slot in slots.iter_mut() {
                slot.tree.walk(false, machine, &mut |machine, held| match held {
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
        for (number, vm) in vms.iter_mut().enumerate() {
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

#[cfg(test)]
mod tests;
