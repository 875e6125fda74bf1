//! The host transport: a pager as an ordinary program, whose system calls are frames over standard output and input.
//!
//! Each frame is its length as a little-endian `u32`, at most [`FRAME`], and that many bytes of postcard: a [`ToPager`]
//! on the pager's standard input, a [`FromPager`] on its standard output. Number, words, status and message page of a
//! system call are those of [`crate::call`], so that a pager has one function that differs between machine and host.

use crate::wire::{self, WireError};
use crate::words::Words;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// The longest frame, without its length.
pub const FRAME: usize = 1 << 16;
/// The longest boot information.
pub const INFO: usize = 4094;
/// The longest manifest.
pub const MANIFEST: usize = 1 << 15;
/// The bytes of a frame's length.
pub const LENGTH: usize = 4;

/// What travels of a message page: its first bytes; the line, for a `Log` or a `Stat`.
pub type MessagePage = Vec<u8, 4096>;

/// What a pager reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one is read at a time, and there is no heap to put it on")]
pub enum ToPager {
    /// First, once, and unasked.
    Boot(Boot),
    /// The system call that was made last has come back.
    Return(Return),
}

/// What a task finds in its memory at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The bytes of the [`crate::layout::BootInfo`] that lies at [`crate::layout::BOOT_INFO`] in the machine.
    pub info: Vec<u8, INFO>,
    /// The bytes that lie at [`crate::layout::MANIFEST`] in the machine.
    pub manifest: Vec<u8, MANIFEST>,
    /// The path of a file that holds the frames: frame `pfn` is the 4096 bytes from `(pfn - first_pfn) * 4096` on.
    pub frames: String<256>,
}

/// A system call comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// What is in rax.
    pub status: u64,
    /// What is in the words' registers.
    pub words: Words,
    /// What the message page begins with now; its other bytes are as they were.
    pub message: MessagePage,
}

/// What a pager writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromPager {
    /// A system call. The pager reads its [`Return`] before it writes another.
    Call(SystemCall),
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemCall {
    /// What is in rax.
    pub number: u64,
    /// What is in the words' registers.
    pub words: Words,
    /// What the call hands over in the message page; bytes that are announced but missing are zero.
    pub message: MessagePage,
}

/// Writes the frame of `message` to the beginning of `buffer` and says how many bytes it took.
///
/// # Errors
/// [`WireError::TooLong`] when it does not fit.
pub fn encode<T: Serialize>(message: &T, buffer: &mut [u8]) -> Result<usize, WireError> {
    let (length, rest) = buffer.split_first_chunk_mut::<LENGTH>().ok_or(WireError::TooLong)?;
    let used = wire::encode(message, rest)?;
    if used > FRAME {
        return Err(WireError::TooLong);
    }
    *length = (used as u32).to_le_bytes();
    Ok(LENGTH + used)
}

/// How many bytes of postcard follow the length of a frame.
///
/// # Errors
/// [`WireError::TooLong`] beyond [`FRAME`]; [`WireError::Malformed`] for an empty one.
pub const fn length(bytes: [u8; LENGTH]) -> Result<usize, WireError> {
    match u32::from_le_bytes(bytes) as usize {
        0 => Err(WireError::Malformed),
        length if length > FRAME => Err(WireError::TooLong),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_length_and_its_bytes() {
        let call = FromPager::Call(SystemCall { number: 256, words: [0; 6], message: MessagePage::new() });
        let mut buffer = [0; 32];
        let used = encode(&call, &mut buffer).expect("it fits");
        assert_eq!(&buffer[..used], [10, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(length([10, 0, 0, 0]), Ok(10));
        assert_eq!(wire::decode(&buffer[LENGTH..used]), Ok(call));
    }

    #[test]
    fn lengths_that_no_frame_has_are_refused() {
        assert_eq!(length([0; 4]), Err(WireError::Malformed));
        assert_eq!(length([0, 0, 1, 0]), Ok(FRAME));
        assert_eq!(length([1, 0, 1, 0]), Err(WireError::TooLong));
        assert_eq!(length([0xff; 4]), Err(WireError::TooLong));
    }

    #[test]
    fn a_message_beyond_the_page_is_no_call() {
        let mut bytes = std::vec![0, 1, 0, 0, 0, 0, 0, 0, 0x81, 0x20];
        bytes.extend(std::vec![0; 4097]);
        assert_eq!(wire::decode::<FromPager>(&bytes), Err(WireError::Malformed));
        bytes.pop();
        bytes[8] = 0x80;
        assert!(wire::decode::<FromPager>(&bytes).is_ok());
    }
}
