//! How a guest ends its machine: ACPI, the reset registers, and the test port 0xf4. With the ACPI timer.

use crate::clock::{Clock, Tsc};

/// The ports, as the ACPI tables name them.
pub mod port {
    #![expect(missing_docs, reason = "the names are the specification's")]
    pub const PM1A_EVENT: u16 = 0x600;
    pub const PM1A_CONTROL: u16 = 0x604;
    pub const PM_TIMER: u16 = 0x608;
    pub const PM_TIMER_LAST: u16 = 0x60b;
    pub const RESET: u16 = 0xcf9;
    pub const FAST_RESET: u16 = 0x92;
    pub const TEST_EXIT: u16 = 0xf4;
}

/// What the DSDT's `_S5` says: the sleep type that powers off.
pub const SLEEP_TYPE_S5: u8 = 0;
/// Written to [`port::RESET`] to reset the machine.
pub const RESET_VALUE: u8 = 0x06;
/// Counts of the ACPI timer in a second.
const TIMER_HZ: u64 = 3_579_545;

const CONTROL_SCI_ENABLED: u8 = 1;
/// SLP_EN, in the upper byte of the control register.
const CONTROL_SLEEP: u8 = 0x20;
const FAST_RESET_RESET: u8 = 1;
const FAST_RESET_A20: u8 = 2;
const RESET_CPU: u8 = 4;

/// The guest ends its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// ACPI S5.
    PowerOff,
    /// By the reset register, the keyboard controller or port 0x92.
    Reset,
    /// The value written to the test port.
    TestExit(u32),
}

/// The ACPI registers and the reset registers.
#[derive(Clone, Debug)]
pub struct Power {
    clock: Clock,
    enable: [u8; 2],
    control: [u8; 2],
    fast_reset: u8,
    reset: u8,
}

impl Power {
    /// The registers of a machine that is in ACPI mode from the start.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self { clock, enable: [0; 2], control: [CONTROL_SCI_ENABLED, 0], fast_reset: FAST_RESET_A20, reset: 0 }
    }

    /// A read of one byte; `None` for a port that is not of these.
    #[must_use]
    pub fn read(&self, port: u16, now: Tsc) -> Option<u8> {
        match port {
            // No event ever happens: the status is clear.
            0x600 | 0x601 => Some(0),
            0x602 | 0x603 => Some(self.enable[usize::from(port & 1)]),
            0x604 | 0x605 => Some(self.control[usize::from(port & 1)]),
            0x606 | 0x607 => Some(0),
            port::PM_TIMER..=port::PM_TIMER_LAST => {
                let timer = self.clock.counted(now, TIMER_HZ) as u32;
                Some(timer.to_le_bytes()[usize::from(port & 3)])
            }
            port::FAST_RESET => Some(self.fast_reset),
            port::RESET => Some(self.reset),
            _ => None,
        }
    }

    /// A write of one byte; `None` for a port that is not of these.
    pub fn write(&mut self, port: u16, value: u8) -> Option<Option<PowerEvent>> {
        let mut event = None;
        match port {
            0x602 | 0x603 => self.enable[usize::from(port & 1)] = value,
            0x604 => self.control[0] = value | CONTROL_SCI_ENABLED,
            0x605 => event = self.sleep(value),
            // Status bits are cleared by writing ones, and none is ever set; the timer only counts.
            0x600 | 0x601 | 0x606..=0x60b => {}
            port::FAST_RESET => {
                let reset = value & FAST_RESET_RESET != 0;
                self.fast_reset = value & !FAST_RESET_RESET;
                event = reset.then_some(PowerEvent::Reset);
            }
            port::RESET => {
                let reset = value & !self.reset & RESET_CPU != 0;
                self.reset = value;
                event = reset.then_some(PowerEvent::Reset);
            }
            _ => return None,
        }
        Some(event)
    }

    /// SLP_TYP and SLP_EN are in the upper byte of PM1 control. A state that the DSDT does not have is not entered.
    fn sleep(&mut self, value: u8) -> Option<PowerEvent> {
        self.control[1] = value & !CONTROL_SLEEP;
        let sleeps = value & CONTROL_SLEEP != 0 && value >> 2 & 7 == SLEEP_TYPE_S5;
        sleeps.then_some(PowerEvent::PowerOff)
    }
}

#[cfg(test)]
mod tests {
    use super::{Power, PowerEvent, RESET_VALUE, port};
    use crate::clock::Clock;

    #[test]
    fn s5_powers_off_and_another_sleep_state_does_not() {
        let mut power = Power::new(Clock::new(1_000));
        assert_eq!(power.write(port::PM1A_CONTROL + 1, 0x34), Some(None));
        assert_eq!(power.write(port::PM1A_CONTROL + 1, 0x00), Some(None));
        assert_eq!(power.write(port::PM1A_CONTROL + 1, 0x20), Some(Some(PowerEvent::PowerOff)));
    }

    #[test]
    fn the_machine_stays_in_acpi_mode() {
        let mut power = Power::new(Clock::new(1_000));
        assert_eq!(power.write(port::PM1A_CONTROL, 0), Some(None));
        assert_eq!(power.read(port::PM1A_CONTROL, 0), Some(1));
    }

    #[test]
    fn the_reset_register_resets_when_its_cpu_bit_rises() {
        let mut power = Power::new(Clock::new(1_000));
        assert_eq!(power.write(port::RESET, 2), Some(None));
        assert_eq!(power.write(port::RESET, RESET_VALUE), Some(Some(PowerEvent::Reset)));
    }

    #[test]
    fn the_timer_counts_at_its_rate() {
        let power = Power::new(Clock::new(1_000_000));
        let read = |now| {
            (0..4)
                .fold(0, |sum, byte| sum | u32::from(power.read(port::PM_TIMER + byte, now).unwrap_or(0)) << (8 * byte))
        };
        assert_eq!(read(1_000_000), 3_579_545);
        assert_eq!(read(2_000_000), 7_159_090);
    }
}
