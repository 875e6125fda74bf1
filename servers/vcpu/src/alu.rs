//! Arithmetic with the flags that x86 leaves behind.

/// An operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the instructions'")]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

/// RFLAGS bits that arithmetic changes.
pub mod flag {
    #![expect(missing_docs, reason = "the names are the SDM's")]
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const OF: u64 = 1 << 11;
    pub const ALL: u64 = CF | PF | AF | ZF | SF | OF;
}

/// All ones in the lower `size` bytes.
#[must_use]
pub const fn mask(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size as u32)) - 1 }
}

/// The value of `size` bytes with its sign in all 64 bits.
#[must_use]
pub const fn sign_extend(value: u64, size: u8) -> u64 {
    let unused = 64 - 8 * if size > 8 { 8 } else { size as u32 };
    (((value << unused) as i64) >> unused) as u64
}

impl Alu {
    /// Whether the result is written back.
    #[must_use]
    pub const fn stores(self) -> bool {
        match self {
            Self::Add | Self::Or | Self::Adc | Self::Sbb | Self::And | Self::Sub | Self::Xor => true,
            Self::Cmp | Self::Test => false,
        }
    }

    /// `left op right` in `size` bytes (1, 2, 4 or 8): the result, and `rflags` with the new flags.
    #[must_use]
    pub const fn compute(self, left: u64, right: u64, size: u8, rflags: u64) -> (u64, u64) {
        let mask = mask(size);
        let (left, right) = (left & mask, right & mask);
        let carry_in = (rflags & flag::CF != 0) as u64;
        let (result, carry, overflow) = match self {
            Self::Add => add(left, right, 0, mask),
            Self::Adc => add(left, right, carry_in, mask),
            Self::Sub | Self::Cmp => subtract(left, right, 0, mask),
            Self::Sbb => subtract(left, right, carry_in, mask),
            Self::Or => (left | right, false, false),
            Self::And | Self::Test => (left & right, false, false),
            Self::Xor => (left ^ right, false, false),
        };
        let adjust = match self {
            Self::Add | Self::Adc | Self::Sub | Self::Sbb | Self::Cmp => (left ^ right ^ result) & 0x10 != 0,
            // Undefined there; left clear.
            Self::Or | Self::And | Self::Xor | Self::Test => false,
        };
        let sign = result & (mask ^ mask >> 1) != 0;
        let even = (result as u8).count_ones().is_multiple_of(2);
        let flags = ((carry as u64) * flag::CF)
            | ((even as u64) * flag::PF)
            | ((adjust as u64) * flag::AF)
            | (((result == 0) as u64) * flag::ZF)
            | ((sign as u64) * flag::SF)
            | ((overflow as u64) * flag::OF);
        (result, rflags & !flag::ALL | flags)
    }
}

/// Sum, carry, overflow.
const fn add(left: u64, right: u64, carry: u64, mask: u64) -> (u64, bool, bool) {
    let wide = left as u128 + right as u128 + carry as u128;
    let sum = wide as u64 & mask;
    let sign = mask ^ mask >> 1;
    (sum, wide > mask as u128, (left ^ sum) & (right ^ sum) & sign != 0)
}

/// Difference, borrow, overflow.
const fn subtract(left: u64, right: u64, borrow: u64, mask: u64) -> (u64, bool, bool) {
    let difference = left.wrapping_sub(right).wrapping_sub(borrow) & mask;
    let sign = mask ^ mask >> 1;
    let borrows = (left as u128) < right as u128 + borrow as u128;
    (difference, borrows, (left ^ right) & (left ^ difference) & sign != 0)
}

#[cfg(test)]
mod tests {
    use super::{Alu, flag, sign_extend};

    /// Result and carry, zero, sign, overflow.
    fn run(alu: Alu, left: u64, right: u64, size: u8) -> (u64, u64) {
        let (result, flags) = alu.compute(left, right, size, flag::ALL & !flag::CF);
        (result, flags & (flag::CF | flag::ZF | flag::SF | flag::OF))
    }

    #[test]
    fn carry_and_overflow_are_of_the_operand_size() {
        assert_eq!(run(Alu::Add, 0xff, 1, 1), (0, flag::CF | flag::ZF));
        assert_eq!(run(Alu::Add, 0x7f, 1, 1), (0x80, flag::SF | flag::OF));
        assert_eq!(run(Alu::Add, 0xff, 1, 2), (0x100, 0));
        assert_eq!(run(Alu::Sub, 0, 1, 4), (0xffff_ffff, flag::CF | flag::SF));
        assert_eq!(run(Alu::Sub, 0x8000, 1, 2), (0x7fff, flag::OF));
        assert_eq!(run(Alu::Add, u64::MAX, 1, 8), (0, flag::CF | flag::ZF));
        assert_eq!(run(Alu::Cmp, 5, 5, 8), (0, flag::ZF));
        assert_eq!(run(Alu::Test, 0x80, 0x80, 1), (0x80, flag::SF));
        assert_eq!(run(Alu::Xor, 3, 3, 4), (0, flag::ZF));
    }

    #[test]
    fn carry_goes_into_the_next_limb() {
        assert_eq!(Alu::Adc.compute(1, 1, 4, flag::CF).0, 3);
        assert_eq!(Alu::Sbb.compute(1, 1, 1, flag::CF), (0xff, flag::CF | flag::PF | flag::AF | flag::SF));
    }

    #[test]
    fn flags_that_are_not_arithmetic_stay() {
        assert_eq!(Alu::And.compute(1, 1, 1, 0x202).1, 0x202);
    }

    #[test]
    fn a_sign_extends_from_its_own_size() {
        assert_eq!(sign_extend(0x80, 1), 0xffff_ffff_ffff_ff80);
        assert_eq!(sign_extend(0x80, 2), 0x80);
        assert_eq!(sign_extend(u64::MAX, 8), u64::MAX);
    }
}
