//! What a VM's memory is, by the requests that were done and the writes that were made: the simplest model there is.

use ipc_proto::slot::{SlotFlags, SlotRequest, Space, Tracking};
use std::collections::{BTreeMap, BTreeSet};

/// A slot.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Its first gfn.
    pub base: u64,
    /// Its length.
    pub pages: u64,
    /// Its flags.
    pub flags: SlotFlags,
    /// What was written: by offset in pages and in bytes.
    pub content: BTreeMap<u64, BTreeMap<usize, u64>>,
    /// Pages written since the log told them last.
    pub dirty: BTreeSet<u64>,
    /// Pages whose writes are MMIO.
    pub tracked: BTreeSet<u64>,
}

/// A VM's slots.
#[derive(Clone, Debug, Default)]
pub struct Model {
    slots: BTreeMap<(bool, u16), Slot>,
}

/// What an access must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is allowed.
    Allowed,
    /// It is emulated: no slot is there.
    NoSlot,
    /// It is emulated: the page may not be written.
    Protected,
    /// The window does not see the page.
    Private,
}

fn key(space: Space, id: u16) -> (bool, u16) {
    (space == Space::Smm, id)
}

impl Model {
    /// The slot of that number in the normal space.
    #[must_use]
    pub fn slot(&self, id: u16) -> Option<&Slot> {
        self.slots.get(&(false, id))
    }

    /// The slot of that number, to be written to.
    pub fn slot_mut(&mut self, id: u16) -> Option<&mut Slot> {
        self.slots.get_mut(&(false, id))
    }

    /// The numbers of all slots in the normal space.
    pub fn numbers(&self) -> Vec<u16> {
        self.slots.keys().filter(|(smm, _)| !smm).map(|(_, id)| *id).collect()
    }

    /// The slot that holds `gfn`, and the offset of the page in it.
    #[must_use]
    pub fn at(&self, gfn: u64) -> Option<(&Slot, u64)> {
        let slot = self.slots.iter().find(|((smm, _), slot)| !smm && gfn.wrapping_sub(slot.base) < slot.pages);
        slot.map(|(_, slot)| (slot, gfn - slot.base))
    }

    fn at_mut(&mut self, gfn: u64) -> Option<(&mut Slot, u64)> {
        let slot = self.slots.iter_mut().find(|((smm, _), slot)| !smm && gfn.wrapping_sub(slot.base) < slot.pages);
        slot.map(|(_, slot)| {
            let offset = gfn - slot.base;
            (slot, offset)
        })
    }

    /// A request was done.
    pub fn done(&mut self, request: &SlotRequest) {
        match *request {
            SlotRequest::Create(slot) => {
                let new = Slot { base: slot.base.0, pages: slot.pages, flags: slot.flags, ..Slot::default() };
                self.slots.insert(key(slot.space, slot.id.0), new);
            }
            SlotRequest::Delete(space, id) => {
                self.slots.remove(&key(space, id.0));
            }
            SlotRequest::Move(space, id, base) => {
                self.slots.entry(key(space, id.0)).and_modify(|slot| slot.base = base.0);
            }
            SlotRequest::SetFlags(space, id, flags) => {
                self.slots.entry(key(space, id.0)).and_modify(|slot| {
                    if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) != flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                        slot.dirty.clear();
                    }
                    slot.flags = flags;
                });
            }
            SlotRequest::Track(Space::Normal, gfn, tracking) => {
                if let Some((slot, offset)) = self.at_mut(gfn.0) {
                    match tracking {
                        Tracking::On => slot.tracked.insert(offset),
                        Tracking::Off => slot.tracked.remove(&offset),
                    };
                }
            }
            SlotRequest::Track(Space::Smm, ..)
            | SlotRequest::Hello(_)
            | SlotRequest::Stats
            | SlotRequest::DirtyLog(..)
            | SlotRequest::Why(_)
            | SlotRequest::MemoryType(..)
            | SlotRequest::Tell(..)
            | SlotRequest::Policy(_)
            | SlotRequest::Idle(..)
            | SlotRequest::Prefault(..)
            | SlotRequest::HandOver(_)
            | SlotRequest::TakeOver => {}
        }
    }

    /// What an access to `gfn` must lead to.
    #[must_use]
    pub fn expected(&self, gfn: u64, writes: bool, window: bool) -> Expected {
        let Some((slot, offset)) = self.at(gfn) else { return Expected::NoSlot };
        if window && slot.flags.contains(SlotFlags::PRIVATE) {
            return Expected::Private;
        }
        let protected = slot.flags.contains(SlotFlags::READONLY) || slot.tracked.contains(&offset);
        if writes && protected { Expected::Protected } else { Expected::Allowed }
    }

    /// The page was written: `value` at byte `place`.
    pub fn wrote(&mut self, gfn: u64, place: usize, value: u64) {
        if let Some((slot, offset)) = self.at_mut(gfn) {
            slot.content.entry(offset).or_default().insert(place, value);
            if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                slot.dirty.insert(offset);
            }
        }
    }

    /// What the page must read.
    #[must_use]
    pub fn page(&self, gfn: u64) -> Vec<u8> {
        let mut page = vec![0; crate::frames::FRAME];
        if let Some((slot, offset)) = self.at(gfn)
            && let Some(content) = slot.content.get(&offset)
        {
            for (place, value) in content {
                page[*place..place + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        page
    }

    /// What keeps the page from being writable by the guest, if anything.
    #[must_use]
    pub fn forbids_writes(&self, gfn: u64) -> Option<&'static str> {
        let (slot, offset) = self.at(gfn)?;
        if slot.flags.contains(SlotFlags::READONLY) {
            Some("its slot is READONLY")
        } else if slot.tracked.contains(&offset) {
            Some("it is tracked")
        } else {
            None
        }
    }
}
