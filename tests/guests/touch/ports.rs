//! I/O ports: the 8250, the 8254, the RTC, and ports that are nobody's.

use crate::fresh::Fresh;
use guests::console::{COM1, LINE_STATUS, TRANSMITTER_EMPTY};
use guests::memory::{is_zero, write};
use guests::port::{in_string, in8, in16, in32, out_string, out8, out16, out32};
use guests::report::{Report, holds};

/// Of the 8250.
const SCRATCH: u16 = COM1 + 7;
/// Nothing in this machine answers there, at whatever width.
const NOBODY: u16 = 0x1f40;

pub fn check(report: &mut Report, fresh: &mut Fresh) {
    report.check("ports: unknown ones read all ones", unknown());
    report.check("ports: the 8250 keeps its scratch register", scratch());
    report.check("ports: the 8250 has sent everything", sent());
    report.check("ports: the RTC gives a time", rtc());
    report.check("ports: the 8254 counts", counts());
    report.check("ports: a string comes in over fresh pages", string_in(fresh.run(2)));
    out_string(COM1, b"touch: ports: this line is one string\n");
}

fn unknown() -> Result<(), &'static str> {
    for _ in 0..2 {
        holds(in8(NOBODY) == u8::MAX, "8 bits")?;
        holds(in16(NOBODY) == u16::MAX, "16 bits")?;
        holds(in32(NOBODY) == u32::MAX, "32 bits")?;
        out8(NOBODY, 0);
        out16(NOBODY, 0);
        out32(NOBODY, 0);
    }
    Ok(())
}

fn scratch() -> Result<(), &'static str> {
    for value in [0x5a, 0xa5, 0] {
        out8(SCRATCH, value);
        holds(in8(SCRATCH) == value, "it does not")?;
    }
    Ok(())
}

fn sent() -> Result<(), &'static str> {
    for _ in 0..1_000_000 {
        if in8(COM1 + LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            return Ok(());
        }
    }
    Err("it never has")
}

/// Register A must show, sooner or later, that no update is in progress; the seconds must be seconds.
fn rtc() -> Result<(), &'static str> {
    let read = |register: u8| {
        out8(0x70, register);
        in8(0x71)
    };
    holds((0..10_000).any(|_| read(0xa) & 0x80 == 0), "an update is always in progress")?;
    let seconds = read(0);
    holds(seconds >> 4 < 6 && seconds & 0xf < 10 || seconds < 60, "seconds that are none")
}

/// Channel 0 counts down although nobody asked for interrupts.
fn counts() -> Result<(), &'static str> {
    guests::timer::program(0xffff);
    let first = crate::timer::counter();
    holds((0..10_000).any(|_| crate::timer::counter() != first), "it stands still")
}

/// REP INSB from nobody's port fills memory with ones, over the border of two fresh pages.
fn string_in(first: u64) -> Result<(), &'static str> {
    const LEN: usize = 96;
    let start = first + 4096 - 48;
    // SAFETY: the pages are nobody else's, and zero bytes are bytes.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, LEN) };
    in_string(NOBODY, bytes);
    holds(bytes.iter().all(|byte| *byte == u8::MAX), "a byte is not all ones")?;
    for address in (start..start + LEN as u64).step_by(8) {
        write(address, 0u64);
    }
    holds(is_zero(first, &[]) && is_zero(first + 4096, &[]), "more was written than asked for")
}
