//! One channel of the 8254: what its count and its output are at any tick, worked out from when it was loaded.

use super::HZ;
use crate::clock::{Clock, Tsc};

/// Which bytes of the count a channel reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    Word,
}

/// Which byte of a word is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

/// The gate input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Low.
    Closed,
    /// High.
    Open,
}

/// One channel. Modes, counts and latches as the chip's data sheet has them.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    /// 0 to 5.
    mode: u8,
    bcd: bool,
    access: Access,
    gate: Gate,
    /// 1 to 65536; 0 before the first count.
    reload: u64,
    /// When the count was loaded; `None` while nothing counts.
    pub(super) origin: Option<Tsc>,
    /// Counts done when the gate closed in a mode that pauses.
    paused: u64,
    low: u8,
    writes: Half,
    reads: Half,
    latched: Option<u16>,
    status: Option<u8>,
}

impl Channel {
    pub(super) const fn new(gate: Gate) -> Self {
        Self {
            mode: 3,
            bcd: false,
            access: Access::Word,
            gate,
            reload: 0,
            origin: None,
            paused: 0,
            low: 0,
            writes: Half::Low,
            reads: Half::Low,
            latched: None,
            status: None,
        }
    }

    /// Counts since the count was loaded.
    pub(super) fn elapsed(&self, clock: Clock, now: Tsc) -> u64 {
        self.origin.map_or(self.paused, |origin| clock.counted(now.saturating_sub(origin), HZ))
    }

    fn counter(&self, clock: Clock, now: Tsc) -> u16 {
        if self.reload == 0 {
            return 0;
        }
        let elapsed = self.elapsed(clock, now);
        let left = match self.mode {
            2 => self.reload - elapsed % self.reload,
            // Counts down by two, through each half of the square wave.
            3 => self.reload - 2 * elapsed % self.reload,
            _ => self.reload.wrapping_sub(elapsed),
        };
        if self.bcd { to_bcd(left % 10_000) } else { left as u16 }
    }

    pub(super) fn output(&self, clock: Clock, now: Tsc) -> bool {
        if self.reload == 0 {
            // Mode 0 is low from the moment its control word is written, every other mode is high.
            return self.mode != 0;
        }
        let elapsed = self.elapsed(clock, now);
        match self.mode {
            0 => elapsed >= self.reload,
            1 => self.origin.is_none() || elapsed >= self.reload,
            2 => self.gate == Gate::Closed || elapsed % self.reload != self.reload - 1,
            3 => self.gate == Gate::Closed || elapsed % self.reload < self.reload.div_ceil(2),
            _ => self.origin.is_none() || elapsed != self.reload,
        }
    }

    /// Rising edges of the output in `elapsed` counts.
    pub(super) const fn edges(&self, elapsed: u64) -> u64 {
        if self.reload == 0 {
            return 0;
        }
        match self.mode {
            0 => (elapsed >= self.reload) as u64,
            2 | 3 => elapsed / self.reload,
            // The strobe is low for one count; modes 1 and 5 wait for a gate, which channel 0 has not.
            4 => (elapsed > self.reload) as u64,
            _ => 0,
        }
    }

    /// The count at which the next edge after `done` comes.
    pub(super) const fn next_edge(&self, done: u64) -> Option<u64> {
        match self.mode {
            _ if self.reload == 0 => None,
            0 if done == 0 => Some(self.reload),
            2 | 3 => Some((done + 1) * self.reload),
            4 if done == 0 => Some(self.reload + 1),
            _ => None,
        }
    }

    fn load(&mut self, count: u16, now: Tsc) {
        let count = if self.bcd { from_bcd(count) } else { u64::from(count) };
        self.reload = match (count, self.bcd) {
            (0, true) => 10_000,
            (0, false) => 0x1_0000,
            (count, _) => count,
        };
        self.paused = 0;
        let runs = match self.mode {
            1 | 5 => false,
            _ => self.gate == Gate::Open,
        };
        self.origin = runs.then_some(now);
    }

    pub(super) fn set_gate(&mut self, gate: Gate, clock: Clock, now: Tsc) {
        if self.gate == gate {
            return;
        }
        match (self.mode, gate) {
            (0 | 4, Gate::Closed) => {
                self.paused = self.elapsed(clock, now);
                self.origin = None;
            }
            (0 | 4, Gate::Open) if self.reload != 0 => {
                self.origin = Some(now.saturating_sub(clock.until(self.paused, HZ)));
            }
            (1 | 5, Gate::Closed) | (0 | 4, Gate::Open) => {}
            (_, Gate::Closed) => {
                self.origin = None;
                self.paused = 0;
            }
            (_, Gate::Open) => self.origin = (self.reload != 0).then_some(now),
        }
        self.gate = gate;
    }

    /// Says whether a whole count has been written.
    pub(super) fn write(&mut self, value: u8, now: Tsc) -> Option<()> {
        let count = match (self.access, self.writes) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Word, Half::Low) => {
                self.low = value;
                self.writes = Half::High;
                if self.mode == 0 {
                    // The first byte stops the count.
                    self.paused = 0;
                    self.origin = None;
                }
                return None;
            }
            (Access::Word, Half::High) => {
                self.writes = Half::Low;
                u16::from_le_bytes([self.low, value])
            }
        };
        self.load(count, now);
        Some(())
    }

    pub(super) fn read(&mut self, clock: Clock, now: Tsc) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self.latched.unwrap_or_else(|| self.counter(clock, now)).to_le_bytes();
        match (self.access, self.reads) {
            (Access::Low, _) => {
                self.latched = None;
                low
            }
            (Access::High, _) => {
                self.latched = None;
                high
            }
            (Access::Word, Half::Low) => {
                self.reads = Half::High;
                low
            }
            (Access::Word, Half::High) => {
                self.reads = Half::Low;
                self.latched = None;
                high
            }
        }
    }

    pub(super) fn latch_count(&mut self, clock: Clock, now: Tsc) {
        if self.latched.is_none() {
            self.latched = Some(self.counter(clock, now));
        }
    }

    pub(super) fn latch_status(&mut self, clock: Clock, now: Tsc) {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Word => 3,
        };
        let output = u8::from(self.output(clock, now)) << 7;
        let null_count = u8::from(self.reload == 0) << 6;
        let status = output | null_count | access << 4 | self.mode << 1 | u8::from(self.bcd);
        self.status.get_or_insert(status);
    }

    pub(super) fn control(&mut self, word: u8) {
        self.access = match word >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Word,
        };
        // Modes 6 and 7 are 2 and 3: the upper bit is ignored there.
        self.mode = match word >> 1 & 7 {
            mode @ 6..=7 => mode - 4,
            mode => mode,
        };
        self.bcd = word & 1 != 0;
        self.reload = 0;
        self.origin = None;
        self.paused = 0;
        self.writes = Half::Low;
        self.reads = Half::Low;
        self.latched = None;
        self.status = None;
    }
}

fn from_bcd(count: u16) -> u64 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u64::from(count >> (4 * digit) & 0xf))
}

fn to_bcd(count: u64) -> u16 {
    (0..4).fold((0, count), |(bcd, rest), digit| (bcd | ((rest % 10) as u16) << (4 * digit), rest / 10)).0
}
