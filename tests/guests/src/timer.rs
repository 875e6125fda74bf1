//! The timer interrupt: channel 0 of the 8254 through the first 8259.

use crate::interrupt::FIRST_IRQ;
use crate::port::out8;

/// Channel 0 as a rate generator: an interrupt every `counts`.
pub fn program(counts: u16) {
    let [low, high] = counts.to_le_bytes();
    out8(0x43, 0x34);
    out8(0x40, low);
    out8(0x40, high);
}

/// The first 8259 delivers from [`FIRST_IRQ`] on; only the timer is let through.
pub fn route_interrupts() {
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, FIRST_IRQ),
        (0xa1, FIRST_IRQ + 8),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0xa1, 0xff),
        (0x21, 0xfe),
    ] {
        out8(port, value);
    }
}
