//! What register C tells: a second has turned, the alarm has come, a period is over. Each is a flag that stays until it
//! is read, and an interrupt where register B enables it.

use crate::clock::{Clock, Tsc, earliest};

/// Bits of registers B (enable) and C (flag) alike.
const UPDATE: u8 = 0x10;
const ALARM: u8 = 0x20;
const PERIOD: u8 = 0x40;
const ENABLES: u8 = UPDATE | ALARM | PERIOD;
/// In register C: one of the flags is enabled.
const REQUEST: u8 = 0x80;

const DIVIDER_32768: u8 = 0x20;
const RATE: u8 = 0x0f;
const DEFAULT_RATE: u8 = 6;

/// The flags, and what they are worked out from.
#[derive(Clone, Debug)]
pub(super) struct Events {
    flags: u8,
    rate: u8,
    /// Where periods are counted from, and how many are over.
    period_origin: Tsc,
    periods: u64,
    /// The tick at which the next second begins.
    pub(super) next_update: Tsc,
}

impl Events {
    pub(super) const fn new(next_update: Tsc) -> Self {
        Self { flags: 0, rate: DEFAULT_RATE, period_origin: 0, periods: 0, next_update }
    }

    /// Register A without its update bit.
    pub(super) const fn rate(&self) -> u8 {
        DIVIDER_32768 | self.rate
    }

    pub(super) const fn set_rate(&mut self, value: u8, now: Tsc) {
        self.rate = value & RATE;
        self.restart(now);
    }

    const fn restart(&mut self, now: Tsc) {
        self.period_origin = now;
        self.periods = 0;
    }

    /// Register B is written: periods are counted from when they are asked for.
    pub(super) const fn control_changes(&mut self, before: u8, after: u8, now: Tsc) {
        if after & !before & PERIOD != 0 {
            self.restart(now);
        }
    }

    /// Periods a second; rates 1 and 2 are those of 8 and 9.
    const fn period_hz(&self) -> Option<u64> {
        match self.rate {
            0 => None,
            rate @ 1..=2 => Some(32_768 >> (rate + 6)),
            rate => Some(32_768 >> (rate - 1)),
        }
    }

    /// Periods are counted only where they interrupt.
    pub(super) const fn count_periods(&mut self, clock: Clock, control: u8, now: Tsc) {
        if control & PERIOD == 0 {
            return;
        }
        let Some(hz) = self.period_hz() else { return };
        let over = clock.counted(now.saturating_sub(self.period_origin), hz);
        if over > self.periods {
            self.periods = over;
            self.flags |= PERIOD;
        }
    }

    pub(super) const fn second_turned(&mut self) {
        self.flags |= UPDATE;
    }

    pub(super) const fn alarm_came(&mut self) {
        self.flags |= ALARM;
    }

    pub(super) const fn interrupts(&self, control: u8) -> bool {
        self.flags & control & ENABLES != 0
    }

    /// Register C: reading it clears it.
    pub(super) const fn take(&mut self, control: u8) -> u8 {
        let request = if self.interrupts(control) { REQUEST } else { 0 };
        let flags = self.flags | request;
        self.flags = 0;
        flags
    }

    /// The next event, if the next second begins at `turns`. While the line is high nothing more can come of it.
    pub(super) fn deadline(&self, clock: Clock, control: u8, turns: Option<Tsc>) -> Option<Tsc> {
        if control & ENABLES == 0 || self.interrupts(control) {
            return None;
        }
        let second = if control & (UPDATE | ALARM) != 0 { turns } else { None };
        if control & PERIOD == 0 {
            return second;
        }
        let period = self.period_hz().map(|hz| self.period_origin + clock.until(self.periods + 1, hz));
        earliest(second, period)
    }
}
