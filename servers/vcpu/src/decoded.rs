//! Instructions that were decoded before.
//!
//! Decoding is a function of bytes and width, and of nothing else; so its results are kept under exactly these. Nothing
//! here can become stale: with every access the guest's tables are walked and the bytes are read again, and only then is
//! one looked for. An instruction ends where its own bytes say, so bytes behind its end are no part of the key.

use crate::alu::mask;
use crate::instruction::{Instruction, LONGEST, Undecoded, decode};
use crate::translate::Width;

/// Instructions that are kept: more than a driver has for its device.
const KEPT: usize = 32;
/// Bytes that are fetched: two words, which hold the longest instruction.
pub const FETCHED: usize = 16;

/// Bytes at an instruction pointer, as many as could be fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Code {
    bytes: [u8; FETCHED],
    len: usize,
}

impl Code {
    /// All of them.
    #[inline]
    #[must_use]
    pub const fn whole(bytes: [u8; FETCHED]) -> Self {
        Self { bytes, len: LONGEST }
    }

    /// One byte more; what is longer than an instruction is dropped.
    pub fn push(&mut self, byte: u8) {
        if self.len < LONGEST {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The first `length` bytes as two words, and zeros.
    #[inline]
    const fn first(&self, length: u8) -> [u64; 2] {
        let both = u128::from_le_bytes(self.bytes);
        [both as u64 & mask(length), (both >> 64) as u64 & mask(length.saturating_sub(8))]
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: [u64; 2],
    width: Width,
    instruction: Instruction,
}

/// The instructions that are kept.
#[derive(Clone, Debug)]
pub struct Decoded {
    entries: [Option<Entry>; KEPT],
    /// How often the decoder had to be asked.
    asked: u64,
}

impl Default for Decoded {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoded {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: [None; KEPT], asked: 0 }
    }

    /// How often the decoder had to be asked.
    #[must_use]
    pub const fn asked(&self) -> u64 {
        self.asked
    }

    /// The instruction that `code` begins with; `rip` says where it is looked for, and nothing else.
    ///
    /// # Errors
    /// [`Undecoded`].
    #[inline]
    pub fn decode(&mut self, rip: u64, code: &Code, width: Width) -> Result<Instruction, Undecoded> {
        let place = (rip ^ rip >> 5) as usize % KEPT;
        match &self.entries[place] {
            Some(entry) if entry.is_of(code, width) => Ok(entry.instruction),
            Some(_) | None => self.decode_anew(place, code, width),
        }
    }

    #[cold]
    fn decode_anew(&mut self, place: usize, code: &Code, width: Width) -> Result<Instruction, Undecoded> {
        self.asked += 1;
        let instruction = decode(code.bytes(), width)?;
        self.entries[place] = Some(Entry { first: code.first(instruction.length), width, instruction });
        Ok(instruction)
    }
}

impl Entry {
    #[inline]
    fn is_of(&self, code: &Code, width: Width) -> bool {
        let length = self.instruction.length;
        usize::from(length) <= code.len && code.first(length) == self.first && width == self.width
    }
}

#[cfg(test)]
#[path = "decoded_tests.rs"]
mod tests;
