//! Postcard bytes: how every message travels that is not hot.

use serde::{Deserialize, Serialize};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The buffer is too small for the message.
    TooLong,
    /// The bytes end early, or hold a variant or a value that this version does not know.
    Malformed,
    /// Bytes are left over after the message: a sender of another version, or a forged length.
    Trailing,
}

/// Writes `message` to the beginning of `buffer` and says how many bytes it took.
///
/// # Errors
/// [`WireError::TooLong`] when it does not fit.
pub fn encode<T: Serialize>(message: &T, buffer: &mut [u8]) -> Result<usize, WireError> {
    postcard::to_slice(message, buffer).map(|used| used.len()).map_err(|_| WireError::TooLong)
}

/// Reads one message from the beginning of `bytes`, which it may refer to, and says what is behind it.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed)
}

/// Reads one message that fills `bytes` to the last.
///
/// # Errors
/// [`WireError::Malformed`], or [`WireError::Trailing`] when bytes are left over.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let (message, rest) = take(bytes)?;
    if rest.is_empty() { Ok(message) } else { Err(WireError::Trailing) }
}
