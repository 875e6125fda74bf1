//! The module that is packed for this kernel: so many bytes, each told by its place.

/// Its length in bytes: no whole number of pages.
pub const LENGTH: u64 = 10_001;

/// The byte at `n`.
pub const fn byte(n: u64) -> u8 {
    (n * 167 + (n >> 8)) as u8
}
