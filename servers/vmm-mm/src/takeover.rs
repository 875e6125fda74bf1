//! A pager goes on with what another one has handed over: what the kernel's ledger has mapped, and nothing else.
//!
//! When it starts it knows from the kernel which frames are mapped and which are free. What is mapped becomes a slot's content
//! when the VM's server makes that slot; nothing that the ledger has is changed, so that whoever is started instead finds the
//! same. When all slots are there the server says `TakeOver`: no frame may be left that is mapped in none. From then on what is
//! known is kept ([`crate::keep`]), and faults are answered.
//!
//! The cost is one system call for each run of free or of mapped frames, and then one for each page that the ledger has.

use crate::adopt::Broken;
use crate::handover::{Standstill, ids};
use crate::keep::Keeper;
use crate::machine::{Kernel, LogSwitch, Memory};
use crate::memslot::{MemSlots, State};
use crate::pool::{Frame, LARGE, LargeFrame};
use crate::serve::{Greeted, Pager};
use crate::shares::Shares;
use crate::store::{Content, MAX_FRAMES, Note, OutOfFrames};
use crate::tdp::Mmu;
use crate::watch::Generation;
use ipc_proto::grant::{Grant, Level};
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{Slot, SlotFlags, SlotRefused, Space};

impl Pager {
    /// Begins as incarnation number `incarnation`, behind one that has handed over. Says how many frames are mapped.
    ///
    /// # Errors
    /// [`Broken`]: then nothing may be answered.
    pub fn take_up<M: Memory + Kernel>(
        &mut self,
        shares: &Shares,
        incarnation: u32,
        machine: &mut M,
    ) -> Result<u64, Broken> {
        let (mut place, mut mapped) = (0, 0);
        if shares.iter().sum::<u64>() > u64::from(MAX_FRAMES) {
            return Err(Broken::Head);
        }
        for (number, (vm, share)) in self.vms.iter_mut().zip(shares).enumerate().filter(|(_, (_, share))| **share != 0)
        {
            // No share is larger than all frames.
            vm.pool.reopen(self.first_pfn, place, *share as u32);
            let (begin, end) = (self.first_pfn + u64::from(place), self.first_pfn + u64::from(place) + share);
            let (mut pfn, mut owned) = (begin, 0);
            while pfn < end
                && let Some(run) = machine.owned(pfn).filter(|run| run.first < end)
            {
                pfn = (run.first + run.count).min(end);
                owned += pfn - run.first;
                if run.mapped {
                    mapped += pfn - run.first;
                } else {
                    // Both are below the number of frames.
                    let index = |pfn: u64| (pfn - self.first_pfn) as u32;
                    vm.pool.give_run(index(run.first)..index(pfn), machine);
                }
            }
            vm.pool.has_donated(share - owned);
            vm.watch.mmio = Generation::of(incarnation);
            if vm.watch.cpu.abilities.contains(Abilities::LOG) {
                // Whoever logs wants it anew.
                let _ = machine.set_log(number, LogSwitch::Off);
            }
            place += *share as u32;
        }
        self.backing.standstill = Standstill::TakingOver { mapped, taken: 0 };
        Ok(mapped)
    }

