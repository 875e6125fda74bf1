//! The compressed store: pages that were taken from the guest, in fewer bytes, in frames of the pager's own.
//!
//! A frame of the store is 32 *units* of 128 bytes. The first is its head: which units are free, and its neighbours in
//! the list of frames that have some. A page is a chain of units, in one frame or several, and is named by the first;
//! each begins with the number of the next. So a page costs what it needs, rounded up to one unit, and a frame goes back
//! to the pool with its last unit. All of it is in frames: who has the page tables of the slots ([`crate::store`]) finds
//! every page, and its checksum tells whether it is what was stored.

use crate::adopt::Marks;
use crate::compress::{Damaged, MOST, checksum};
use crate::machine::{Memory, WORDS};
use crate::pool::{Frame, Pool};
use crate::store::OutOfFrames;

/// 32-bit words in a unit.
const UNIT: usize = 32;
/// Units in a frame, its head included.
const UNITS: u32 = (WORDS / UNIT) as u32;
/// Bytes of content in a unit: the first word is the next unit's number plus one.
const PAYLOAD: usize = (UNIT - 1) * 4;
/// In front of the content: checksum and length.
const HEAD: usize = 8;
/// Frames above this one cannot be in the store: places would not fit into a page's entry.
const LAST_FRAME: u32 = (1 << 21) - 2;
/// What the first word of a frame of the store is.
const MAGIC: u32 = 0x7a73_746f;
/// Bits of the head's units: all but the head itself.
const ALL_FREE: u32 = !1;

/// Words of a frame's head.
mod head {
    pub const MAGIC: usize = 0;
    pub const FREE: usize = 1;
    pub const NEXT: usize = 2;
    pub const PREVIOUS: usize = 3;
}

/// The store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Zstore {
    /// The first frame that has a free unit, its number plus one; 0 for none.
    partial: u32,
    /// Frames that it has.
    frames: u64,
    /// Pages that it holds.
    pages: u64,
    /// Bytes of content of those pages.
    bytes: u64,
    /// Kept for when no other frame is left: a page can be stored before its own frame is given up.
    spare: Option<u32>,
}

impl Zstore {
    /// Nothing is stored.
    pub const EMPTY: Self = Self { partial: 0, frames: 0, pages: 0, bytes: 0, spare: None };

