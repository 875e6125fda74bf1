//! The 8254 interval timer and port 0x61, driven by the time-stamp counter. Intel data sheet 231164-005.
//!
//! Channel 0 is IRQ 0, channel 2 the speaker with its gate and output in port 0x61. Nothing runs between two looks
//! at the chip: a channel keeps the tick at which its count was loaded, and everything else is worked out from there.
//!
//! Ticks that the guest was too late for are not lost: each becomes an interrupt as soon as the one before it has been
//! acknowledged, as with KVM's `reinject`. Ticks that fall while the guest masks IRQ 0 leave one request behind, as
//! the edge would in the 8259.

mod channel;

use crate::clock::{Clock, Tsc};
use channel::{Channel, Gate};

/// Counts a second.
pub const HZ: u64 = 1_193_182;
/// How often the refresh bit of port 0x61 changes: every 15 us.
const REFRESH_HZ: u64 = 66_288;

/// The ports.
pub mod port {
    #![expect(missing_docs, reason = "the names are the chip's")]
    pub const CHANNEL0: u16 = 0x40;
    pub const CHANNEL2: u16 = 0x42;
    pub const COMMAND: u16 = 0x43;
    pub const SPEAKER: u16 = 0x61;
}

/// The chip with port 0x61.
#[derive(Clone, Debug)]
pub struct Pit {
    clock: Clock,
    channels: [Channel; 3],
    /// Rising edges of channel 0 seen since its count was loaded.
    edges: u64,
    /// The tick of its next one.
    next: Option<Tsc>,
    speaker: u8,
}

impl Pit {
    /// The chip after reset: nothing counts; the gate of channel 2 is closed.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self {
            clock,
            channels: [Channel::new(Gate::Open), Channel::new(Gate::Open), Channel::new(Gate::Closed)],
            edges: 0,
            next: None,
            speaker: 0,
        }
    }

    /// Rising edges of channel 0 since the last time this was asked.
    pub fn take_edges(&mut self, now: Tsc) -> u64 {
        if self.next.is_none_or(|next| now < next) {
            return 0;
        }
        let channel = &self.channels[0];
        let seen = channel.edges(channel.elapsed(self.clock, now));
        let new = seen.saturating_sub(self.edges);
        self.edges += new;
        self.schedule();
        new
    }

    /// Works out when channel 0 rises next.
    fn schedule(&mut self) {
        let channel = &self.channels[0];
        let after = channel.next_edge(self.edges).map(|count| self.clock.until(count, HZ));
        self.next = channel.origin.zip(after).map(|(origin, after)| origin + after);
    }

    /// The tick of channel 0's next rising edge, if one will come.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tsc> {
        self.next
    }

    /// A read of one of the chip's ports or of port 0x61; `None` for any other.
    pub fn read(&mut self, port: u16, now: Tsc) -> Option<u8> {
        match port {
            port::CHANNEL0..=port::CHANNEL2 => {
                let clock = self.clock;
                Some(self.channels[usize::from(port - port::CHANNEL0)].read(clock, now))
            }
            // The control register cannot be read: the bus floats.
            port::COMMAND => Some(0xff),
            port::SPEAKER => Some(self.read_speaker(now)),
            _ => None,
        }
    }

    /// A write to one of the chip's ports or to port 0x61; `None` for any other.
    pub fn write(&mut self, port: u16, value: u8, now: Tsc) -> Option<()> {
        match port {
            port::CHANNEL0..=port::CHANNEL2 => {
                let number = usize::from(port - port::CHANNEL0);
                let loaded = self.channels[number].write(value, now).is_some();
                if number == 0 {
                    if loaded {
                        self.edges = 0;
                    }
                    self.schedule();
                }
            }
            port::COMMAND => self.command(value, now),
            port::SPEAKER => {
                self.speaker = value & 3;
                let gate = if value & 1 != 0 { Gate::Open } else { Gate::Closed };
                self.channels[2].set_gate(gate, self.clock, now);
            }
            _ => return None,
        }
        Some(())
    }

    fn command(&mut self, word: u8, now: Tsc) {
        let number = usize::from(word >> 6);
        let clock = self.clock;
        if let Some(channel) = self.channels.get_mut(number) {
            if word & 0x30 == 0 {
                channel.latch_count(clock, now);
            } else {
                channel.control(word);
                if number == 0 {
                    self.edges = 0;
                    self.schedule();
                }
            }
            return;
        }
        // Read-back: both latches are asked for by zeros.
        for (number, channel) in self.channels.iter_mut().enumerate() {
            if word & 2 << number == 0 {
                continue;
            }
            if word & 0x20 == 0 {
                channel.latch_count(clock, now);
            }
            if word & 0x10 == 0 {
                channel.latch_status(clock, now);
            }
        }
    }

    fn read_speaker(&self, now: Tsc) -> u8 {
        let refresh = self.clock.counted(now, REFRESH_HZ) & 1;
        let output = u8::from(self.channels[2].output(self.clock, now));
        self.speaker | (refresh as u8) << 4 | output << 5
    }
}

#[cfg(test)]
#[path = "pit_tests.rs"]
mod tests;
