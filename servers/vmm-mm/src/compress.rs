//! One page in fewer bytes: the quick way ([`repeated`]) where a page is made for it, else LZ4. The last byte says which.
//! A checksum is over what was stored.

mod repeated;

use crate::machine::{FRAME, Memory, PageBytes};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use twox_hash::XxHash64;

/// A page that needs more bytes than this is not worth storing: three quarters of a frame.
pub const MOST: usize = FRAME / 4 * 3;
/// Bytes of a piece of the sample, and where the pieces begin.
const PIECE: usize = 256;
const PIECES: [usize; 2] = [FRAME / 4 - PIECE / 2, FRAME / 4 * 3 - PIECE / 2];
/// A sample that needs more bytes than this, nine tenths, is of a page that does not become smaller: true of 19 in 20.
const SAMPLE_MOST: usize = PIECES.len() * PIECE / 10 * 9;
/// Room for a page that becomes larger, and for the byte that says how it was packed.
const ROOM: usize = get_maximum_output_size(FRAME) + 1;

/// How a page was packed: the last byte of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// A block of LZ4.
    Lz4 = 1,
    /// One word that is most of it, and the others.
    Repeated = 2,
}

impl Form {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Lz4),
            2 => Some(Self::Repeated),
            _ => None,
        }
    }
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// It is all zeros, and needs nothing.
    Zero,
    /// It needs that many bytes, which are in the compressor.
    Bytes(usize, Form),
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
    bytes: [u8; ROOM],
}

impl Compressor {
    /// An empty one.
    pub const EMPTY: Self = Self { table: CompressTable::small(), page: [0; FRAME], bytes: [0; ROOM] };

    /// Makes the content of `frame` smaller.
    pub fn pack(&mut self, frame: u32, memory: &impl Memory) -> Packed {
        memory.read(frame, &mut self.page);
        let (len, form) = match repeated::pack(&self.page, &mut self.bytes) {
            Some(0) => return Packed::Zero,
            Some(len) => (len, Form::Repeated),
            None if self.is_stiff() => return Packed::TooLarge,
            None => match compress_into_with_table(&self.page, &mut self.bytes, &mut self.table) {
                Ok(len) if len < MOST => (len, Form::Lz4),
                Ok(_) | Err(_) => return Packed::TooLarge,
            },
        };
        self.bytes[len] = form as u8;
        Packed::Bytes(len + 1, form)
    }

    /// Whether a sample says that LZ4 makes nothing of the page. That takes an eighth of what the whole page does.
    fn is_stiff(&mut self) -> bool {
        let mut sample = [0; PIECES.len() * PIECE];
        for (piece, from) in sample.chunks_exact_mut(PIECE).zip(PIECES) {
            piece.copy_from_slice(&self.page[from..from + PIECE]);
        }
        !matches!(compress_into_with_table(&sample, &mut self.bytes, &mut self.table), Ok(..=SAMPLE_MOST))
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
        let (form, bytes) = self.bytes.get(..len).and_then(<[u8]>::split_last).ok_or(Damaged)?;
        let done = match Form::from_byte(*form).ok_or(Damaged)? {
            Form::Lz4 if matches!(decompress_into(bytes, &mut self.page), Ok(FRAME)) => {
                memory.write(frame, &self.page);
                true
            }
            Form::Lz4 => false,
            Form::Repeated => repeated::unpack(bytes, frame, memory),
        };
        if done { Ok(()) } else { Err(Damaged) }
    }
}

const _: () = assert!(repeated::MOST < MOST);

/// The checksum of stored bytes. It tells of damage, not of malice: whoever can write the store can write a sum.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    const PRIME: u64 = 0x9e37_79b1_85eb_ca87;
    // Each step is one-to-one in the word and in what was before: one word that changes is never missed for another.
    let step = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(PRIME);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| step(sum, u64::from_le_bytes(*word)));
    let sum = rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)));
    (sum ^ sum >> 32) as u32
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
