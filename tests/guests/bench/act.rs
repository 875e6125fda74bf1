//! What is timed, each as one instruction between two RDTSC.

use crate::samples::{Clock, Samples};
use core::arch::asm;
use guests::console::COM1;
use guests::memory::{Address, PAGE};

/// Of the 8250: a register that keeps what is written, and does nothing.
const SCRATCH: u16 = COM1 + 7;
/// A port that is nobody's: the delay port of a PC.
const NOBODY: u16 = 0x80;
/// A table of the last level maps so much.
const TABLE: u64 = 512 * PAGE;
/// The first page that is touched. Below are image, stack and page tables, and what `runs` touches lies above.
const FIRST: Address = 0x80_0000;
/// So many tables' worth of pages are touched.
const TABLES: u64 = 3;
/// Above RAM and below the devices' area of a PC.
const ABOVE: u64 = 1 << 20;
/// So many samples of what can be done again and again.
const SAMPLES: usize = 256;

/// One instruction, timed. The registers that RDTSC leaves are given up; `$($operand)*` are the instruction's.
macro_rules! timed {
    ($instruction:literal $(, $($operand:tt)*)?) => {{
        let (start, end): (u32, u32);
        // SAFETY: the caller of the macro says what the instruction touches: registers, a port, or a page of its own.
        unsafe {
            asm!("rdtsc", "mov r10d, eax", "mov eax, r9d", $instruction, "rdtsc",
                $($($operand)*,)? out("r10") start, out("eax") end, out("edx") _, in("r9") 0u64,
                options(nostack));
        }
        u64::from(end.wrapping_sub(start))
    }};
}

/// One instruction between two marks for the debugger.
macro_rules! traced {
    ($what:literal, $instruction:literal $(, $($operand:tt)*)?) => {{
        guests::line!("bench: traced {}", $what);
        // SAFETY: as in `timed`; the marks exchange a register with itself.
        unsafe {
            asm!("xor eax, eax", "xchg bx, bx", $instruction, "xchg bx, bx",
                $($($operand)*,)? out("eax") _, options(nostack));
        }
    }};
}

/// What two RDTSC take, with the moves that are around every instruction.
pub fn nothing() -> u64 {
    timed!("")
}

/// A first access that reads.
pub fn read_first(address: Address) -> u64 {
    timed!("mov r8, [r8]", inout("r8") address => _)
}

/// A first access that writes.
pub fn write_first(address: Address) -> u64 {
    timed!("mov [r8], r8", in("r8") address)
}

/// Times and traces everything that every system has.
pub fn all(clock: &Clock, ram: u64) {
    exits(clock, ram);
    touches(clock);
    traces(ram);
}

/// What leaves the guest whenever it is done.
fn exits(clock: &Clock, ram: u64) {
    let nothing = ram + ABOVE;
    let each = |what, one: &dyn Fn() -> u64| {
        let mut samples = Samples::of(what, clock);
        for _ in 0..SAMPLES {
            samples.add(one());
        }
        samples.print();
    };
    // CPUID gives up RBX, which the compiler keeps for itself: it is put aside, and that is two moves more.
    each("cpuid", &|| timed!("mov r8, rbx\ncpuid\nmov rbx, r8", out("r8") _, out("ecx") _).saturating_sub(2));
    each("out", &|| timed!("out dx, al\nmov edx, 0", in("dx") SCRATCH).saturating_sub(1));
    each("in", &|| timed!("in al, dx"));
    each("mmio_read", &|| timed!("mov r8d, [r8]", inout("r8") nothing => _));
    each("mmio_write", &|| timed!("mov [r8], r9d", in("r8") nothing));
    let _ = NOBODY;
}

/// First touches of fresh pages: where the tables are there, and where one is missing.
fn touches(clock: &Clock) {
    let mut present = Samples::of("first_touch", clock);
    let mut missing = Samples::of("first_touch_no_table", clock);
    for table in 0..TABLES {
        let first = FIRST + table * TABLE;
        missing.add(write_first(first));
        for page in 1..TABLE / PAGE {
            let address = first + page * PAGE;
            present.add(if page % 2 == 0 { read_first(address) } else { write_first(address) });
        }
    }
    present.print();
    missing.print();
}

/// Once more, for the debugger.
fn traces(ram: u64) {
    let fresh = FIRST + TABLES * TABLE;
    traced!("first_touch_no_table", "mov [r8], r8", in("r8") fresh);
    traced!("first_touch", "mov [r8], r8", in("r8") fresh + PAGE);
    traced!("cpuid", "mov r8, rbx\ncpuid\nmov rbx, r8", out("r8") _, out("ecx") _, out("edx") _);
    traced!("out", "out dx, al", in("dx") SCRATCH);
    traced!("mmio_read", "mov r8d, [r8]", inout("r8") ram + ABOVE => _);
}
