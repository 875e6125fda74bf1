//! Who has seen which pages used. The CPU's A bits are one record, and there are two readers: the policy ([`crate::reclaim`],
//! [`crate::survey`]) and the idle map ([`crate::idle`]). A harvest takes the bits, so what one reader finds is noted here
//! for the other, a bit for each page, until that one asks: each sees what was used since it asked last.
//!
//! Nothing is kept under policies that do not look. Where there is no frame for the notes, the policy does not look either:
//! it would take from the idle map what it cannot give back.

use crate::level::BLOCK;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::policy::{Bits, Chosen, Looks, Overcommit};
use crate::pool::Pool;
use crate::sparse::Sparse;
use crate::store::OutOfFrames;
use crate::tdp::Mmu;
use core::ops::Range;
use ipc_proto::grant::Gfn;
use ipc_proto::memop::{Abilities, Harvest};
use ipc_proto::slot::Space;

/// Pages in a number of the notes.
const PAGES: u64 = u32::BITS as u64;
/// Pages for which one frame is enough.
const FRAME: u64 = PAGES * crate::machine::WORDS as u64;

/// Who asks which pages were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The policy, when it takes frames back or surveys.
    Policy,
    /// Who asks for idle pages.
    IdleMap,
}

/// What each reader has not been told yet, though it is in no A bit any more.
#[derive(Debug)]
pub struct Seen {
    policy: Sparse,
    idle_map: Sparse,
}

impl Seen {
    /// Nothing is noted.
    pub const EMPTY: Self = Self { policy: Sparse::EMPTY, idle_map: Sparse::EMPTY };

    const fn of(&mut self, reader: Reader) -> &mut Sparse {
        match reader {
            Reader::Policy => &mut self.policy,
            Reader::IdleMap => &mut self.idle_map,
        }
    }

