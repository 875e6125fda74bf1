//! Slots are made, moved, changed and deleted, and what is said of their pages. The reference knows what must be answered.

use super::{Memory, NORMAL, Tried, WITH_IMAGE, World};
use crate::testing::{Seen, slot};
use ipc_proto::fault::{ClaimedReply, FaultKind};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Tracking};

impl World {
    /// Sends a request of which it is known whether it is refused, and why. Says whether it was done: the fake kernel
    /// may refuse what it needs, and few frames may not do.
    fn change(&mut self, request: SlotRequest, expected: Result<(), SlotRefused>) -> bool {
        let refuses = self.machine.refuse_after.is_some();
        let reply = self.ask(request);
        match (reply, expected) {
            (SlotReply::Done, Ok(())) => true,
            (SlotReply::Refused(SlotRefused::Kernel(Refused::BadHandle)), Ok(())) if refuses => false,
            (SlotReply::Refused(SlotRefused::OutOfMemory), Ok(())) if self.setting.is_short() => false,
            (SlotReply::Refused(why), Err(known)) if why == known => false,
            _ => panic!("{reply:?}, not {expected:?}"),
        }
    }

    fn known(&self, id: u16) -> Result<&Memory, SlotRefused> {
        self.slots.get(&id).ok_or(SlotRefused::NoSuchSlot)
    }

    /// Whether pages from there on are nobody else's.
    fn is_free(&self, base: u64, pages: u64, but: u16) -> Result<(), SlotRefused> {
        let shares = |slot: &Memory| slot.base < base + pages && base < slot.base + slot.pages;
        let others = self.slots.iter().filter(|(id, slot)| **id != but && shares(slot));
        let first = others.min_by_key(|(_, slot)| slot.base);
        first.map_or(Ok(()), |(id, _)| Err(SlotRefused::Overlap(SlotId(*id))))
    }

    pub fn create(&mut self, id: u16, base: u64, pages: u64, flags: SlotFlags) {
        let exists = if self.slots.contains_key(&id) { Err(SlotRefused::Exists) } else { Ok(()) };
        let expected = exists.and_then(|()| self.is_free(base, pages, id));
        if self.change(SlotRequest::Create(slot(id, base, pages, flags)), expected) {
            let memory = Memory { base, pages, flags, image: id == WITH_IMAGE, ..Memory::default() };
            self.slots.insert(id, memory);
        }
    }

    pub fn delete(&mut self, id: u16) {
        let expected = self.known(id).map(|_| ());
        if self.change(SlotRequest::Delete(NORMAL, SlotId(id)), expected) {
            self.slots.remove(&id);
        }
    }

    pub fn relocate(&mut self, id: u16, base: u64) {
        let expected = self.known(id).and_then(|slot| self.is_free(base, slot.pages, id));
        if self.change(SlotRequest::Move(NORMAL, SlotId(id), Gfn(base)), expected) {
            let slot = self.slots.get_mut(&id).expect("the slot of a request that was done");
            slot.base = base;
            slot.noted.clear();
        }
    }

    pub fn set_flags(&mut self, id: u16, flags: SlotFlags) {
        let expected = self.known(id).map(|_| ());
        if self.change(SlotRequest::SetFlags(NORMAL, SlotId(id), flags), expected) {
            let slot = self.slots.get_mut(&id).expect("the slot of a request that was done");
            if (flags ^ slot.flags).contains(SlotFlags::LOG_DIRTY_PAGES) {
                slot.dirty.clear();
            }
            slot.flags = flags;
            // Blocks that are made whole are taken away, and what is noted of them.
            slot.noted.clear();
        }
    }

    pub fn track(&mut self, gfn: u64, tracking: Tracking) {
        let expected = self.at(gfn).map(|_| ()).ok_or(SlotRefused::NoSuchSlot);
        if self.change(SlotRequest::Track(NORMAL, Gfn(gfn), tracking), expected) {
            let (slot, offset) = self.at(gfn).expect("the page of a request that was done");
            match tracking {
                Tracking::On => slot.tracked.insert(offset),
                Tracking::Off => slot.tracked.remove(&offset),
            };
        }
    }

    /// The guest makes 64 KiB around the page uncached.
    pub fn memory_type(&mut self, gfn: u64) {
        let values = [gfn << 12, !0xffff & 0xf_ffff_ffff | 1 << 11, 0x806];
        for (place, (register, value)) in [0x200, 0x201, 0x2ff].into_iter().zip(values).enumerate() {
            if self.change(SlotRequest::MemoryType(register, value), Ok(())) {
                self.types[place] = value;
            }
        }
    }

    /// The 16 pages that are uncached while the rest is not.
    pub fn uncached(&self) -> Option<u64> {
        let [base, mask, default] = self.types;
        (default & mask & 1 << 11 != 0).then_some(base >> 12 & !15)
    }

    pub fn recover(&mut self) {
        for gfn in (0..5).map(|block| Gfn(block * 512)) {
            self.pager.recover_block(0, gfn, &mut self.machine);
        }
    }

    /// The slot at that page, and where it begins.
    fn held(&self, gfn: u64) -> Option<(u16, u64)> {
        let holds = |slot: &Memory| gfn.wrapping_sub(slot.base) < slot.pages;
        self.slots.iter().find(|(_, slot)| holds(slot)).map(|(id, slot)| (*id, slot.base))
    }

    /// The answer to a write is worked out, then a slot is deleted or moved, then the answer arrives. If it is of the slot
    /// that is gone, it maps nothing.
    pub fn overtaken(&mut self, vcpu: u16, gfn: u64, id: u16, base: Option<u64>) {
        if !matches!(self.machine.guest(gfn, Rights::WRITE), Seen::Fault(FaultKind::Violation)) {
            // It was made.
            if self.at(gfn).is_some() {
                self.access(vcpu, gfn, Tried::Write(1));
            }
            return;
        }
        let fault = self.fault(vcpu, gfn, Tried::Write(1));
        let words = self.answer(&fault);
        if self.machine.mmu_seq != fault.mmu_seq {
            // It took something away: what it worked out is of the new number, and arrives first.
            let _ = self.machine.answered(&fault, &words);
            self.machine.drop_message();
            return self.access(vcpu, gfn, Tried::Write(1));
        }
        let held = self.held(gfn);
        match base {
            Some(base) => self.relocate(id, base),
            None => self.delete(id),
        }
        let before = (self.machine.ept.clone(), self.machine.large.clone());
        let maps = matches!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Map(..)));
        let gone = maps && self.held(gfn) != held;
        match self.machine.answered(&fault, &words) {
            Ok(_) => assert!(!gone, "gfn {gfn:#x}: an overtaken answer is accepted"),
            Err(refused) => {
                assert!(refused == Refused::Stale || !gone, "gfn {gfn:#x}: {refused}");
                let words = self.pager.after_refusal(&fault, refused, &mut self.machine);
                assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry));
                let now = (self.machine.ept.clone(), self.machine.large.clone());
                assert!(refused != Refused::Stale || now == before, "an overtaken answer maps nothing");
            }
        }
        self.machine.drop_message();
        // The vCPU goes on: what it was allowed to write in time it writes.
        self.access(vcpu, gfn, Tried::Write(1));
    }
}
