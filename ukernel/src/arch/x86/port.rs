//! IN and OUT.
#![expect(unsafe_code, reason = "port instructions")]

/// Reads a byte from a device of the machine.
pub fn read(port: u16) -> u8 {
    // SAFETY: the kernel reads ports of the serial line, the timer and the interrupt controller only: none touches memory.
    unsafe { x86::io::inb(port) }
}

/// Writes a byte to a device of the machine.
pub fn write(port: u16, value: u8) {
    // SAFETY: as in `read`; none of these devices transfers memory.
    unsafe { x86::io::outb(port, value) }
}

/// Writes two bytes to a device of the machine.
pub fn write_16(port: u16, value: u16) {
    // SAFETY: as in `write`.
    unsafe { x86::io::outw(port, value) }
}
