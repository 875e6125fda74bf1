//! The ports of QEMU's `pc-testdev`, which unit tests of hypervisors use: four bytes that keep what is written, and
//! one port for each interrupt line.

/// The ports.
pub mod port {
    #![expect(missing_docs, reason = "the names say it")]
    pub const KEPT: u16 = 0xe0;
    pub const KEPT_LAST: u16 = 0xe3;
    pub const LINES: u16 = 0x2000;
    pub const LINES_LAST: u16 = 0x200f;
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// This interrupt line is to go high.
    Raise(u8),
    /// This interrupt line is to go low.
    Lower(u8),
}

/// The device.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestDevice {
    kept: [u8; 4],
}

impl TestDevice {
    /// The device after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: [0; 4] }
    }

    /// A read of one byte; `None` for a port that is not the device's.
    #[must_use]
    pub const fn read(&self, port: u16) -> Option<u8> {
        match port {
            port::KEPT..=port::KEPT_LAST => Some(self.kept[(port - port::KEPT) as usize]),
            _ => None,
        }
    }

    /// A write of one byte; `None` for a port that is not the device's.
    pub const fn write(&mut self, port: u16, value: u8) -> Option<Asked> {
        match port {
            port::KEPT..=port::KEPT_LAST => {
                self.kept[(port - port::KEPT) as usize] = value;
                Some(Asked::Nothing)
            }
            port::LINES..=port::LINES_LAST => {
                let line = (port - port::LINES) as u8;
                Some(if value == 0 { Asked::Lower(line) } else { Asked::Raise(line) })
            }
            _ => None,
        }
    }
}
