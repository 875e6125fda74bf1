//! Frames taken back under a running guest.
//!
//! The VM's pages are looked at block by block, round after round, as a clock's hand goes. The policy sees of each block
//! which pages have frames and which were used since it last looked, and says which it gives up. Those are unmapped, one
//! operation of the kernel for each row of neighbours; then their content goes to the compressed store and their frames
//! to the pool. What is noted of a page stays noted: a page that was written and taken back is still dirty.
//!
//! A round that finds less than one instruction may need, or less than a 32nd of the frames, is as good as one that finds
//! nothing: what it takes is what the guest brings back at once, and nobody comes further. A page that did not become
//! smaller is not tried again before it is written: it is mapped without that right, and its entry says so, which outlives
//! the task. So each try is paid for by a write.

use crate::backing::VmBacking;
use crate::compress::{Form, Packed};
use crate::level::BLOCK;
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlots, State};
use crate::policy::{Bits, Chosen, Looks, Purpose, View};
use crate::pool::Frame;
use crate::store::{Content, Stiff};
use crate::tdp::Mmu;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{SlotRefused, Space};

/// Pages that are taken back at a time: so long does a fault of another vCPU wait.
pub const PIECE: u64 = 16;
/// Blocks that are looked at in one piece, when nothing of them can be taken back.
const BLOCKS: usize = 4;
/// Ticks after which a piece ends with the page that is under way.
const TICKS: u64 = 200_000;
/// Rounds that find too little after which there is nothing more to take back. In the first, every page may have been used.
pub const ROUNDS: u8 = 3;
/// Rounds ahead of need that find too little, after which there are none before faults that waited have found enough: a page
/// must have been passed twice to be known as unused. More would take from the guest what it is about to use, again and again.
const VAIN: u8 = 2;
/// Pages that one instruction may need at the same time, with the tables through which it reaches them, at most.
const INSTRUCTION: u64 = 32;
/// So many of a VM's frames are worth a round.
const WORTH: u64 = 32;

/// Where a VM's pages are looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hand {
    gfn: u64,
    /// Rounds in which too little was found for the faults that waited.
    barren: u8,
    /// The same of rounds ahead of any.
    vain: u8,
    /// Frames that this round has found.
    found: u64,
}

/// Pages that the policy gave up, and that are taken back piece by piece. Whether each still has a frame is looked at then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victims {
    first: u64,
    evict: Bits,
    pages: u16,
    /// The first of them that is still to be taken back.
    next: u16,
}

/// Who needs frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nobody yet: few are left.
    Ahead,
    /// A fault waits for one.
    Waits,
}

/// What became of a piece of reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// So many frames, or none yet.
    Going(u64),
    /// There is nothing to take back.
    Exhausted,
}

impl Hand {
    /// At the first page.
    pub const START: Self = Self { gfn: 0, barren: 0, vain: 0, found: 0 };

    /// At that page.
    #[must_use]
    pub const fn at(gfn: u64) -> Self {
        Self { gfn, ..Self::START }
    }

    /// Behind the last page: the next round begins, unless so many have found less than is worth it.
    const fn wrap(&mut self, worth: u64, need: Need) -> Reclaimed {
        let (barren, vain) = match need {
            _ if self.found >= worth => (0, 0),
            Need::Ahead => (self.barren, self.vain.saturating_add(1)),
            Need::Waits => (self.barren + 1, self.vain),
        };
        *self = Self { gfn: 0, barren: barren % ROUNDS, vain, found: 0 };
        if barren < ROUNDS { Reclaimed::Going(0) } else { Reclaimed::Exhausted }
    }

