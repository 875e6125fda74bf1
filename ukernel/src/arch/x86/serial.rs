//! The serial line: COM1, polled.

use super::port;
use core::fmt;

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const HOLDING_EMPTY: u8 = 1 << 5;
const ALL_SENT: u8 = 1 << 6;

/// The line. Bytes of several writers may mix; a caller that minds holds a lock.
pub struct Serial;

impl Serial {
    /// 115200 baud, 8 bits, no parity, FIFO on, no interrupts.
    pub fn start(&self) {
        let settings = [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)];
        for (register, value) in settings {
            port::write(COM1 + register, value);
        }
    }

    /// Waits until the last byte has left.
    pub fn drain(&self) {
        wait_for(ALL_SENT);
    }
}

/// Waits for a status bit, but not for ever: a machine without the line must still run.
fn wait_for(bit: u8) {
    for _ in 0..1_000_000 {
        if port::read(LINE_STATUS) & bit != 0 {
            return;
        }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            wait_for(HOLDING_EMPTY);
            port::write(COM1, byte);
        }
        Ok(())
    }
}
