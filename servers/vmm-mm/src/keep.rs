//! What outlives the task: the list of slots, and the roots of their trees, in frames of the pager's own.
//!
//! Everything that is known of pages is in frames already: the trees of the slots ([`crate::store`]) and the compressed store
//! ([`crate::zstore`]). This adds what leads there: a *head*, whose pfn the kernel tells the next incarnation, and *records*, one
//! for each slot. A record is written whole before its first word makes it one, and a changed slot gets a new record before
//! the old one goes: whenever the task dies, there is the state before a change or the one behind it. Nothing else is kept: what
//! is free, shared or promised is found by going through the trees ([`crate::adopt`]).
//!
//! | head | |
//! | --- | --- |
//! | 0, 1 | what it is, and its version |
//! | 2 | frames that the pager had in all |
//! | 3, 4 | frames with a bit for each of them, for [`crate::adopt`]: the first, and how many |
//! | 5 | checksum of 0 to 4 |
//! | 6 | the first frame of records, plus one; its word 0 is the next one's |
//! | 8 and on | by VM: whether it has been greeted |
//! | 128 and on | what was set at run time: [`settings`] |

mod settings;

use crate::machine::{Memory, WORDS};
use crate::memslot::MemSlot;
use crate::pool::Pool;
use crate::store::OutOfFrames;
use core::sync::atomic::{Ordering, compiler_fence};
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, Space};

const MAGIC: u32 = 0x6b65_6570;
const VERSION: u32 = 1;
/// Words of the head.
const SUM: usize = 5;
const RECORDS: usize = 6;
const GREETED: usize = 8;
/// Words in a record; those of a frame's first are the frame's own.
const RECORD: usize = 16;

/// What was written before this is in memory before what is written behind it: a task may die between any two instructions.
#[inline(always)]
pub(crate) fn settled() {
    compiler_fence(Ordering::SeqCst);
}

/// Where everything is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keeper {
    /// The head's frame, plus one; 0 while nothing is kept.
    head: u32,
    /// A record that is newer has a higher number.
    number: u32,
}

/// A record's place: its frame and word, as one number that is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell(u32);

/// A slot as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub vm: usize,
    /// The slot.
    pub slot: Slot,
    /// The boot module whose content it has.
    pub image: Option<u8>,
    /// Frames that were promised to it.
    pub promised: u64,
    /// Root and skew of its tree.
    pub tree: (u32, u32),
    number: u32,
    cell: Cell,
}

/// What is kept makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHead;

impl Cell {
    /// There is none.
    pub const NONE: Self = Self(0);

    const fn at(frame: u32, place: usize) -> Self {
        Self(frame * (WORDS / RECORD) as u32 + place as u32)
    }

    /// Its frame, and which of the frame's it is.
    #[must_use]
    pub const fn place(self) -> (u32, usize) {
        let (frame, word) = self.word();
        (frame, word / RECORD)
    }

    const fn word(self) -> (u32, usize) {
        (self.0 / (WORDS / RECORD) as u32, self.0 as usize % (WORDS / RECORD) * RECORD)
    }
}

/// A checksum (FNV-1a) that is never 0.
fn sum(words: impl Iterator<Item = u32>) -> u32 {
    words.fold(0x811c_9dc5, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193).rotate_left(7)) | 1
}

impl Keeper {
    /// Nothing is kept.
    pub const OFF: Self = Self { head: 0, number: 0 };