    /// How many rounds have found too little, this one not if it has found enough. What is in use is for faults that wait; for
    /// them at once, when it was looked for ahead and nothing else was there.
    fn round(&self, worth: u64, need: Need) -> u8 {
        match need {
            Need::Waits if self.found < worth => self.barren.max(self.vain.min(1)),
            Need::Waits | Need::Ahead => 0,
        }
    }
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Takes a piece of the VM's frames back. Nothing is exhausted when nobody waits.
    pub fn reclaim(&mut self, slots: &mut MemSlots, policy: &mut Chosen, need: Need) -> Reclaimed {
        self.backing.vms[self.vm].zstore.reserve(self.pool, self.machine);
        let worth = self.worth();
        let until = self.machine.now().saturating_add(TICKS);
        for _ in 0..BLOCKS {
            let kept = self.backing.vms[self.vm].victims.take();
            let Some(victims) = kept.or_else(|| self.next_victims(slots, policy, need)) else {
                if self.backing.vms[self.vm].hand.wrap(worth, need) == Reclaimed::Exhausted {
                    return Reclaimed::Exhausted;
                }
                continue;
            };
            let before = self.pool.left();
            let rest = self.evict(slots, victims, until);
            let gained = self.pool.left().saturating_sub(before);
            let VmBacking { hand, victims, .. } = &mut self.backing.vms[self.vm];
            *victims = rest;
            hand.found += gained;
            if gained > 0 || self.machine.now() >= until {
                return Reclaimed::Going(gained);
            }
        }
        Reclaimed::Going(0)
    }

    /// Whether it is worth looking for frames that nobody waits for.
    pub fn may_look_ahead(&self) -> bool {
        self.backing.vms[self.vm].hand.vain < VAIN
    }

    /// How many frames a round must find: with fewer the guest does not come further. A VM with few frames at all must do
    /// with a quarter of them.
    pub fn worth(&self) -> u64 {
        let frames = u64::from(self.pool.total());
        (frames / WORTH).max(INSTRUCTION).min(frames / 4).max(1)
    }

    /// The hand goes over the next block: what the policy gives up of it. `None` behind the last.
    fn next_victims(&mut self, slots: &mut MemSlots, policy: &mut Chosen, need: Need) -> Option<Victims> {
        let hand = self.backing.vms[self.vm].hand;
        let round = hand.round(self.worth(), need);
        let view = self.view(slots, hand, Purpose::Frames { round }, Looks::Accessed)?;
        let evict = policy.survey(&view).evict.both(view.resident);
        self.backing.vms[self.vm].hand.gfn = view.gfn.0 + u64::from(view.pages);
        Some(Victims { first: view.gfn.0, evict, next: 0, pages: view.pages })
    }

    /// The next pages from the hand on: up to a block, in one slot. `None` behind the last.
    pub fn view(&mut self, slots: &mut MemSlots, hand: Hand, purpose: Purpose, looks: Looks) -> Option<View> {
        let (gfn, offset) = self.next_known(slots, hand.gfn)?;
        let slot = slots.lookup(Space::Normal, gfn)?;
        // A slot that has moved has its blocks elsewhere than the guest: in one of both lie those that are taken away at once.
        let in_tree = BLOCK - (slot.tree.skew() + offset) % BLOCK;
        let pages = (BLOCK - gfn.0 % BLOCK).min(in_tree).min(slot.pages() - offset);
        let mut view = View { vm: self.vm, gfn, pages: pages as u16, resident: Bits::NONE, accessed: None, purpose };
        let stiff = match purpose {
            Purpose::Frames { .. } => Stiff::Left,
            Purpose::Time { .. } => Stiff::Too,
        };
        slot.tree.own(offset, pages, stiff, self.machine, |n| view.resident.set(n));
        view.accessed = match looks {
            Looks::Accessed if view.resident == Bits::NONE => None,
            Looks::Accessed => self.used_for_policy(slots, gfn, pages),
            Looks::Resident => None,
        };
        Some(view)
    }

    /// The first page from `gfn` on of which something is known.
    fn next_known(&self, slots: &MemSlots, gfn: u64) -> Option<(Gfn, u64)> {
        slots.iter(Space::Normal).find_map(|slot| {
            let from = gfn.saturating_sub(slot.base().0);
            if from >= slot.pages() || slot.state() == State::Invalid {
                return None;
            }
            let (offset, _) = slot.tree.next(from, self.machine, |page| page.frame().is_some()).or_else(|| {
                // Of a large page only the first entry is looked at.
                let page = slot.tree.page(from, self.machine);
                page.is_large().then_some((from, page))
            })?;
            (offset < slot.pages()).then_some((Gfn(slot.base().0 + offset), offset))
        })
    }

