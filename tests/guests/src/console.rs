//! The console: an 8250 at COM1, polled.

use crate::port::{in8, out8};
use core::fmt::{self, Write};

/// Where the 8250 is.
pub const COM1: u16 = 0x3f8;
/// Line status register, from [`COM1`].
pub const LINE_STATUS: u16 = 5;
/// In the line status: the transmitter can take a byte.
pub const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// Writes to COM1.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while in8(COM1 + LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
            out8(COM1, byte);
        }
        Ok(())
    }
}

/// Prints a line on the console.
#[macro_export]
macro_rules! line {
    ($($text:tt)*) => {{
        use core::fmt::Write;
        // Writing to a port cannot fail.
        let _ = core::writeln!($crate::console::Console, $($text)*);
    }};
}
