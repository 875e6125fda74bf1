//! The 8042 keyboard controller with nothing plugged in: it answers its own commands, and can reset the machine.

use crate::power::PowerEvent;

/// The ports.
pub mod port {
    #![expect(missing_docs, reason = "the names say it")]
    pub const DATA: u16 = 0x60;
    pub const COMMAND: u16 = 0x64;
}

const STATUS_OUTPUT_FULL: u8 = 1;
const STATUS_SELF_TESTED: u8 = 4;
const STATUS_COMMAND: u8 = 8;
const STATUS_UNLOCKED: u8 = 0x10;

/// What the next byte written to the data port means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Keyboard,
    Configuration,
    OutputPort,
    /// For the mouse, or to be echoed: taken and dropped.
    Dropped,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Keyboard {
    configuration: u8,
    output_port: u8,
    output: Option<u8>,
    last_was_command: bool,
    expects: Expects,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyboard {
    /// The controller after reset, both ports disabled.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            configuration: 0x34,
            // A20 open, not in reset.
            output_port: 0x03,
            output: None,
            last_was_command: false,
            expects: Expects::Keyboard,
        }
    }

    /// A read of one of the two ports; `None` for any other.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        match port {
            port::DATA => Some(self.output.take().unwrap_or(0)),
            port::COMMAND => Some(self.status()),
            _ => None,
        }
    }

    const fn status(&self) -> u8 {
        let full = if self.output.is_some() { STATUS_OUTPUT_FULL } else { 0 };
        let command = if self.last_was_command { STATUS_COMMAND } else { 0 };
        STATUS_SELF_TESTED | STATUS_UNLOCKED | full | command
    }

    /// A write to one of the two ports; `None` for any other.
    pub fn write(&mut self, port: u16, value: u8) -> Option<Option<PowerEvent>> {
        match port {
            port::DATA => Some(self.take(value)),
            port::COMMAND => Some(self.command(value)),
            _ => None,
        }
    }

    fn command(&mut self, command: u8) -> Option<PowerEvent> {
        self.last_was_command = true;
        self.expects = Expects::Keyboard;
        match command {
            0x20 => self.output = Some(self.configuration),
            0x60 => self.expects = Expects::Configuration,
            0xa7 => self.configuration |= 0x20,
            0xa8 => self.configuration &= !0x20,
            0xaa => self.output = Some(0x55),
            // Tests of the two ports: their clock lines are stuck low, as nothing is plugged in.
            0xa9 | 0xab => self.output = Some(1),
            0xad => self.configuration |= 0x10,
            0xae => self.configuration &= !0x10,
            0xd0 => self.output = Some(self.output_port),
            0xd1 => self.expects = Expects::OutputPort,
            0xd2..=0xd4 => self.expects = Expects::Dropped,
            // Pulses of the output port; bit 0 is the CPU's reset line.
            0xf0..=0xff if command & 1 == 0 => return Some(PowerEvent::Reset),
            _ => {}
        }
        None
    }

    fn take(&mut self, value: u8) -> Option<PowerEvent> {
        self.last_was_command = false;
        match core::mem::replace(&mut self.expects, Expects::Keyboard) {
            Expects::Configuration => self.configuration = value,
            Expects::OutputPort => {
                self.output_port = value;
                if value & 1 == 0 {
                    return Some(PowerEvent::Reset);
                }
            }
            Expects::Keyboard | Expects::Dropped => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyboard, port};
    use crate::power::PowerEvent;

    #[test]
    fn the_controller_passes_its_self_test_and_shows_no_further_byte() {
        let mut keyboard = Keyboard::new();
        assert_eq!(keyboard.write(port::COMMAND, 0xaa), Some(None));
        assert_eq!(keyboard.read(port::COMMAND).map(|status| status & 1), Some(1));
        assert_eq!(keyboard.read(port::DATA), Some(0x55));
        assert_eq!(keyboard.read(port::COMMAND).map(|status| status & 1), Some(0));
    }

    #[test]
    fn the_configuration_byte_reads_back() {
        let mut keyboard = Keyboard::new();
        let _ = keyboard.write(port::COMMAND, 0x60);
        let _ = keyboard.write(port::DATA, 0x47);
        let _ = keyboard.write(port::COMMAND, 0x20);
        assert_eq!(keyboard.read(port::DATA), Some(0x47));
    }

    #[test]
    fn command_fe_and_the_output_port_reset_the_machine() {
        let mut keyboard = Keyboard::new();
        assert_eq!(keyboard.write(port::COMMAND, 0xfe), Some(Some(PowerEvent::Reset)));
        assert_eq!(keyboard.write(port::COMMAND, 0xd1), Some(None));
        assert_eq!(keyboard.write(port::DATA, 0xfe), Some(Some(PowerEvent::Reset)));
        assert_eq!(keyboard.write(port::COMMAND, 0xff), Some(None));
    }

    #[test]
    fn a_byte_for_the_keyboard_is_never_answered() {
        let mut keyboard = Keyboard::new();
        assert_eq!(keyboard.write(port::DATA, 0xff), Some(None));
        assert_eq!(keyboard.read(port::COMMAND).map(|status| status & 1), Some(0));
    }
}