    /// Takes pages back that were given up, a piece at most. What is left for the next.
    fn evict(&mut self, slots: &mut MemSlots, mut victims: Victims, until: u64) -> Option<Victims> {
        let (mut n, mut left) = (victims.next, PIECE);
        while n < victims.pages && left > 0 && self.machine.now() < until {
            let wanted = |n: &u16| victims.evict.has(usize::from(*n));
            let row = (n..victims.pages).take_while(wanted).count() as u64;
            let mut count = row.min(left);
            if count > 0 {
                count = self.evict_row(slots, Gfn(victims.first + u64::from(n)), count, until);
            }
            // One that is not wanted ends the row.
            n += (count as u16).max(1);
            left -= count;
        }
        victims.next = n;
        (n < victims.pages).then_some(victims)
    }

    /// Takes neighbouring pages of one slot back, as far as time goes; says how many. A large page among them is made small
    /// first.
    fn evict_row(&mut self, slots: &mut MemSlots, first: Gfn, count: u64, until: u64) -> u64 {
        if let Err(refused) = self.take_away(slots, first, count) {
            log::warn!("vm {}: gfn {:#x} cannot be taken back: {refused:?}", self.vm, first.0);
            return count;
        }
        for n in 0..count {
            self.pack(slots, Gfn(first.0 + n));
            if self.machine.now() >= until {
                return n + 1;
            }
        }
        count
    }

    /// Unmaps neighbouring pages of one slot, in one block of its tree; what the CPU knows of their writes is noted first. A
    /// large page, which no logged slot has, is made small.
    ///
    /// # Errors
    /// `Kernel`, `OutOfMemory`; nothing is unmapped then.
    pub fn take_away(&mut self, slots: &mut MemSlots, first: Gfn, count: u64) -> Result<(), SlotRefused> {
        if let Some(slot) = slots.lookup(Space::Normal, first)
            && slot.tree.page(slot.offset(first), self.machine).is_large()
        {
            let whole = slot.is_congruent();
            if whole {
                let block = Gfn(first.0 - first.0 % BLOCK);
                self.machine.unmap(self.vm, block, BLOCK).map_err(SlotRefused::Kernel)?;
            }
            slot.tree.split(slot.offset(first), self.machine);
            self.counts.splits += 1;
            if whole {
                return Ok(());
            }
            // Where the slot lies now it is mapped small, if at all, and its neighbours in the guest's block are anybody's.
        }
        self.save_dirty(slots, first, count)?;
        self.machine.unmap(self.vm, first, count).map(|_| ()).map_err(SlotRefused::Kernel)
    }

    /// Puts the page's content into the store and its frame into the pool. It is not mapped. A page that does not
    /// become smaller keeps its frame.
    fn pack(&mut self, slots: &mut MemSlots, gfn: Gfn) {
        let Some(slot) = slots.lookup(Space::Normal, gfn) else { return };
        let offset = slot.offset(gfn);
        let Self { vm, pool, backing, machine, .. } = self;
        let Content::Own(frame) = slot.tree.page(offset, *machine).content() else { return };
        let VmBacking { counts, zstore, .. } = &mut backing.vms[*vm];
        let content = match backing.compressor.pack(frame, *machine) {
            // Zeros are what a page without content has, unless a module says otherwise.
            Packed::Zero if slot.image().is_none() => {
                counts.same_filled += 1;
                Content::Nothing
            }
            Packed::TooLarge => {
                counts.incompressible += 1;
                slot.tree.set_stiff(offset, *machine);
                return;
            }
            Packed::Zero => return,
            Packed::Bytes(len, form) => {
                let Ok(place) = zstore.put(&backing.compressor.bytes()[..len], pool, *machine) else { return };
                counts.compressions += 1;
                counts.repeated += u64::from(form == Form::Repeated);
                counts.compressed_bytes += len as u64;
                Content::Packed(place)
            }
        };
        counts.evictions += 1;
        // The content is in the store before the frame goes.
        slot.tree.set(offset, content, *machine);
        pool.release(Frame::from_index(frame), *machine);
        zstore.reserve(pool, *machine);
    }
}

#[cfg(test)]
mod tests;
