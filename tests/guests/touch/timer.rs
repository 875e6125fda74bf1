//! Time: the 8254 through the 8259 into the interrupt table, HLT, and what the time-stamp counter says to it.

use crate::fresh::Fresh;
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use guests::cpu::{let_interrupts_in, spin, ticks, wait_for_interrupt};
use guests::interrupt::{SOFT, SOFTWARE, TIMER};
use guests::memory::{Address, PAGE};
use guests::port::{in8, out8};
use guests::report::{Report, holds};
use guests::timer::{program, route_interrupts};

/// The 8254 runs at 1,193,182 Hz: so many counts are ten milliseconds.
const TEN_MS: u16 = 11932;
/// So many timer interrupts are waited for.
const WAITED: u64 = 10;

pub fn check(report: &mut Report, fresh: &mut Fresh) {
    let busy = ticks_in_ten_ms();
    guests::line!("touch: {busy} ticks in 10 ms by the 8254");
    route_interrupts();
    program(TEN_MS);

    report.check("timer: HLT wakes at every interrupt", wakes(busy));
    report.check("timer: an interrupt waits until it is let in", waits(busy));
    report.check("timer: a masked interrupt stays away", masked(busy));
    report.check("an interrupt on a fresh stack", fresh_stack(fresh.page()));
    report.check("a timer interrupt on a fresh stack", timer_on_fresh_stack(fresh.page(), busy));
}

/// What channel 0 has left to count.
pub fn counter() -> u16 {
    out8(0x43, 0);
    u16::from_le_bytes([in8(0x40), in8(0x40)])
}

/// Measured with the CPU busy, so that it can be held against HLT.
fn ticks_in_ten_ms() -> u64 {
    program(0xffff);
    let (count, start) = (counter(), ticks());
    loop {
        let counted = count.wrapping_sub(counter());
        if (TEN_MS..0x8000).contains(&counted) {
            return (ticks() - start) * u64::from(TEN_MS) / u64::from(counted);
        }
    }
}

/// Ten interrupts come, a tenth of a second passes; loosely, for a machine in a machine may come late.
fn wakes(ten_ms: u64) -> Result<(), &'static str> {
    wait_for_interrupt();
    let (first, start) = (TIMER.load(Relaxed), ticks());
    while TIMER.load(Relaxed) < first + WAITED {
        wait_for_interrupt();
    }
    let each = (ticks() - start) / WAITED;
    guests::line!("touch: {each} ticks from one timer interrupt to the next");
    holds(each > ten_ms / 2, "they come too fast")?;
    holds(each < ten_ms * 4, "they come too slowly")
}

fn waits(ten_ms: u64) -> Result<(), &'static str> {
    let before = TIMER.load(Relaxed);
    spin(3 * ten_ms);
    holds(TIMER.load(Relaxed) == before, "one came although interrupts are shut out")?;
    let_interrupts_in();
    holds(TIMER.load(Relaxed) > before, "none came when they were let in")
}

fn masked(ten_ms: u64) -> Result<(), &'static str> {
    let_interrupts_in();
    out8(0x21, 0xff);
    let before = TIMER.load(Relaxed);
    // SAFETY: the handlers keep every register.
    unsafe { asm!("sti", options(nostack)) };
    spin(3 * ten_ms);
    // SAFETY: as above.
    unsafe { asm!("cli", options(nostack)) };
    let during = TIMER.load(Relaxed) - before;
    out8(0x21, 0xfe);
    holds(during == 0, "one came")
}

/// The CPU faults while it delivers a software interrupt: it must be delivered once, after the page is there.
fn fresh_stack(stack: Address) -> Result<(), &'static str> {
    let before = SOFT.load(Relaxed);
    // SAFETY: the stack goes back to where it was; in between only the interrupt uses the fresh one.
    unsafe {
        asm!("mov {old}, rsp", "mov rsp, {new}", "int {vector}", "mov rsp, {old}",
            old = out(reg) _, new = in(reg) stack + PAGE, vector = const SOFTWARE);
    }
    holds(SOFT.load(Relaxed) == before + 1, "it was lost or came twice")
}

/// The same for an interrupt from a device, which can come only once: it was acknowledged before the fault.
fn timer_on_fresh_stack(stack: Address, ten_ms: u64) -> Result<(), &'static str> {
    let_interrupts_in();
    let before = TIMER.load(Relaxed);
    spin(2 * ten_ms);
    // SAFETY: as in `fresh_stack`.
    unsafe {
        asm!("mov {old}, rsp", "mov rsp, {new}", "sti", "nop", "nop", "cli", "mov rsp, {old}",
            old = out(reg) _, new = in(reg) stack + PAGE);
    }
    holds(TIMER.load(Relaxed) > before, "it was lost")
}
