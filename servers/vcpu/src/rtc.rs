//! The MC146818 real-time clock and its CMOS memory at 0x70 and 0x71.
//!
//! The date runs with the time-stamp counter from the moment the VM starts. Its three interrupts, IRQ 8, are in
//! `events`.

mod events;

use crate::clock::{Clock, Tsc};
use crate::date::Date;
use events::Events;

/// The ports.
pub mod port {
    #![expect(missing_docs, reason = "the names say it")]
    pub const INDEX: u16 = 0x70;
    pub const DATA: u16 = 0x71;
}

mod register {
    pub const SECONDS: u8 = 0x00;
    pub const MINUTES: u8 = 0x02;
    pub const HOURS: u8 = 0x04;
    pub const WEEKDAY: u8 = 0x06;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const SECONDS_ALARM: u8 = 0x01;
    pub const MINUTES_ALARM: u8 = 0x03;
    pub const HOURS_ALARM: u8 = 0x05;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    pub const C: u8 = 0x0c;
    pub const D: u8 = 0x0d;
    pub const CENTURY: u8 = 0x32;
}

const A_UPDATING: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_BINARY: u8 = 0x04;
const B_24_HOURS: u8 = 0x02;
const D_VALID: u8 = 0x80;
/// The update-in-progress bit is set so long before the second ends: 244 us.
const UPDATE_HZ: u64 = 1_000_000 / 244;

/// The clock.
#[derive(Clone, Debug)]
pub struct Rtc {
    clock: Clock,
    /// Seconds since 1970 at tick `origin`.
    epoch: u64,
    origin: Tsc,
    index: u8,
    control: u8,
    /// The date while the guest sets it; the clock stands.
    setting: Option<Date>,
    events: Events,
    memory: [u8; 128],
}

impl Rtc {
    /// A clock that shows `epoch` (seconds since 1970) at tick `now`, in a machine of `ram` bytes.
    #[must_use]
    pub fn new(clock: Clock, epoch: u64, now: Tsc, ram: u64) -> Self {
        let mut memory = [0; 128];
        let above_1m = (ram.saturating_sub(1 << 20) >> 10).min(0xffff) as u16;
        let above_16m = (ram.saturating_sub(16 << 20) >> 16).min(0xbf00) as u16;
        let kib_64 = above_1m.min(0xfc00).to_le_bytes();
        // What a BIOS leaves there: KiB below 640 KiB, KiB from 1 MiB on twice, units of 64 KiB from 16 MiB on.
        [memory[0x15], memory[0x16]] = 640u16.to_le_bytes();
        [memory[0x17], memory[0x18]] = kib_64;
        [memory[0x30], memory[0x31]] = kib_64;
        [memory[0x34], memory[0x35]] = above_16m.to_le_bytes();
        Self {
            clock,
            epoch,
            origin: now,
            index: 0,
            control: B_24_HOURS,
            setting: None,
            events: Events::new(now + clock.tsc_hz()),
            memory,
        }
    }

    fn date(&self, now: Tsc) -> Date {
        self.setting.unwrap_or_else(|| Date::from_unix(self.seconds(now)))
    }

    fn seconds(&self, now: Tsc) -> u64 {
        self.epoch + now.saturating_sub(self.origin) / self.clock.tsc_hz()
    }

    /// A read of one of the two ports; `None` for any other.
    pub fn read(&mut self, port: u16, now: Tsc) -> Option<u8> {
        match port {
            // The index can only be written.
            port::INDEX => Some(0xff),
            port::DATA => Some(self.read_register(now)),
            _ => None,
        }
    }

    /// A write to one of the two ports; `None` for any other.
    pub fn write(&mut self, port: u16, value: u8, now: Tsc) -> Option<()> {
        match port {
            // Bit 7 masks NMIs, of which there are none.
            port::INDEX => self.index = value & 0x7f,
            port::DATA => self.write_register(value, now),
            _ => return None,
        }
        Some(())
    }

    fn read_register(&mut self, now: Tsc) -> u8 {
        let date = self.date(now);
        match self.index {
            register::SECONDS => self.shown(date.second),
            register::MINUTES => self.shown(date.minute),
            register::HOURS => self.shown_hour(date.hour),
            register::WEEKDAY => self.shown(date.weekday),
            register::DAY => self.shown(date.day),
            register::MONTH => self.shown(date.month),
            register::YEAR => self.shown((date.year % 100) as u8),
            register::CENTURY => self.shown((date.year / 100) as u8),
            register::A => self.events.rate() | if self.updating(now) { A_UPDATING } else { 0 },
            register::B => self.control,
            register::C => self.events.take(self.control),
            register::D => D_VALID,
            other => self.memory[usize::from(other)],
        }
    }

