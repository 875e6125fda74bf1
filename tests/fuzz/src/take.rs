//! Bytes that are taken from the front; what is missing is zero.

/// What is left of an input.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn words<const N: usize>(&mut self) -> [u64; N] {
        core::array::from_fn(|_| self.number(8))
    }
}
