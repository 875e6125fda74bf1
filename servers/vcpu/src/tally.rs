//! Counts of what the guest asked for and nobody has: which, and how often.

use heapless::Vec;

/// Different numbers that are listed; further ones are only counted.
const LISTED: usize = 64;

/// A count for each number, and one for all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    listed: Vec<(u64, u64), LISTED>,
    total: u64,
}

impl Tally {
    /// Nothing counted.
    #[must_use]
    pub const fn new() -> Self {
        Self { listed: Vec::new(), total: 0 }
    }

    /// Counts `number` and says whether it is the first time.
    pub fn count(&mut self, number: u64) -> bool {
        self.total += 1;
        if let Some((_, count)) = self.listed.iter_mut().find(|(listed, _)| *listed == number) {
            *count += 1;
            return false;
        }
        self.listed.push((number, 1)).is_ok()
    }

    /// How often anything was counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Each number with its count, in the order they came first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.listed.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTED, Tally};
    use std::vec::Vec;

    #[test]
    fn every_number_is_listed_once_with_its_count() {
        let mut tally = Tally::new();
        assert!(tally.count(0x60) && tally.count(0x70) && !tally.count(0x60));
        assert_eq!(tally.iter().collect::<Vec<_>>(), [(0x60, 2), (0x70, 1)]);
    }

    #[test]
    fn what_no_longer_fits_the_list_is_counted_all_the_same() {
        let mut tally = Tally::new();
        for number in 0..LISTED as u64 + 10 {
            tally.count(number);
        }
        assert_eq!((tally.iter().count(), tally.total()), (LISTED, LISTED as u64 + 10));
    }
}