    fn updating(&self, now: Tsc) -> bool {
        let hz = self.clock.tsc_hz();
        let into = now.saturating_sub(self.origin) % hz;
        self.setting.is_none() && into >= hz - hz / UPDATE_HZ
    }

    fn shown(&self, value: u8) -> u8 {
        if self.control & B_BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn shown_hour(&self, hour: u8) -> u8 {
        if self.control & B_24_HOURS != 0 {
            return self.shown(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.shown(if hour.is_multiple_of(12) { 12 } else { hour % 12 }) | afternoon
    }

    fn write_register(&mut self, value: u8, now: Tsc) {
        let mut date = self.date(now);
        let number = self.meant(value);
        match self.index {
            register::SECONDS if number < 60 => date.second = number,
            register::MINUTES if number < 60 => date.minute = number,
            register::HOURS => date.hour = self.meant_hour(value),
            register::DAY if (1..=31).contains(&number) => date.day = number,
            register::MONTH if (1..=12).contains(&number) => date.month = number,
            register::YEAR if number < 100 => date.year = date.year / 100 * 100 + u64::from(number),
            register::CENTURY if (19..100).contains(&number) => {
                date.year = u64::from(number) * 100 + date.year % 100;
            }
            register::A => return self.events.set_rate(value, now),
            register::B => return self.write_control(value, date, now),
            // Numbers out of range are ignored. The weekday follows from the date; C and D are the chip's own.
            register::SECONDS
            | register::MINUTES
            | register::WEEKDAY..=register::YEAR
            | register::C
            | register::D
            | register::CENTURY => return,
            other => {
                self.memory[usize::from(other)] = value;
                return;
            }
        }
        if self.setting.is_some() {
            self.setting = Some(date);
        } else {
            self.start_from(date, now);
        }
    }

    /// While SET is on the clock stands, and registers may contradict each other.
    fn write_control(&mut self, value: u8, date: Date, now: Tsc) {
        self.events.control_changes(self.control, value, now);
        self.control = value;
        if value & B_SET != 0 {
            self.setting = Some(date);
        } else if self.setting.take().is_some() {
            self.origin = now;
            self.start_from(date, now);
        }
    }

    /// The date goes on from here; the fraction of a second stays.
    fn start_from(&mut self, mut date: Date, now: Tsc) {
        date.day = date.day.min(date.days_in_month());
        self.epoch = date.to_unix();
        let elapsed = now.saturating_sub(self.origin);
        self.origin += elapsed - elapsed % self.clock.tsc_hz();
        self.events.next_update = self.origin + self.clock.tsc_hz();
    }

    /// Brings the flags to tick `now`.
    pub fn advance(&mut self, now: Tsc) {
        self.events.count_periods(self.clock, self.control, now);
        if now < self.events.next_update || self.setting.is_some() {
            return;
        }
        let last = self.seconds(self.events.next_update);
        let seconds = self.seconds(now);
        // A day holds every alarm.
        let alarm = (last..=seconds).take(86_400).any(|second| self.alarm_matches(Date::from_unix(second)));
        self.events.second_turned();
        if alarm {
            self.events.alarm_came();
        }
        self.events.next_update = self.origin + (seconds - self.epoch + 1) * self.clock.tsc_hz();
    }

    /// Whether the alarm registers name this time of day: from 0xc0 on they name any.
    fn alarm_matches(&self, date: Date) -> bool {
        let names = |register: u8, shown: u8| {
            let alarm = self.memory[usize::from(register)];
            alarm >= 0xc0 || alarm == shown
        };
        names(register::SECONDS_ALARM, self.shown(date.second))
            && names(register::MINUTES_ALARM, self.shown(date.minute))
            && names(register::HOURS_ALARM, self.shown_hour(date.hour))
    }

    /// Whether the interrupt line is high.
    #[must_use]
    pub const fn interrupts(&self) -> bool {
        self.events.interrupts(self.control)
    }

    /// The tick of the next interrupt, or of the next second in which an alarm may come.
    #[must_use]
    pub fn deadline(&self) -> Option<Tsc> {
        let turns = self.setting.is_none().then_some(self.events.next_update);
        self.events.deadline(self.clock, self.control, turns)
    }

    const fn meant(&self, value: u8) -> u8 {
        if self.control & B_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
    }

    const fn meant_hour(&self, value: u8) -> u8 {
        if self.control & B_24_HOURS != 0 {
            return self.meant(value) % 24;
        }
        let hour = self.meant(value & 0x7f) % 12;
        if value & 0x80 != 0 { hour + 12 } else { hour }
    }
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
