//! IN and OUT on the ports that the manifest gave to this task; any other stops it.
#![expect(unsafe_code, reason = "IN and OUT")]

use core::arch::asm;

/// Reads a byte from `port`.
#[must_use]
pub fn read(port: u16) -> u8 {
    let value;
    // SAFETY: a port touches no memory of this task; one that was not given faults.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to `port`.
pub fn write(port: u16, value: u8) {
    // SAFETY: a port touches no memory of this task; one that was not given faults.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}
