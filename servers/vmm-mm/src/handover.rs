//! The pager makes way for another one, of which it knows nothing but that it reads the kernel's ledger.
//!
//! So the ledger must tell everything: each page that has content is mapped, with a frame of its own. Compressed pages are
//! brought back, pages that share a frame get one each, and what has not been read of a boot module is read. From then on
//! nothing changes: faults wait, no frame is taken back. The next pager, or this one if it is started again, goes on from the
//! ledger ([`crate::takeover`]); any other request means that nobody has come, and the pager goes on.
//!
//! The cost is some instructions for each page that the guest may write, for which a call tells of a whole table, one system call for
//! each other page that is mapped, and what a fault costs for each page that is not.

use crate::faultin::Tried;
use crate::level::{BLOCK, block};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots, State};
use crate::policy::Chosen;
use crate::serve::{Greeted, Pager, VmMemory};
use crate::stats::PfStats;
use crate::store::{Content, OutOfFrames};
use crate::tdp::Mmu;
use core::ops::Range;
use heapless::Vec;
use ipc_proto::grant::{Gfn, Grant};
use ipc_proto::layout::HANDED_OVER;
use ipc_proto::memop::Harvest;
use ipc_proto::slot::{Slot, SlotId, SlotRefused, SlotReply, Space};

/// Whether faults are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standstill {
    /// They are.
    #[default]
    No,
    /// The ledger tells everything, and somebody else shall go on.
    HandedOver,
    /// Of so many frames that another pager has left mapped, so many have been found in slots.
    TakingOver {
        /// What the kernel says is mapped.
        mapped: u64,
        /// What slots have of it.
        taken: u64,
    },
}

impl Pager {
    /// Tells the slot of that number, counted from 0 over both address spaces; the first question stops the pager.
    ///
    /// # Errors
    /// `NoHandOver`; `OutOfMemory` when what must be mapped does not fit into the frames; `Kernel`.
    pub(crate) fn hand_over<M: Memory + Kernel>(
        &mut self,
        vm: usize,
        number: u16,
        machine: &mut M,
    ) -> Result<SlotReply, SlotRefused> {
        if number == 0 {
            self.go_on(vm, machine);
            self.stop_with_everything_mapped(vm, machine)?;
        }
        if self.backing.standstill != Standstill::HandedOver {
            return Err(SlotRefused::NoHandOver);
        }
        let slots = &self.vms.get(vm).ok_or(SlotRefused::NoHandOver)?.slots;
        let told = |space, slot: &MemSlot| Slot {
            id: slot.id(),
            space,
            base: slot.base(),
            pages: slot.pages(),
            flags: slot.flags(),
        };
        let all = [Space::Normal, Space::Smm].into_iter();
        let mut all = all.flat_map(|space| slots.iter(space).map(move |slot| told(space, slot)));
        let next = all.nth(usize::from(number));
        if next.is_none() {
            // Whoever asks knows all slots now. A death before this is one like any other: what is kept is still true.
            machine.keep(HANDED_OVER);
        }
        Ok(next.map_or(SlotReply::Done, SlotReply::Slot))
    }

    fn stop_with_everything_mapped<M: Memory + Kernel>(
        &mut self,
        vm: usize,
        machine: &mut M,
    ) -> Result<(), SlotRefused> {
        let others = self.vms.iter().enumerate().any(|(number, other)| number != vm && other.greeted == Greeted::Yes);
        if others || self.backing.standstill != Standstill::No {
            return Err(SlotRefused::NoHandOver);
        }
        let Self { vms, policy, backing, first_pfn, .. } = self;
        let VmMemory { pool, slots, vcpus, stats: counts, mtrrs, watch, .. } =
            vms.get_mut(vm).ok_or(SlotRefused::NoHandOver)?;
        let [stats, ..] = vcpus;
        let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
        for id in ids(slots) {
            mmu.map_content(slots, id, policy, stats)?;
        }
        for id in ids(slots) {
            slots.set_state(Space::Normal, id, State::Invalid)?;
        }
        self.backing.standstill = Standstill::HandedOver;
        Ok(())
    }

    /// Nobody has come: the pager goes on as before.
    pub(crate) fn go_on<M: Memory + Kernel>(&mut self, vm: usize, machine: &mut M) {
        if self.backing.standstill == Standstill::HandedOver {
            let kept = self.backing.keeper.head().map_or(0, |head| self.first_pfn + u64::from(head));
            machine.keep(kept);
            self.answer_again(vm, machine);
        }
    }

