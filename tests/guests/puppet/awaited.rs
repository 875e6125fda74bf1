//! Reads that wait for their page while the timer goes on.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use guests::interrupt::{AWAITED, AWAITING, TIMER};
use guests::memory::Address;
use guests::timer::{program, route_interrupts};
use guests::{interrupt, line};

/// What came while the reads were made.
#[derive(Clone, Copy)]
pub enum Interrupts {
    /// They are let in.
    In,
    /// They are shut out.
    Out,
}

/// The fewest counts of the 8254 from one interrupt to the next that leave time for anything else.
const COUNTS: u16 = 120;

/// Reads a word at each address, with a timer interrupt every [`COUNTS`]. An interrupt that comes just before a read may do so
/// by chance; a second one before the same read says that the read was waiting in between.
pub fn read_all(addresses: impl Iterator<Item = Address>, interrupts: Interrupts) {
    interrupt::install();
    route_interrupts();
    program(COUNTS);
    let (mut waits, mut most) = (0u64, 0);
    let first = TIMER.load(Relaxed);
    for address in addresses {
        AWAITING.store(0, Relaxed);
        match interrupts {
            Interrupts::In => read_with_interrupts(address),
            Interrupts::Out => read_without(address),
        }
        let came = AWAITING.load(Relaxed);
        waits += u64::from(came > 1);
        most = most.max(came);
    }
    let during = TIMER.load(Relaxed) - first;
    program(0);
    guests::cpu::let_interrupts_in();
    let after = TIMER.load(Relaxed) - first - during;
    line!("puppet: awaited {waits} most {most} during {during} after {after}");
}

/// Reads a word with interrupts let in; the handler knows the instruction.
fn read_with_interrupts(address: Address) {
    // SAFETY: the handlers keep every register; the guest owns the address, and no Rust object lies there.
    unsafe {
        asm!("lea {word}, [rip + 2f]", "mov [{awaited}], {word}", "sti", "nop", "2:", "mov {word}, [{address}]", "cli",
            word = out(reg) _, awaited = in(reg) AWAITED.as_ptr(), address = in(reg) address);
    }
}

/// The same with interrupts shut out.
fn read_without(address: Address) {
    // SAFETY: as above.
    unsafe {
        asm!("lea {word}, [rip + 2f]", "mov [{awaited}], {word}", "2:", "mov {word}, [{address}]",
            word = out(reg) _, awaited = in(reg) AWAITED.as_ptr(), address = in(reg) address);
    }
}
