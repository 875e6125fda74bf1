//! I/O ports, of every width.

use core::arch::asm;

/// The port that ends the machine: QEMU's isa-debug-exit, and what the hypervisor under test offers in its place.
const END: u16 = 0xf4;

/// Reads a byte.
#[must_use]
pub fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the guest owns every port of its machine, and none of them writes its memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads two bytes.
#[must_use]
pub fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as in `in8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads four bytes.
#[must_use]
pub fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as in `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte.
pub fn out8(port: u16, value: u8) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes two bytes.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes four bytes.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as in `in8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes every byte of `bytes`, with one REP OUTSB.
pub fn out_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads `bytes` from its first to its last byte.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags));
    }
}

/// Fills `bytes` with one REP INSB.
pub fn in_string(port: u16, bytes: &mut [u8]) {
    // SAFETY: writes `bytes` from its first to its last byte.
    unsafe {
        asm!("rep insb", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _, inout("rcx") bytes.len() => _,
            options(nostack, preserves_flags));
    }
}

/// Ends the machine: 0 says that all is well, any other number how many checks failed.
pub fn end(status: u8) -> ! {
    out8(END, status);
    loop {
        crate::cpu::halt_for_ever();
    }
}
