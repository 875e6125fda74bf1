//! What is timed, each as one instruction between two RDTSC.

use crate::samples::{Clock, Samples};
use core::arch::asm;
use guests::console::COM1;
use guests::memory::{Address, PAGE};

/// Of the 8250: a register that keeps what is written, and does nothing.
const SCRATCH: u16 = COM1 + 7;
/// A table of the last level maps so much.
const TABLE: u64 = 512 * PAGE;
/// The first page that is touched. Below are image, stack and page tables.
const FIRST: Address = 0x80_0000;
/// So many tables' worth of pages are touched.
const TABLES: u64 = 3;
/// Pages around a fault that are mapped together, where the pager does that.
const AROUND: u64 = 16;
/// Above RAM and below the devices' area of a PC.
const ABOVE: u64 = 1 << 20;
/// So many samples of what can be done again and again.
const SAMPLES: usize = 256;

/// One instruction between two RDTSC: R8 is `$address`, DX `$port`, RAX and RCX are zero, R9 and R11 are free.
macro_rules! timed {
    ($instruction:literal, $address:expr, $port:expr) => {{
        let (start, end): (u32, u32);
        // SAFETY: the instruction touches registers, a port, or memory of which no Rust object is a part.
        unsafe {
            asm!("rdtsc", "mov r10d, eax", "mov edx, r11d", "xor eax, eax", "xor ecx, ecx", $instruction, "rdtsc",
                inout("r8") $address => _, inout("r11") u64::from($port) => _, out("r9") _, out("r10") start,
                out("eax") end, out("ecx") _, out("edx") _, options(nostack));
        }
        u64::from(end.wrapping_sub(start))
    }};
}

/// The same once more, between two marks for the debugger.
macro_rules! traced {
    ($what:expr, $instruction:literal, $address:expr, $port:expr) => {{
        guests::line!("bench: traced {}", $what);
        // SAFETY: as in `timed`; the marks exchange a register with itself.
        unsafe {
            asm!("xor eax, eax", "xor ecx, ecx", "xchg bx, bx", $instruction, "xchg bx, bx",
                inout("r8") $address => _, inout("edx") u32::from($port) => _, out("r9") _,
                out("eax") _, out("ecx") _, options(nostack));
        }
    }};
}

/// What two RDTSC take, with the moves that are around every instruction.
pub fn nothing() -> u64 {
    timed!("", 0u64, 0u16)
}

/// A first access that reads.
pub fn read_first(address: Address) -> u64 {
    timed!("mov r8, [r8]", address, 0u16)
}

/// A first access that writes.
pub fn write_first(address: Address) -> u64 {
    timed!("mov [r8], r8", address, 0u16)
}

/// A write for the debugger; `what` is its name.
pub fn write_traced(what: &str, address: Address) {
    traced!(what, "mov [r8], r8", address, 0u16);
}

/// What leaves the guest whenever it is done. CPUID gives up RBX, which the compiler keeps for itself: two moves more,
/// which are not counted.
pub fn exits(clock: &Clock, ram: u64) {
    let nothing_there = ram + ABOVE;
    let each = |what, one: &dyn Fn() -> u64| {
        let mut samples = Samples::of(what, clock);
        (0..SAMPLES).for_each(|_| samples.add(one()));
        samples.print();
    };
    each("cpuid", &|| timed!("mov r9, rbx\ncpuid\nmov rbx, r9", 0u64, 0u16) - 2);
    each("out", &|| timed!("out dx, al", 0u64, SCRATCH));
    each("in", &|| timed!("in al, dx", 0u64, SCRATCH));
    each("mmio_read", &|| timed!("mov r9d, [r8]", nothing_there, 0u16));
    each("mmio_write", &|| timed!("mov [r8], eax", nothing_there, 0u16));
}

/// First touches of fresh pages: where the tables are there, and where one is missing. Every sixteenth of the former is
/// listed once more: where the pager maps around a fault, these are the ones that fault.
pub fn touches(clock: &Clock) {
    let mut present = Samples::of("first_touch", clock);
    let mut sixteenth = Samples::of("every_sixteenth", clock);
    let mut missing = Samples::of("first_touch_no_table", clock);
    for table in 0..TABLES {
        let first = FIRST + table * TABLE;
        missing.add(write_first(first));
        for page in 1..TABLE / PAGE {
            let address = first + page * PAGE;
            let ticks = if page % 2 == 0 { read_first(address) } else { write_first(address) };
            present.add(ticks);
            if page % AROUND == 0 {
                sixteenth.add(ticks);
            }
        }
    }
    present.print();
    sixteenth.print();
    missing.print();
}

/// Everything once more, for the debugger.
pub fn traces(ram: u64) {
    let fresh = FIRST + TABLES * TABLE;
    write_traced("first_touch_no_table", fresh);
    write_traced("first_touch", fresh + PAGE);
    traced!("cpuid", "mov r9, rbx\ncpuid\nmov rbx, r9", 0u64, 0u16);
    traced!("out", "out dx, al", 0u64, SCRATCH);
    traced!("mmio_read", "mov r9d, [r8]", ram + ABOVE, 0u16);
}
