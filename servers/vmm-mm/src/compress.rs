//! One page in fewer bytes: LZ4, with a checksum over what was stored.

use crate::machine::{FRAME, Memory, PageBytes};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use twox_hash::XxHash64;

/// A page that needs more bytes than this is not worth storing: three quarters of a frame.
pub const MOST: usize = FRAME / 4 * 3;

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// It is all zeros, and needs nothing.
    Zero,
    /// It needs that many bytes, which are in the compressor.
    Bytes(usize),
    /// It does not become smaller.
    TooLarge,
}

/// The content of a stored page is not what was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// Room to work in: too large for a stack.
pub struct Compressor {
    table: CompressTable,
    page: PageBytes,
    bytes: [u8; get_maximum_output_size(FRAME)],
}

impl Compressor {
    /// An empty one.
    pub const EMPTY: Self =
        Self { table: CompressTable::small(), page: [0; FRAME], bytes: [0; get_maximum_output_size(FRAME)] };

    /// Makes the content of `frame` smaller.
    pub fn pack(&mut self, frame: u32, memory: &impl Memory) -> Packed {
        memory.read(frame, &mut self.page);
        if is_zero(&self.page) {
            return Packed::Zero;
        }
        match compress_into_with_table(&self.page, &mut self.bytes, &mut self.table) {
            Ok(len) if len <= MOST => Packed::Bytes(len),
            Ok(_) | Err(_) => Packed::TooLarge,
        }
    }

    /// The bytes of the page that was packed last, or those that are to be unpacked.
    pub const fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Writes the page whose first `len` bytes are in [`Self::bytes`] to `frame`.
    ///
    /// # Errors
    /// [`Damaged`] when they are not those of a page; nothing is written then.
    pub fn unpack(&mut self, len: usize, frame: u32, memory: &mut impl Memory) -> Result<(), Damaged> {
        let bytes = self.bytes.get(..len).ok_or(Damaged)?;
        match decompress_into(bytes, &mut self.page) {
            Ok(FRAME) => {
                memory.write(frame, &self.page);
                Ok(())
            }
            Ok(_) | Err(_) => Err(Damaged),
        }
    }
}

/// The checksum of stored bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    XxHash64::oneshot(0, bytes) as u32
}

/// A number that pages with the same content have in common, and others hardly ever.
#[must_use]
pub fn fingerprint(page: &PageBytes) -> u32 {
    XxHash64::oneshot(1, page) as u32
}

/// Whether every byte is 0.
#[must_use]
pub fn is_zero(page: &PageBytes) -> bool {
    let (words, _) = page.as_chunks::<8>();
    words.iter().all(|word| u64::from_le_bytes(*word) == 0)
}

#[cfg(test)]
mod tests;
