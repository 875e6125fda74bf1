//! CPUID, MSRs, the time-stamp counter, control registers, HLT.

use crate::interrupt::Caught;
use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// CPUID of `leaf` and `subleaf`.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// The time-stamp counter.
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC has no effect beside its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads a model-specific register, or says which exception that raised.
///
/// # Errors
/// The exception.
pub fn read_msr(number: u32) -> Result<u64, Caught> {
    let (low, high): (u32, u32);
    let guard = crate::interrupt::catch();
    // SAFETY: RDMSR touches registers only; if it raises an exception, the handler goes on at label 2.
    unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "rdmsr", "2:",
            resume = out(reg) _, slot = in(reg) guard.slot(), in("ecx") number,
            inout("eax") 0 => low, inout("edx") 0 => high, options(nostack));
    }
    guard.finish().map(|()| u64::from(high) << 32 | u64::from(low))
}

/// Writes a model-specific register, or says which exception that raised.
///
/// # Errors
/// The exception.
pub fn write_msr(number: u32, value: u64) -> Result<(), Caught> {
    let guard = crate::interrupt::catch();
    // SAFETY: as in `read_msr`; callers write registers whose effect they want.
    unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "wrmsr", "2:",
            resume = out(reg) _, slot = in(reg) guard.slot(), in("ecx") number,
            in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    }
    guard.finish()
}

/// Reads the eight bytes at `address`, or says which exception that raised.
///
/// # Errors
/// The exception.
pub fn read_or_fault(address: u64) -> Result<u64, Caught> {
    let value: u64;
    let guard = crate::interrupt::catch();
    // SAFETY: reads only; if it raises an exception, the handler goes on at label 2.
    unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "mov {value}, [{address}]", "2:",
            resume = out(reg) _, slot = in(reg) guard.slot(), address = in(reg) address,
            value = inout(reg) 0u64 => value, options(nostack));
    }
    guard.finish().map(|()| value)
}

/// The address of the top-level page table.
#[must_use]
pub fn page_table() -> u64 {
    let value: u64;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value & !0xfff
}

/// The address that raised the last page fault.
#[must_use]
pub fn fault_address() -> u64 {
    let value: u64;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Lets SSE instructions be used: CR0.MP, not CR0.EM and CR0.TS; CR4.OSFXSR and OSXMMEXCPT.
pub fn enable_sse() {
    // SAFETY: nothing here was compiled to use SSE, so nothing can be disturbed.
    unsafe {
        asm!("mov {v}, cr0", "and {v}, -13", "or {v}, 2", "mov cr0, {v}",
            "mov {v}, cr4", "or {v}, 0x600", "mov cr4, {v}", v = out(reg) _, options(nostack));
    }
}

/// Lets interrupts in and waits for one; they are shut out again when it returns.
pub fn wait_for_interrupt() {
    // SAFETY: the handlers keep every register. STI holds interrupts off until HLT has begun.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Lets interrupts in for two instructions.
pub fn let_interrupts_in() {
    // SAFETY: the handlers keep every register.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}

/// Waits with interrupts shut out: for ever.
pub fn halt_for_ever() {
    // SAFETY: stops the CPU.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

/// Busy for `count` ticks.
pub fn spin(count: u64) {
    let start = ticks();
    while ticks() - start < count {
        core::hint::spin_loop();
    }
}