    /// Frames that it has, the spare one included.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames + u64::from(self.spare.is_some())
    }

    /// Pages that it holds.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Bytes of the pages that it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a frame aside, so that a page can be stored when the pool is empty.
    pub fn reserve(&mut self, pool: &mut Pool, memory: &mut impl Memory) {
        if self.spare.is_some() {
            return;
        }
        match pool.take_any(memory) {
            Some(frame) if frame.index() > LAST_FRAME => pool.release(frame, memory),
            frame => self.spare = frame.map(Frame::into_index),
        }
    }

    /// Stores `bytes`, at most [`MOST`], and says where.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nothing is stored then.
    pub fn put(&mut self, bytes: &[u8], pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
        let checksum = checksum(bytes).to_le_bytes();
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&checksum);
        head[4..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        // Backwards, so that each unit is written with the next one's number.
        let (first, rest) = bytes.split_at(bytes.len().min(PAYLOAD - HEAD));
        let mut next = 0;
        for chunk in rest.chunks(PAYLOAD).rev() {
            next = self.put_unit(next, &[], chunk, pool, memory)?;
        }
        let first = self.put_unit(next, &head, first, pool, memory)?;
        self.pages += 1;
        self.bytes += bytes.len() as u64;
        Ok(first - 1)
    }

    /// Stores one unit, and says its number plus one. Without room the chain behind it is given back.
    fn put_unit(
        &mut self,
        next: u32,
        head: &[u8],
        chunk: &[u8],
        pool: &mut Pool,
        memory: &mut impl Memory,
    ) -> Result<u32, OutOfFrames> {
        let Some(unit) = self.take_unit(pool, memory) else {
            self.free_chain(next, pool, memory);
            return Err(OutOfFrames);
        };
        let (frame, word) = place(unit);
        memory.set_word(frame, word, next);
        memory.write_at(frame, word + 1, head);
        memory.write_at(frame, word + 1 + head.len() / 4, chunk);
        Ok(unit + 1)
    }

    /// Copies the page that begins at `place` to `bytes` and says its length.
    ///
    /// # Errors
    /// [`Damaged`] when that is no page, or not what was stored.
    pub fn get(&self, place: u32, bytes: &mut [u8], memory: &impl Memory) -> Result<usize, Damaged> {
        let (frame, word) = self::place(place);
        let (sum, len) = (memory.word(frame, word + 1), memory.word(frame, word + 2) as usize);
        let Some(bytes) = bytes.get_mut(..len).filter(|_| len <= MOST) else { return Err(Damaged) };
        let (first, rest) = bytes.split_at_mut(len.min(PAYLOAD - HEAD));
        memory.read_at(frame, word + 1 + HEAD / 4, first);
        let mut next = memory.word(frame, word);
        for chunk in rest.chunks_mut(PAYLOAD) {
            let (frame, word) = self::place(next.checked_sub(1).ok_or(Damaged)?);
            memory.read_at(frame, word + 1, chunk);
            next = memory.word(frame, word);
        }
        if checksum(bytes) == sum { Ok(len) } else { Err(Damaged) }
    }

    /// Forgets the page that begins at `place`.
    pub fn remove(&mut self, place: u32, pool: &mut Pool, memory: &mut impl Memory) {
        let (frame, word) = self::place(place);
        self.pages -= 1;
        self.bytes -= u64::from(memory.word(frame, word + 2));
        self.free_chain(place + 1, pool, memory);
    }

    /// A page that the incarnation before has stored begins at `place`: its units are in use, and their frames are the store's.
    /// What a death has left in the heads of frames does not matter: they are made anew.
    ///
    /// # Errors
    /// [`Damaged`] when that is no chain of units, or one that another page has too.
    pub(crate) fn adopt(&mut self, place: u32, marks: &Marks, memory: &mut impl Memory) -> Result<(), Damaged> {
        let (mut next, mut last) = (place + 1, None);
        for _ in 0..=MOST / PAYLOAD + 1 {
            let Some(unit) = next.checked_sub(1) else {
                let (frame, word) = self::place(place);
                self.pages += 1;
                self.bytes += u64::from(memory.word(frame, word + 2));
                return Ok(());
            };
            let (frame, word) = self::place(unit);
            // Most of a page is in one frame.
            if last != Some(frame) {
                self.adopt_frame(frame, marks, memory)?;
                last = Some(frame);
            }
            let free = memory.word(frame, head::FREE);
            if free >> (unit % UNITS) & 1 == 0 {
                return Err(Damaged);
            }
            memory.set_word(frame, head::FREE, free & !(1 << (unit % UNITS)));
            next = memory.word(frame, word);
        }
        Err(Damaged)
    }

    /// A page has units in the frame: it is the store's, or becomes so.
    fn adopt_frame(&mut self, frame: u32, marks: &Marks, memory: &mut impl Memory) -> Result<(), Damaged> {
        if frame > LAST_FRAME || !marks.has(frame) {
            return Err(Damaged);
        }
        if !marks.mark(frame, memory) {
            memory.set_word(frame, head::MAGIC, MAGIC);
            memory.set_word(frame, head::FREE, ALL_FREE);
            self.frames += 1;
            self.link(frame, memory);
        }
        if memory.word(frame, head::MAGIC) == MAGIC { Ok(()) } else { Err(Damaged) }
    }

    /// Every page is adopted: frames without a free unit leave the list of those that have some.
    pub(crate) fn settle(&mut self, memory: &mut impl Memory) {
        let mut next = self.partial;
        while let Some(frame) = next.checked_sub(1) {
            next = memory.word(frame, head::NEXT);
            if memory.word(frame, head::FREE) == 0 {
                self.unlink(frame, memory);
            }
        }
    }

    fn free_chain(&mut self, mut next: u32, pool: &mut Pool, memory: &mut impl Memory) {
        while let Some(unit) = next.checked_sub(1) {
            let (frame, word) = place(unit);
            next = memory.word(frame, word);
            self.free_unit(unit, pool, memory);
        }
    }

    fn take_unit(&mut self, pool: &mut Pool, memory: &mut impl Memory) -> Option<u32> {
        let frame = match self.partial.checked_sub(1) {
            Some(frame) => frame,
            None => self.add_frame(pool, memory)?,
        };
        let free = memory.word(frame, head::FREE);
        let left = free & (free - 1);
        memory.set_word(frame, head::FREE, left);
        if left == 0 {
            self.unlink(frame, memory);
        }
        Some(frame * UNITS + free.trailing_zeros())
    }

    fn free_unit(&mut self, unit: u32, pool: &mut Pool, memory: &mut impl Memory) {
        let frame = unit / UNITS;
        let before = memory.word(frame, head::FREE);
        let free = before | 1 << (unit % UNITS);
        memory.set_word(frame, head::FREE, free);
        if before == 0 {
            self.link(frame, memory);
        }
        if free == ALL_FREE {
            self.unlink(frame, memory);
            self.frames -= 1;
            memory.set_word(frame, head::MAGIC, 0);
            if self.spare.is_none() {
                self.spare = Some(frame);
            } else {
                pool.release(Frame::from_index(frame), memory);
            }
        }
    }

    /// A frame with nothing in it, from the pool, or the one that was put aside.
    fn add_frame(&mut self, pool: &mut Pool, memory: &mut impl Memory) -> Option<u32> {
        let frame = match pool.take_any(memory) {
            Some(frame) if frame.index() > LAST_FRAME => {
                pool.release(frame, memory);
                self.spare.take()?
            }
            Some(frame) => frame.into_index(),
            None => self.spare.take()?,
        };
        memory.set_word(frame, head::MAGIC, MAGIC);
        memory.set_word(frame, head::FREE, ALL_FREE);
        self.frames += 1;
        self.link(frame, memory);
        Some(frame)
    }

    fn link(&mut self, frame: u32, memory: &mut impl Memory) {
        memory.set_word(frame, head::PREVIOUS, 0);
        memory.set_word(frame, head::NEXT, self.partial);
        if let Some(next) = self.partial.checked_sub(1) {
            memory.set_word(next, head::PREVIOUS, frame + 1);
        }
        self.partial = frame + 1;
    }

    fn unlink(&mut self, frame: u32, memory: &mut impl Memory) {
        let (previous, next) = (memory.word(frame, head::PREVIOUS), memory.word(frame, head::NEXT));
        match previous.checked_sub(1) {
            Some(before) => memory.set_word(before, head::NEXT, next),
            None => self.partial = next,
        }
        if let Some(after) = next.checked_sub(1) {
            memory.set_word(after, head::PREVIOUS, previous);
        }
    }
}

/// The frame of a unit, and its first word there.
const fn place(unit: u32) -> (u32, usize) {
    (unit / UNITS, (unit % UNITS) as usize * UNIT)
}

#[cfg(test)]
mod tests;
