//! Every kind of first access to a page of RAM, and that no page is another.

use crate::fresh::Fresh;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guests::cpu::{page_table, read_or_fault, ticks};
use guests::memory::{Address, PAGE, is_zero, read, write};
use guests::report::{Report, Unequal, equal, holds};

/// So many pages are touched by plain reads and writes, if RAM has as many.
const MANY: u64 = 1400;
/// So many pages are written and then executed.
const EXECUTED: u64 = 64;
/// So many are kept for the other checks.
const KEPT: u64 = 64;

pub fn check(report: &mut Report, fresh: &mut Fresh) {
    many(report, fresh);
    report.check("execute what was written", execute(fresh.run(EXECUTED)));
    report.check("fetch as the first access", fetch_first(fresh.run(2)));
    report.check("write across two fresh pages", across(fresh.run(2)));
    report.check("locked add as the first access", locked_add(fresh.page()));
    report.check("string copy over fresh pages", string_copy(fresh.run(4), fresh.run(4)));
    report.check("page walk over a fresh page", walk(fresh.page()));
}

/// The bulk: half of the pages are read first, half are written first; then every one holds what only it should.
fn many(report: &mut Report, fresh: &mut Fresh) {
    let count = MANY.min(fresh.left().saturating_sub(EXECUTED + KEPT));
    let first = fresh.run(count);
    let addresses = move || (first..first + count * PAGE).step_by(PAGE as usize);
    let mut cost = Cost::new();

    let mut zero = Ok(());
    for address in addresses() {
        let start = ticks();
        let besides: &[u64] = if address & PAGE == 0 {
            let _: u64 = read(address);
            &[]
        } else {
            write(address + 8, address);
            &[8]
        };
        cost.add(ticks() - start);
        if !is_zero(address, besides) {
            zero = Err(Unequal { found: 1, wanted: 0, at: address });
        }
        write(address, mark(address));
        write(address + PAGE - 8, !mark(address));
    }
    report.check("fresh pages are zero", zero);
    report.check("every page keeps what was written", addresses().try_for_each(kept));
    cost.print(count);
}

/// What only the page at `address` holds.
const fn mark(address: Address) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn kept(address: Address) -> Result<(), Unequal> {
    equal(address, read(address), mark(address))?;
    equal(address + PAGE - 8, read(address + PAGE - 8), !mark(address))
}

/// Writes `mov eax, number; ret` into each page and calls it.
fn execute(first: Address) -> Result<(), Unequal> {
    for address in (first..first + EXECUTED * PAGE).step_by(PAGE as usize) {
        let number = (address >> 12) as u32;
        write(address, 0xb8u8);
        write(address + 1, number);
        write(address + 5, 0xc3u8);
        equal(address, u64::from(call(address)), u64::from(number))?;
    }
    Ok(())
}

fn call(address: Address) -> u32 {
    // SAFETY: the caller has just written a function there.
    let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(address as *const ()) };
    function()
}

/// The first page is entered untouched, two bytes before its end: zero bytes are `add [rax], al`, which adds to a
/// word of ours. The second page, which was written, returns.
fn fetch_first(first: Address) -> Result<(), Unequal> {
    static WORD: AtomicU64 = AtomicU64::new(0x11);
    write(first + PAGE, 0xc3u8);
    // SAFETY: runs one `add [rax], al` and one `ret`; al is the low byte of the address of WORD.
    unsafe { asm!("call {entry}", entry = in(reg) first + PAGE - 2, in("rax") WORD.as_ptr()) };
    let low = WORD.as_ptr() as u64 & 0xff;
    equal(first + PAGE - 2, WORD.load(Relaxed), 0x11 + low)
}

/// One instruction, two faults.
fn across(first: Address) -> Result<(), Unequal> {
    let (address, number) = (first + PAGE - 4, 0x1122_3344_5566_7788u64);
    // SAFETY: x86 writes unaligned.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) number, options(nostack, preserves_flags)) };
    equal(address, u64::from(read::<u32>(address)), 0x5566_7788)?;
    equal(address + 4, u64::from(read::<u32>(address + 4)), 0x1122_3344)
}

fn locked_add(address: Address) -> Result<(), Unequal> {
    let mut old = 5u64;
    // SAFETY: the page is nobody else's.
    unsafe { asm!("lock xadd [{}], {}", in(reg) address + 64, inout(reg) old, options(nostack)) };
    equal(address + 64, old, 0)?;
    equal(address + 64, read(address + 64), 5)
}

/// Faults in the midst of REP MOVSQ: it must go on where it was, without losing or repeating a word.
fn string_copy(from: Address, to: Address) -> Result<(), Unequal> {
    let words = 4 * PAGE / 8;
    for n in (0..words).step_by(3) {
        write(from + n * 8, mark(n));
    }
    // SAFETY: both runs are nobody else's.
    unsafe {
        asm!("rep movsq", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") words => _,
            options(nostack, preserves_flags));
    }
    for n in 0..words {
        equal(to + n * 8, read(to + n * 8), if n % 3 == 0 { mark(n) } else { 0 })?;
    }
    Ok(())
}

/// The CPU's own page walk is the first to read the page: it is all zero, so the guest sees a page fault of its own.
fn walk(table: Address) -> Result<(), &'static str> {
    const SECOND_ENTRY: Address = 8;
    const BEHIND_IT: Address = 1 << 39;
    write(page_table() + SECOND_ENTRY, table | 3);
    let caught = match read_or_fault(BEHIND_IT) {
        Ok(_) => return Err("no page fault"),
        Err(caught) => caught,
    };
    write(page_table() + SECOND_ENTRY, 0u64);
    holds(caught.vector == 14 && caught.error == 0, "not a page fault, or another error code")?;
    holds(guests::cpu::fault_address() == BEHIND_IT, "CR2 is another address")
}

/// What first accesses cost, in ticks of the guest's time-stamp counter.
struct Cost {
    samples: [u32; MANY as usize],
    count: usize,
}

impl Cost {
    const fn new() -> Self {
        Self { samples: [0; MANY as usize], count: 0 }
    }

    fn add(&mut self, ticks: u64) {
        if let Some(sample) = self.samples.get_mut(self.count) {
            *sample = u32::try_from(ticks).unwrap_or(u32::MAX);
            self.count += 1;
        }
    }

    fn print(mut self, pages: u64) {
        let samples = &mut self.samples[..self.count];
        samples.sort_unstable();
        let at = |percent: usize| samples.get(samples.len() * percent / 100).copied().unwrap_or(0);
        guests::line!(
            "touch: first access to {pages} pages, ticks seen by the guest: min {} p50 {} p99 {}",
            at(0),
            at(50),
            at(99)
        );
    }
}