    /// All slots have been made that there are: faults are answered from now on.
    ///
    /// # Errors
    /// `NoHandOver` when something is mapped that no slot has; `Kernel`.
    pub(crate) fn take_over_now<M: Memory + Kernel>(&mut self, vm: usize, machine: &mut M) -> Result<(), SlotRefused> {
        match self.backing.standstill {
            Standstill::TakingOver { mapped, taken } if mapped == taken => {}
            Standstill::TakingOver { mapped, taken } => {
                log::error!("vm {vm}: {mapped} frames were handed over, and slots have {taken} of them");
                return Err(SlotRefused::NoHandOver);
            }
            Standstill::No | Standstill::HandedOver => return Ok(()),
        }
        if self.keep_all(machine).is_err() {
            log::warn!("too few frames: after a death nothing of this would be known");
            self.backing.keeper = Keeper::OFF;
            machine.keep(0);
        }
        let slots = &mut self.vms.get_mut(vm).ok_or(SlotRefused::NoHello)?.slots;
        for id in ids(slots) {
            let slot = slots.slot_mut(Space::Normal, id)?;
            if slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
                // How writes are seen is each pager's own way: all of it begins with the next fault.
                machine.unmap(vm, slot.base(), slot.pages()).map_err(SlotRefused::Kernel)?;
            }
        }
        self.answer_again(vm, machine);
        Ok(())
    }

    /// From now on the next incarnation finds what this one knows.
    fn keep_all<M: Memory + Kernel>(&mut self, machine: &mut M) -> Result<(), OutOfFrames> {
        let head = self.begin_to_keep(machine)?;
        let Self { vms, backing, .. } = self;
        for (number, vm) in vms.iter_mut().enumerate() {
            for space in [Space::Normal, Space::Smm] {
                let all: heapless::Vec<_, { crate::memslot::MAX_SLOTS }> =
                    vm.slots.iter(space).map(|slot| slot.id()).collect();
                for id in all {
                    let Ok(slot) = vm.slots.slot_mut(space, id) else { continue };
                    backing.keeper.put(number, space, slot, &mut vm.pool, machine)?;
                }
            }
            if vm.greeted == Greeted::Yes {
                backing.keeper.greet(number, machine);
            }
        }
        machine.keep(self.first_pfn + u64::from(head));
        Ok(())
    }
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// A slot has been made while another pager's pages are taken over: what is mapped where it lies is its content.
    ///
    /// # Errors
    /// `NoHandOver` when that cannot be, `OutOfMemory`. The slot is gone then; what is mapped is as it was.
    pub fn take_slot(&mut self, slots: &mut MemSlots, made: &Slot) -> Result<(), SlotRefused> {
        if made.space == Space::Smm {
            return Ok(());
        }
        let taken = self.take_pages(slots, made);
        match (&mut self.backing.standstill, &taken) {
            (Standstill::TakingOver { taken: all, .. }, Ok(taken)) => *all += taken,
            _ => {
                // Its tree goes with it: the frames in there are still mapped.
                let gone = slots.remove(made.space, made.id)?;
                self.pool.unpromise(gone.promised);
                return taken.map(|_| ());
            }
        }
        slots.set_state(made.space, made.id, State::Invalid)
    }

    fn take_pages(&mut self, slots: &mut MemSlots, made: &Slot) -> Result<u64, SlotRefused> {
        let slot = slots.slot_mut(made.space, made.id)?;
        let logs = made.flags.contains(SlotFlags::LOG_DIRTY_PAGES);
        let (mut gfn, mut taken) = (made.base, 0);
        while let Some(leaf) = self.machine.next_mapped(self.vm, gfn).filter(|leaf| slot.holds(leaf.gfn)) {
            let frame = self.frame_of(&leaf).filter(|_| slot.holds_run(leaf.gfn, leaf.level.frames()));
            let frame = frame.ok_or(SlotRefused::NoHandOver)?;
            let offset = slot.offset(leaf.gfn);
            let note = |slot: &mut crate::memslot::MemSlot, offset, mmu: &mut Self| {
                slot.tree.note(offset, Note::Dirty, mmu.pool, mmu.machine)
            };
            let out = |OutOfFrames| SlotRefused::OutOfMemory;
            if leaf.level == Level::Page {
                slot.tree.open(offset, self.pool, self.machine).map_err(out)?;
                slot.tree.set(offset, Content::Own(frame), self.machine);
                if logs {
                    note(slot, offset, self).map_err(out)?;
                }
            } else {
                for first in (0..leaf.level.frames()).step_by(LARGE as usize) {
                    // At most a gigabyte's frames.
                    let large = LargeFrame::of(Frame::from_index(frame + first as u32));
                    slot.tree.hold_large(offset + first, large, self.pool, self.machine).map_err(out)?;
                    if logs {
                        slot.tree.split(offset + first, self.machine);
                        (0..u64::from(LARGE)).try_for_each(|n| note(slot, offset + first + n, self)).map_err(out)?;
                    }
                }
            }
            taken += leaf.level.frames();
            gfn.0 = leaf.gfn.0 + leaf.level.frames();
        }
        Ok(taken)
    }

    /// The index of a leaf's first frame: they are this pager's, or the one before could not have granted them.
    fn frame_of(&self, leaf: &Grant) -> Option<u32> {
        let first = leaf.pfn.0.checked_sub(self.first_pfn)?;
        u32::try_from(first).ok().filter(|first| *first < MAX_FRAMES)
    }
}

#[cfg(test)]
mod tests;
