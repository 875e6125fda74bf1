//! What must hold after each step.

use super::World;
use super::step::Setting;
use crate::dirty::Way;
use crate::serve::Pager;
use crate::testing::{FIRST_PFN, Trace};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{SlotFlags, Space};
use std::collections::BTreeSet;
use std::vec::Vec;

impl World {
    /// Pager ⇔ EPT ⇔ reference: nothing is mapped that no slot holds, each page to the frame that the pager has for it, no
    /// frame to two owners, no right that is not to be had, no write unseen, nothing remembered that is not true.
    pub fn check(&mut self) {
        let sizes = [Level::Page, Level::Large, Level::Huge];
        let pages = [&self.machine.ept, &self.machine.large, &self.machine.huge];
        let leaves: Vec<(u64, Level, u64, Rights)> = sizes
            .into_iter()
            .zip(pages)
            .flat_map(|(level, pages)| pages.iter().map(move |(gfn, (pfn, rights))| (*gfn, level, *pfn, *rights)))
            .collect();
        let mut frames = BTreeSet::new();
        for (gfn, level, pfn, rights) in leaves {
            self.is_the_pagers_own(gfn, level, pfn, rights, &mut frames);
            self.is_allowed(gfn, level, rights);
            self.is_seen(gfn, level);
        }
        for (gfn, generation) in self.machine.mmio.clone() {
            let valid = generation == self.machine.generation;
            assert!(!valid || self.at(gfn).is_none(), "gfn {gfn:#x} is memory, and remembered as none");
        }
        let counted = self.pager.vms[0].vcpus.each_ref().map(|stats| stats.pf_taken);
        assert_eq!(counted[..self.taken.len()], self.taken, "each fault is counted once, what is mapped ahead never");
        self.forget_unused();
    }

    /// At the end: without slots each frame is free, or has what outlives them.
    pub fn everything_comes_back(&mut self) {
        self.machine.refuse_after = None;
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.delete(id);
        }
        assert_eq!((self.machine.ept.len(), self.machine.large.len(), self.machine.huge.len()), (0, 0, 0));
        let Pager { vms, backing, .. } = &mut *self.pager;
        let (pool, of_vm) = (&mut vms[0].pool, &mut backing.vms[0]);
        of_vm.ahead.give_back(pool, &mut self.machine);
        assert_eq!((backing.shares.frames(), of_vm.zstore.pages(), of_vm.zero), (0, 0, None));
        assert_eq!(pool.left() + pool.donated() + of_vm.zstore.frames(), u64::from(pool.total()));
    }

    /// Each page is mapped to the frame that the pager's tree has for it.
    fn is_the_pagers_own(&mut self, gfn: u64, level: Level, pfn: u64, rights: Rights, frames: &mut BTreeSet<u64>) {
        let slot = self.pager.vms[0].slots.lookup(Space::Normal, Gfn(gfn)).expect("what is mapped has a slot");
        let step = if level == Level::Page { 1 } else { level.frames() - 1 };
        for n in (0..level.frames()).step_by(step as usize) {
            let page = slot.tree.page(slot.offset(Gfn(gfn + n)), &self.machine);
            assert_eq!(page.frame().map(|frame| FIRST_PFN + u64::from(frame)), Some(pfn + n), "gfn {:#x}", gfn + n);
            // Where a slot lies out of line, what is large for the pager can only be mapped small.
            let large = page.is_large() && (slot.is_congruent() || level > Level::Page);
            assert_eq!(large, level > Level::Page, "gfn {:#x}: of what size it is", gfn + n);
            assert!(!page.is_shared() || !rights.contains(Rights::WRITE), "gfn {:#x}: others have its frame", gfn + n);
            assert!(
                !page.is_stiff() || !rights.contains(Rights::WRITE),
                "gfn {:#x}: its write would not be seen",
                gfn + n
            );
            assert!(frames.insert(pfn + n) || page.is_shared(), "frame {:#x} is mapped twice", pfn + n);
        }
    }

    /// No right that the slot, its tracked pages or the CPU's erratum forbid.
    fn is_allowed(&mut self, gfn: u64, level: Level, rights: Rights) {
        let nx = self.setting.nx && self.setting.policy == "huge";
        assert!(!(nx && level > Level::Page && rights.contains(Rights::EXECUTE)), "gfn {gfn:#x} can be fetched from");
        let mixed = self.uncached().is_some_and(|uncached| (gfn..gfn + level.frames()).contains(&uncached));
        assert!(level == Level::Page || !mixed, "gfn {gfn:#x}: a large page of two memory types");
        let hidden = self.machine.hidden.contains(&gfn);
        let (slot, offset) = self.at(gfn).expect("what is mapped has a slot");
        let pages = level.frames();
        assert!(offset + pages <= slot.pages, "a large page reaches beyond its slot");
        assert!(level == Level::Page || !slot.image, "what is read page by page is large");
        let tracked = slot.tracked.range(offset..offset + pages).next().is_some();
        let readonly = slot.flags.contains(SlotFlags::READONLY);
        assert!(!(readonly || tracked) || !rights.contains(Rights::WRITE), "gfn {gfn:#x} is writable");
        assert_eq!(hidden, slot.flags.contains(SlotFlags::PRIVATE), "gfn {gfn:#x}: who sees a page is granted with it");
        assert!(!slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) || level == Level::Page, "a logged page is large");
    }

    /// What the EPT says was written in a logged slot, was; and the other way round, by the answers to `DirtyLog`.
    fn is_seen(&mut self, gfn: u64, level: Level) {
        let way = self.setting.way;
        let trace = self.machine.traces[&gfn];
        let written = match way {
            Way::WriteProtect => trace.allowed.contains(Rights::WRITE),
            Way::DirtyBits => trace.dirty,
            Way::Pml => false,
        };
        let (slot, offset) = self.at(gfn).expect("what is mapped has a slot");
        let logged = slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) && level == Level::Page;
        assert!(!(logged && written) || slot.dirty.contains(&offset), "gfn {gfn:#x} was not written");
    }

    /// Pages that were taken away since they were used, or whose use somebody else has harvested.
    fn forget_unused(&mut self) {
        let Self { setting, machine, slots, .. } = self;
        for slot in slots.values_mut() {
            let base = slot.base;
            slot.used.retain(|offset| {
                machine.found(base + offset).is_some_and(|(start, _)| is_used(setting, &machine.traces[&start]))
            });
        }
    }

    /// The policy may have looked: small pages that stay where they are and whose use it has seen.
    pub fn note_seen(&mut self) {
        let Self { setting, machine, slots, .. } = self;
        for slot in slots.values_mut() {
            let base = slot.base;
            let seen = |offset: &&u64| match machine.found(base + **offset) {
                Some((start, Level::Page)) => !is_used(setting, &machine.traces[&start]),
                Some((_, Level::Large | Level::Huge)) | None => false,
            };
            let seen: Vec<u64> = slot.used.iter().filter(seen).copied().collect();
            slot.noted.extend(seen);
        }
    }
}

/// What the CPU leaves behind says that the page was used.
fn is_used(setting: &Setting, trace: &Trace) -> bool {
    let bits = setting.abilities.contains(Abilities::ACCESSED_DIRTY);
    if bits { trace.accessed } else { !trace.allowed.is_empty() }
}
