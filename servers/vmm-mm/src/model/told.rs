//! What the pager tells of pages: which were written, and which nobody used.

use super::{NORMAL, World};
use crate::level::BLOCK;
use ipc_proto::grant::Gfn;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{DirtyPages, IdlePages, SlotFlags, SlotId, SlotReply, SlotRequest};
use std::collections::BTreeSet;
use std::vec::Vec;

/// The places of the bits that are set.
fn places(bits: &[u64; 16]) -> impl Iterator<Item = u64> {
    (0..16 * 64).filter(|place| bits[(place / 64) as usize] >> (place % 64) & 1 == 1)
}

impl World {
    /// What is told to be idle was not used since it was last told of; and what nobody touched is told to be idle.
    pub fn idle(&mut self, id: u16) {
        let (mut from, mut told) = (0, BTreeSet::new());
        let refuses = self.machine.refuse_after.is_some();
        loop {
            match self.ask(SlotRequest::Idle(NORMAL, SlotId(id), from)) {
                SlotReply::Idle(IdlePages { first, bits }) => {
                    told.extend(places(&bits).map(|place| first + place));
                    from = first + IdlePages::PAGES;
                }
                SlotReply::Done => break,
                SlotReply::Refused(_) => {
                    assert!(refuses || !self.slots.contains_key(&id));
                    // Some of it may have been harvested by then.
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.used.clear();
                        slot.noted.clear();
                    }
                    return;
                }
                SlotReply::Hello(_)
                | SlotReply::Dirty(_)
                | SlotReply::Line(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => {
                    panic!("nobody asked for that")
                }
            }
        }
        let slot = self.slots.get_mut(&id).expect("a slot that was not refused");
        let used = &slot.used | &slot.noted;
        let wrong: Vec<&u64> = told.intersection(&used).collect();
        assert!(wrong.is_empty(), "slot {id}: pages {wrong:x?} were used");
        slot.used.clear();
        slot.noted.clear();
        self.untouched_is_idle(id, &told);
    }

    /// Where the CPU has A bits, each page with a frame that nobody touched is idle. A large page is touched as one.
    fn untouched_is_idle(&mut self, id: u16, told: &BTreeSet<u64>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let touched = core::mem::take(&mut slot.touched);
        if !self.setting.abilities.contains(Abilities::ACCESSED_DIRTY) {
            return;
        }
        let held = self.pager.vms[0].slots.lookup(NORMAL, Gfn(slot.base)).expect("the pager has the slot");
        let skew = held.tree.skew();
        let near = |offset: u64| {
            let block = (offset + skew) / BLOCK * BLOCK;
            touched.range(block.saturating_sub(skew)..block + BLOCK - skew.min(block)).next().is_some()
        };
        let large = self.setting.policy == "huge";
        for offset in (0..slot.pages).filter(|offset| !told.contains(offset)) {
            let page = held.tree.page(offset, &self.machine);
            let was_touched = touched.contains(&offset) || large && near(offset);
            assert!(page.frame().is_none() || page.is_large() || was_touched, "slot {id}: page {offset:#x} is idle");
        }
    }

    /// The pager says what was written, no more: once the kernel has done what it was asked.
    pub fn dirty_log(&mut self, id: u16) {
        let (mut from, mut found) = (0, BTreeSet::new());
        let refuses = self.machine.refuse_after.is_some();
        loop {
            match self.ask(SlotRequest::DirtyLog(NORMAL, SlotId(id), from)) {
                SlotReply::Dirty(DirtyPages { first, bits }) => {
                    found.extend(places(&bits).map(|place| first + place));
                    from = first + DirtyPages::PAGES;
                }
                SlotReply::Done => break,
                SlotReply::Refused(_) => {
                    let slot = self.slots.get_mut(&id);
                    let logged = slot.filter(|slot| slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES));
                    let Some(slot) = logged else { return };
                    assert!(refuses);
                    // What was told before is told.
                    return slot.dirty.retain(|offset| !found.contains(offset));
                }
                SlotReply::Hello(_)
                | SlotReply::Idle(_)
                | SlotReply::Line(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => {
                    panic!("nobody asked for that")
                }
            }
        }
        let slot = self.slots.get_mut(&id).expect("a slot that was not refused");
        assert_eq!(found, core::mem::take(&mut slot.dirty), "slot {id}");
    }
}
