//! An EPT walk, entry by entry, for people: what [`crate::memop::MemOp::Walk`] comes back with.

use crate::grant::{MemType, Rights};
use crate::words::{Words, bits};
use core::fmt;

/// Levels of tables.
const LEVELS: usize = 4;

/// The entries by which the CPU finds a page, from level 4 down to the first that refers to no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    entries: [u64; LEVELS],
    count: usize,
}

/// One entry as the CPU reads it (SDM vol. 3C, tables 29-1 to 29-7), with the granted rights in bits 54:52 of a leaf, and in
/// bit 55 that no window shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    level: u8,
    bits: u64,
}

impl Walk {
    /// From the words that the operation came back with.
    #[must_use]
    pub fn from_words(words: &Words) -> Self {
        let [first, second, third, fourth, count, _] = *words;
        Self { entries: [first, second, third, fourth], count: usize::try_from(count).unwrap_or(LEVELS).min(LEVELS) }
    }

    /// The entries, from level 4 down.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        (1..=LEVELS as u8).rev().zip(self.entries).map(|(level, bits)| Entry { level, bits }).take(self.count)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, bits: entry } = *self;
        let frame = bits(entry, 12, 40);
        let (allowed, granted) = (bits(entry, 0, 3) as u8, bits(entry, 52, 3) as u8);
        write!(f, "level {level}: {entry:#018x} ")?;
        if granted != 0 {
            let [granted, allowed] = [granted, allowed].map(Rights::from_bits_truncate);
            write!(f, "page pfn {frame:#x}, granted {granted:?}, the CPU allows {allowed:?}, ")?;
            match MemType::from_number(bits(entry, 3, 3)) {
                Some(mem_type) => write!(f, "{mem_type:?}")?,
                None => f.write_str("memory type unknown")?,
            }
            for (bit, said) in [(8, ", accessed"), (9, ", dirty"), (55, ", in no window")] {
                f.write_str(if entry & 1 << bit != 0 { said } else { "" })?;
            }
            Ok(())
        } else if allowed == 0 {
            f.write_str("nothing")
        } else if allowed & 1 == 0 {
            write!(f, "misconfigured: answered Mmio in generation {frame}")
        } else {
            write!(f, "table in pfn {frame:#x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Walk;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn lines(words: [u64; 5]) -> Vec<String> {
        let [first, second, third, fourth, count] = words;
        let walk = Walk::from_words(&[first, second, third, fourth, count, 0]);
        walk.entries().map(|entry| entry.to_string()).collect()
    }

    #[test]
    fn a_walk_tells_tables_a_leaf_and_what_of_it_is_granted() {
        let found = lines([0x1007, 0x2007, 0x3007, 0x00f0_0000_0000_4375, 4]);
        assert_eq!(found[0], "level 4: 0x0000000000001007 table in pfn 0x1");
        assert_eq!(
            found[3],
            "level 1: 0x00f0000000004375 page pfn 0x4, granted Rights(READ | WRITE | EXECUTE), the CPU allows \
             Rights(READ | EXECUTE), WriteBack, accessed, dirty, in no window"
        );
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn a_walk_ends_where_nothing_is_and_says_what_was_remembered() {
        assert_eq!(lines([0x1007, 0, 9, 9, 2])[1..], ["level 3: 0x0000000000000000 nothing"]);
        let found = lines([0x1007, 0x2007, 0x3007, 7 << 12 | 6, 4]);
        assert_eq!(found[3], "level 1: 0x0000000000007006 misconfigured: answered Mmio in generation 7");
        assert_eq!(lines([0, 0, 0, 0, u64::MAX]).len(), 4, "the count is a claim");
    }
}