    /// Faults are answered from now on, and those that wait are asked anew.
    pub(crate) fn answer_again<M: Memory + Kernel>(&mut self, vm: usize, machine: &mut M) {
        self.backing.standstill = Standstill::No;
        let Self { vms, backing, first_pfn, .. } = self;
        let Some(VmMemory { pool, slots, stats: counts, mtrrs, watch, .. }) = vms.get_mut(vm) else { return };
        for id in ids(slots) {
            // It is one of those that there are.
            let _ = slots.set_state(Space::Normal, id, State::Valid);
        }
        let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
        mmu.go_on(|fault| usize::from(fault.vm) == vm);
        self.wake(machine);
    }
}

/// The slots that faults can ask for.
pub(crate) fn ids(slots: &MemSlots) -> Vec<SlotId, { crate::memslot::MAX_SLOTS }> {
    slots.iter(Space::Normal).map(MemSlot::id).collect()
}

/// What the kernel has told of the pages that the guest may write: of which pages, and the word of the bitmap that was read last;
/// word `u64::MAX` stands for all of them.
#[derive(Default)]
struct Told {
    pages: Range<u64>,
    word: Option<(u64, u64)>,
}

/// Behind the last page of a leaf.
const fn end(leaf: &Grant) -> u64 {
    leaf.gfn.0 + leaf.level.frames()
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Maps each page of the slot that has content, with a frame of its own.
    fn map_content(
        &mut self,
        slots: &mut MemSlots,
        id: SlotId,
        policy: &Chosen,
        stats: &mut PfStats,
    ) -> Result<(), SlotRefused> {
        self.read_whole_image(slots.slot_mut(Space::Normal, id)?)?;
        let mut from = 0;
        let mut leaf: Option<Grant> = None;
        let mut told = Told::default();
        loop {
            let slot = slots.slot_mut(Space::Normal, id)?;
            let found = slot.tree.next(from, self.machine, |page| page.content() != Content::Nothing);
            let Some((offset, page)) = found.filter(|(offset, _)| *offset < slot.pages()) else { return Ok(()) };
            let gfn = Gfn(slot.base().0 + offset);
            let small = matches!(page.content(), Content::Own(_)) && !page.is_large();
            if small && self.is_written(gfn, slot.base().0 + slot.pages(), &mut told) {
                from = offset + 1;
                continue;
            }
            if leaf.is_none_or(|leaf| end(&leaf) <= gfn.0) {
                leaf = self.machine.next_mapped(self.vm, gfn);
            }
            let mut mapped = leaf.filter(|leaf| leaf.gfn.0 <= gfn.0).map_or(0, |leaf| end(&leaf) - gfn.0);
            if let Content::Shared(frame) = page.content() {
                if mapped != 0 {
                    self.machine.unmap(self.vm, gfn, 1).map_err(SlotRefused::Kernel)?;
                }
                self.break_share(slot, offset, frame).map_err(|OutOfFrames| SlotRefused::OutOfMemory)?;
                mapped = 0;
            }
            if mapped == 0 {
                mapped = self.prefault_page(slots, gfn, policy, stats)?;
                (leaf, told) = (None, Told::default());
            }
            let slot = slots.slot_mut(Space::Normal, id)?;
            let whole = slot.tree.page(offset, self.machine).is_large();
            if whole && mapped < BLOCK {
                // Its other pages have entries of their own from now on, and are looked at one by one.
                slot.tree.split(offset, self.machine);
                self.counts.splits += 1;
                mapped = 1;
            }
            from = offset + if whole { mapped } else { 1 };
        }
    }

    /// Whether the guest may write the page, by the kernel's word, which is asked for a whole table at once: then it is mapped. Of
    /// any other page nothing is known.
    fn is_written(&mut self, gfn: Gfn, end: u64, told: &mut Told) -> bool {
        if !told.pages.contains(&gfn.0) {
            told.pages = gfn.0..(block(gfn).0 + BLOCK).min(end);
            let count = told.pages.end - gfn.0;
            let looked = self.machine.harvest(self.vm, gfn, count, Harvest::LookWritable);
            told.word = if looked.is_ok_and(|written| written != 0) { None } else { Some((u64::MAX, 0)) };
        }
        let place = gfn.0 - told.pages.start;
        let (_, bits) = match told.word {
            Some((word, bits)) if word == place / 64 || word == u64::MAX => (word, bits),
            Some(_) | None => *told.word.insert((place / 64, self.machine.harvested(place as usize / 64))),
        };
        bits >> (place % 64) & 1 != 0
    }

    /// What nobody has read of the module is read: it is content too.
    fn read_whole_image(&mut self, slot: &mut MemSlot) -> Result<(), SlotRefused> {
        let Some(image) = slot.image() else { return Ok(()) };
        for offset in 0..slot.pages() {
            if slot.tree.page(offset, self.machine).content() == Content::Nothing {
                let read = self.fill_from_image(slot, offset, image, Tried::Write);
                read.map_err(|OutOfFrames| SlotRefused::OutOfMemory)?;
            }
        }
        Ok(())
    }
}
