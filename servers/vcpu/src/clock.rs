//! The VM's one clock: the time-stamp counter, and what a device that counts at another rate reads from it.

/// Ticks of the time-stamp counter; every `now` in this crate is one.
pub type Tsc = u64;

/// The rate of the time-stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    tsc_hz: u64,
}

impl Clock {
    /// A clock of `tsc_hz` ticks a second; at least one.
    #[must_use]
    pub const fn new(tsc_hz: u64) -> Self {
        Self { tsc_hz: if tsc_hz == 0 { 1 } else { tsc_hz } }
    }

    /// Ticks of the time-stamp counter in a second.
    #[must_use]
    pub const fn tsc_hz(self) -> u64 {
        self.tsc_hz
    }

    /// How often a counter of `hz` has counted in `elapsed` ticks.
    #[must_use]
    pub const fn counted(self, elapsed: Tsc, hz: u64) -> u64 {
        (elapsed as u128 * hz as u128 / self.tsc_hz as u128) as u64
    }

    /// The ticks after which a counter of `hz` has counted `count` times.
    #[must_use]
    pub const fn until(self, count: u64, hz: u64) -> Tsc {
        (count as u128 * self.tsc_hz as u128).div_ceil(hz as u128) as u64
    }
}

/// The earlier of two deadlines, of which either may be none.
#[inline]
#[must_use]
pub const fn earliest(one: Option<Tsc>, other: Option<Tsc>) -> Option<Tsc> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one < other { one } else { other }),
        (Some(deadline), None) | (None, Some(deadline)) => Some(deadline),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, earliest};

    #[test]
    fn of_two_deadlines_the_earlier_one_counts_and_none_is_never() {
        assert_eq!(earliest(Some(3), Some(2)), Some(2));
        assert_eq!(earliest(Some(2), Some(3)), Some(2));
        assert_eq!(earliest(None, Some(3)), Some(3));
        assert_eq!(earliest(Some(3), None), Some(3));
        assert_eq!(earliest(None, None), None);
    }

    #[test]
    fn a_deadline_is_the_first_tick_at_which_the_count_is_reached() {
        let clock = Clock::new(200_000_000);
        for count in [1, 2, 3, 1_000, 65_536, 1_193_182] {
            let deadline = clock.until(count, 1_193_182);
            assert_eq!(clock.counted(deadline, 1_193_182), count);
            assert_eq!(clock.counted(deadline - 1, 1_193_182), count - 1);
        }
    }
}