    /// Makes a head in frames of the pool, which has `total` in all. Says its frame.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn begin(&mut self, total: u32, pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
        let count = total.div_ceil(32 * WORDS as u32);
        let first = pool.take_row(count + 1, memory).ok_or(OutOfFrames)?;
        memory.clear(first);
        let words = [MAGIC, VERSION, total, first + 1, count];
        words.into_iter().enumerate().for_each(|(place, word)| memory.set_word(first, place, word));
        memory.set_word(first, SUM, sum(words.into_iter()));
        self.head = first + 1;
        Ok(first)
    }

    /// Goes on with the head in `frame`. Says how many frames the pager has, and the first and the number of those with a bit for
    /// each.
    ///
    /// # Errors
    /// [`NoHead`] when that is none.
    pub fn resume(&mut self, frame: u32, memory: &impl Memory) -> Result<(u32, u32, u32), NoHead> {
        let [magic, version, total, first, count] = core::array::from_fn(|place| memory.word(frame, place));
        let right = memory.word(frame, SUM) == sum([magic, version, total, first, count].into_iter());
        if !right || (magic, version) != (MAGIC, VERSION) {
            return Err(NoHead);
        }
        self.head = frame + 1;
        Ok((total, first, count))
    }

    /// The head's frame, if anything is kept.
    #[must_use]
    pub const fn head(&self) -> Option<u32> {
        self.head.checked_sub(1)
    }

    /// Whether anything is kept.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.head != 0
    }

    /// The VM's server has said hello.
    pub fn greet(&self, vm: usize, memory: &mut impl Memory) {
        if let Some(head) = self.head.checked_sub(1) {
            memory.set_word(head, GREETED + vm, 1);
        }
    }

    /// Whether it had.
    #[must_use]
    pub fn was_greeted(&self, vm: usize, memory: &impl Memory) -> bool {
        self.head.checked_sub(1).is_some_and(|head| memory.word(head, GREETED + vm) == 1)
    }

    /// Keeps the slot as it is now.
    ///
    /// # Errors
    /// [`OutOfFrames`]; what was kept of it before is kept still.
    pub fn put(
        &mut self,
        vm: usize,
        space: Space,
        slot: &mut MemSlot,
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<(), OutOfFrames> {
        if !self.is_on() {
            return Ok(());
        }
        let (root, skew) = slot.tree.plant(pool, memory)?;
        let cell = self.free_cell(pool, memory)?;
        self.number += 1;
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        let place = vm as u32 | (space as u32) << 8 | (slot.image().map_or(0, |image| u32::from(image) + 1)) << 16;
        let ([base, base_high], [pages, pages_high]) = (halves(slot.base().0), halves(slot.pages()));
        let [promised, promised_high] = halves(slot.promised);
        let words = [
            self.number,
            place,
            u32::from(slot.id().0),
            base,
            base_high,
            pages,
            pages_high,
            slot.flags().bits(),
            promised,
            promised_high,
            root,
            skew,
        ];
        let (frame, word) = cell.word();
        words.into_iter().enumerate().for_each(|(n, value)| memory.set_word(frame, word + 1 + n, value));
        settled();
        memory.set_word(frame, word, sum(words.into_iter()));
        settled();
        self.remove(core::mem::replace(&mut slot.cell, cell), memory);
        Ok(())
    }

    /// Forgets a record. Nobody must use the frames of its slot for anything else before.
    pub fn remove(&self, cell: Cell, memory: &mut impl Memory) {
        if cell != Cell::NONE {
            let (frame, word) = cell.word();
            memory.set_word(frame, word, 0);
            settled();
        }
    }

    /// A place for one more record.
    fn free_cell(&self, pool: &mut Pool, memory: &mut impl Memory) -> Result<Cell, OutOfFrames> {
        let (mut last, mut word) = (self.head.checked_sub(1).ok_or(OutOfFrames)?, RECORDS);
        while let Some(frame) = memory.word(last, word).checked_sub(1) {
            if let Some(place) = (1..WORDS / RECORD).find(|place| memory.word(frame, place * RECORD) == 0) {
                return Ok(Cell::at(frame, place));
            }
            (last, word) = (frame, 0);
        }
        let frame = pool.take_zeroed(memory).ok_or(OutOfFrames)?;
        settled();
        memory.set_word(last, word, frame.index() + 1);
        Ok(Cell::at(frame.into_index(), 1))
    }

    /// There is room for one more record: the next slot that is changed can be kept.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn make_room(&self, pool: &mut Pool, memory: &mut impl Memory) -> Result<(), OutOfFrames> {
        if self.is_on() { self.free_cell(pool, memory).map(|_| ()) } else { Ok(()) }
    }

    /// The frame of records behind `last`, or the first.
    #[must_use]
    pub fn records_behind(&self, last: Option<u32>, memory: &impl Memory) -> Option<u32> {
        let (frame, word) = match last {
            Some(frame) => (frame, 0),
            None => (self.head.checked_sub(1)?, RECORDS),
        };
        memory.word(frame, word).checked_sub(1)
    }

    /// The record at a place of `frame`, if there is one.
    #[must_use]
    pub fn record(&mut self, frame: u32, place: usize, memory: &impl Memory) -> Option<Kept> {
        let at = place * RECORD;
        // A checksum is never 0.
        if memory.word(frame, at) == 0 {
            return None;
        }
        let words: [u32; 12] = core::array::from_fn(|n| memory.word(frame, at + 1 + n));
        if memory.word(frame, at) != sum(words.into_iter()) {
            return None;
        }
        let [number, who, id, base, base_high, pages, pages_high, flags, promised, promised_high, root, skew] = words;
        let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let space = if who >> 8 & 0xff == 0 { Space::Normal } else { Space::Smm };
        let slot = Slot {
            id: SlotId(id as u16),
            space,
            base: Gfn(whole(base, base_high)),
            pages: whole(pages, pages_high),
            flags: SlotFlags::from_bits_truncate(flags),
        };
        self.number = self.number.max(number);
        Some(Kept {
            vm: (who & 0xff) as usize,
            slot,
            image: (who >> 16 & 0xff).checked_sub(1).map(|image| image as u8),
            promised: whole(promised, promised_high),
            tree: (root, skew),
            number,
            cell: Cell::at(frame, place),
        })
    }

    /// Records in a frame.
    pub const PLACES: core::ops::Range<usize> = 1..WORDS / RECORD;
}

impl Kept {
    /// Where it is kept.
    #[must_use]
    pub const fn cell(&self) -> Cell {
        self.cell
    }

    /// Whether it is newer than the other.
    #[must_use]
    pub const fn is_newer(&self, other: &Self) -> bool {
        self.number > other.number
    }
}