    /// Sees to it that both readers have room for notes of the pages.
    ///
    /// # Errors
    /// [`OutOfFrames`]: not of all of them.
    pub fn open(
        &mut self,
        first: Gfn,
        pages: u64,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<(), OutOfFrames> {
        let last = first.0 + pages.saturating_sub(1);
        for gfn in (first.0 / FRAME..=last / FRAME).map(|frame| (frame * FRAME).max(first.0)) {
            for reader in [Reader::Policy, Reader::IdleMap] {
                let key = key(gfn).ok_or(OutOfFrames)?;
                let noted = self.of(reader).get(key, memory);
                self.of(reader).set(key, noted, pool, memory)?;
            }
        }
        Ok(())
    }

    /// The page was used, as this reader has not been told. Without room it is not noted.
    pub fn note(&mut self, reader: Reader, gfn: Gfn, memory: &mut impl Memory) {
        let Some(key) = key(gfn.0) else { return };
        let noted = self.of(reader).get(key, memory) | 1 << (gfn.0 % PAGES);
        // Nothing is taken from a pool without frames.
        let _ = self.of(reader).set(key, noted, &mut Pool::empty(), memory);
    }

    /// The same of those pages of `part`, counted from `gfn`, that `used` has.
    fn note_all(&mut self, reader: Reader, gfn: Gfn, part: Range<u64>, used: &Bits, memory: &mut impl Memory) {
        let mut at = part.start;
        while at < part.end {
            let place = (gfn.0 + at) % PAGES;
            let count = (PAGES - place).min(part.end - at);
            let bits = used.row(at as usize, count as u32) << place;
            if bits != 0
                && let Some(key) = key(gfn.0 + at)
            {
                let noted = self.of(reader).get(key, memory) | bits;
                // Nothing is taken from a pool without frames.
                let _ = self.of(reader).set(key, noted, &mut Pool::empty(), memory);
            }
            at += count;
        }
    }

    /// Does `each` with the pages of the range that are noted for the reader, who is told of them.
    pub fn take(
        &mut self,
        reader: Reader,
        (first, pages): (Gfn, u64),
        memory: &mut impl Memory,
        mut each: impl FnMut(Gfn),
    ) {
        let end = first.0 + pages;
        for begin in (first.0 / PAGES..end.div_ceil(PAGES)).map(|number| number * PAGES) {
            let Some(key) = key(begin) else { return };
            let noted = self.of(reader).get(key, memory);
            if noted == 0 {
                continue;
            }
            let told = |n: &u64| noted >> n & 1 == 1 && (first.0..end).contains(&(begin + n));
            let left = (0..PAGES).filter(told).fold(noted, |left, n| {
                each(Gfn(begin + n));
                left & !(1 << n)
            });
            if left != noted {
                // It has room: it was there.
                let _ = self.of(reader).set(key, left, &mut Pool::empty(), memory);
            }
        }
    }

    /// What was noted of these pages is of a slot that lies there no more.
    pub fn forget(&mut self, first: Gfn, pages: u64, memory: &mut impl Memory) {
        for reader in [Reader::Policy, Reader::IdleMap] {
            if *self.of(reader) != Sparse::EMPTY {
                self.take(reader, (first, pages), memory, |_| {});
            }
        }
    }
}

fn key(gfn: u64) -> Option<u32> {
    u32::try_from(gfn / PAGES).ok().filter(|key| *key < crate::sparse::KEYS)
}

/// Whether the policy ever asks which pages were used.
pub fn looks(policy: &Chosen) -> bool {
    let duties = policy.duties();
    duties.overcommit == Overcommit::Yes || duties.looks == Looks::Accessed
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Makes room for notes of all slots while there are frames: when some are looked for, there are none. What cannot be had
    /// is tried again when the pages are looked at.
    pub fn open_notes(&mut self, slots: &MemSlots) {
        let Self { vm, pool, backing, machine, .. } = self;
        for slot in slots.iter(Space::Normal) {
            let _ = backing.vms[*vm].used.open(slot.base(), slot.pages(), pool, *machine);
        }
    }

    /// Which of these pages, of one block, were used since the policy asked last, by the CPU's A bits, or by hiding them
    /// where it has none. `None` when it cannot be told.
    pub fn used_for_policy(&mut self, slots: &mut MemSlots, gfn: Gfn, pages: u64) -> Option<Bits> {
        let Self { vm, pool, backing, machine, .. } = self;
        backing.vms[*vm].used.open(gfn, pages, pool, *machine).ok()?;
        let bits = self.watch.cpu.abilities.contains(Abilities::ACCESSED_DIRTY);
        if !bits {
            // Hiding takes the right to write, which may be what tells of writes.
            self.save_dirty(slots, gfn, pages).ok()?;
        }
        // Where the CPU has A bits, hiding would take a right to write of which nobody has noted that it was used.
        let mut used = self.harvest(gfn, pages, if bits { Harvest::Accessed } else { Harvest::Hide })?;
        let slot = slots.lookup(Space::Normal, gfn)?;
        // A slot that has moved may have parts of two of its blocks there.
        let offset = slot.offset(gfn);
        let next = pages.min(BLOCK - (slot.tree.skew() + offset) % BLOCK);
        for part in [0..next, next..pages] {
            let first = offset + part.start;
            if !slot.tree.page(first, self.machine).is_large() {
                self.backing.vms[self.vm].used.note_all(Reader::IdleMap, gfn, part, &used, self.machine);
            } else if part.into_iter().any(|n| used.has(n as usize)) {
                self.large_was_used(slot, first);
            }
        }
        let Self { vm, backing, machine, .. } = self;
        let told = |page: Gfn| used.set((page.0 - gfn.0) as usize);
        backing.vms[*vm].used.take(Reader::Policy, (gfn, pages), *machine, told);
        Some(used)
    }

    /// What the kernel reports of up to a block of pages; `None` when it does not.
    fn harvest(&mut self, gfn: Gfn, pages: u64, mode: Harvest) -> Option<Bits> {
        let found = self.machine.harvest(self.vm, gfn, pages, mode).ok()?;
        if found == 0 {
            return Some(Bits::NONE);
        }
        let inside = |word: usize| (pages as usize).saturating_sub(word * 64);
        let word = |word| if inside(word) == 0 { 0 } else { self.machine.harvested(word) };
        Some(Bits::from_words(core::array::from_fn(word)))
    }
}

#[cfg(test)]
mod tests;
