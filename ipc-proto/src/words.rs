//! Register words: how the four hot messages travel.

/// A message in registers. Word `n` is the n-th of rdi, rsi, r8, r9, r10, r11.
pub type Words = [u64; 6];

/// `count` bits of `word` from bit `low` upwards.
#[must_use]
pub const fn bits(word: u64, low: u32, count: u32) -> u64 {
    (word >> low) & ((1 << count) - 1)
}
