//! Samples of one figure, and the line that tells of them.

/// Most samples of a figure.
const MOST: usize = 1536;

/// What two RDTSC with nothing in between take.
pub struct Clock {
    empty: u64,
}

impl Clock {
    /// Measures it: the least of many, for an interrupt of the machine can only add to it.
    pub fn calibrate() -> Self {
        let empty = (0..64).map(|_| crate::act::nothing()).min().unwrap_or_default();
        guests::line!("bench: two RDTSC take {empty} ticks, which is taken off every figure");
        Self { empty }
    }
}

/// The ticks of one thing that was done many times.
pub struct Samples<'a> {
    what: &'static str,
    clock: &'a Clock,
    ticks: [u32; MOST],
    count: usize,
}

impl<'a> Samples<'a> {
    /// None yet.
    pub const fn of(what: &'static str, clock: &'a Clock) -> Self {
        Self { what, clock, ticks: [0; MOST], count: 0 }
    }

    /// One more; those that do not fit are left out, and the line says how many there are.
    pub fn add(&mut self, ticks: u64) {
        if let Some(sample) = self.ticks.get_mut(self.count) {
            *sample = u32::try_from(ticks.saturating_sub(self.clock.empty)).unwrap_or(u32::MAX);
            self.count += 1;
        }
    }

    /// Prints the figure.
    pub fn print(mut self) {
        let ticks = &mut self.ticks[..self.count];
        ticks.sort_unstable();
        let at = |percent: usize| ticks.get(self.count.saturating_sub(1) * percent / 100).copied().unwrap_or_default();
        guests::line!("bench: {} min {} p50 {} max {} of {}", self.what, at(0), at(50), at(100), self.count);
    }
}
