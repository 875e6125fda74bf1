//! The CPU's optional features, and the control registers that switch them on.
#![expect(unsafe_code, reason = "control registers")]

use super::msr;
use bitflags::bitflags;
use core::arch::asm;
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::cpuid::CpuId;

bitflags! {
    /// What this CPU has of what the kernel uses when it is there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u32 {
        /// No-execute pages.
        const NX = 1;
        /// Pages of 1 GiB.
        const HUGE_PAGES = 2;
        /// Translations tagged by address space.
        const PCID = 4;
        /// The kernel cannot execute user pages.
        const SMEP = 8;
        /// The kernel cannot touch user pages.
        const SMAP = 16;
        /// Tasks cannot read the descriptor tables' addresses.
        const UMIP = 32;
        /// The APIC's timer takes a deadline.
        const TSC_DEADLINE = 64;
        /// Intel VMX.
        const VMX = 128;
        /// XSAVE, and with it XCR0.
        const XSAVE = 256;
    }
}

impl Features {
    /// What this CPU has.
    #[must_use]
    pub fn read() -> Self {
        let cpuid = CpuId::new();
        let mut found = Self::empty();
        if let Some(info) = cpuid.get_feature_info() {
            found.set(Self::PCID, info.has_pcid());
            found.set(Self::TSC_DEADLINE, info.has_tsc_deadline());
            found.set(Self::VMX, info.has_vmx());
            found.set(Self::XSAVE, info.has_xsave());
        }
        if let Some(info) = cpuid.get_extended_feature_info() {
            found.set(Self::SMEP, info.has_smep());
            found.set(Self::SMAP, info.has_smap());
            found.set(Self::UMIP, info.has_umip());
        }
        if let Some(info) = cpuid.get_extended_processor_and_feature_identifiers() {
            found.set(Self::NX, info.has_execute_disable());
            found.set(Self::HUGE_PAGES, info.has_1gib_pages());
        }
        found
    }
}

/// Switches on what protects the kernel, and what a task may not do without: vector state is the guest's, so its use
/// by a task faults (CR0.TS, SDM vol. 3A, table 2-2).
pub fn protect(features: Features) {
    let mut on = Cr4::CR4_ENABLE_PSE | Cr4::CR4_ENABLE_PAE | Cr4::CR4_ENABLE_GLOBAL_PAGES | Cr4::CR4_ENABLE_SSE;
    on.set(Cr4::CR4_ENABLE_PCID, features.contains(Features::PCID));
    on.set(Cr4::CR4_ENABLE_SMEP, features.contains(Features::SMEP));
    on.set(Cr4::CR4_ENABLE_SMAP, features.contains(Features::SMAP));
    on.set(Cr4::CR4_ENABLE_UMIP, features.contains(Features::UMIP));
    // SAFETY: PAE stays on, the kernel neither runs nor touches user pages, and CR3's low bits are still zero when
    // PCID goes on.
    unsafe { cr4_write(on) };
    // SAFETY: reading CR0 has no effect.
    let known = unsafe { cr0() };
    let wanted = (known | Cr0::CR0_WRITE_PROTECT | Cr0::CR0_NUMERIC_ERROR | Cr0::CR0_TASK_SWITCHED)
        - Cr0::CR0_EMULATE_COPROCESSOR
        - Cr0::CR0_CACHE_DISABLE
        - Cr0::CR0_NOT_WRITE_THROUGH;
    // SAFETY: protection and paging stay on; the kernel has no vector code that TS could stop.
    unsafe { cr0_write(wanted) };
}

/// CR0 and CR4 as they are.
#[must_use]
pub fn control_registers() -> (u64, u64) {
    // SAFETY: reading CR0 has no effect.
    let zero = unsafe { cr0() };
    // SAFETY: reading CR4 has no effect.
    let four = unsafe { cr4() };
    (zero.bits() as u64, four.bits() as u64)
}

/// Sets bits of CR4 that VMX needs.
pub(super) fn set_cr4(bits: u64) {
    let (_, now) = control_registers();
    // SAFETY: the caller adds VMXE, which changes no mapping.
    unsafe { cr4_write(Cr4::from_bits_truncate((now | bits) as usize)) };
}

/// Makes no-execute pages possible.
pub(super) fn enable_no_execute() {
    let efer = msr::read(msr::IA32_EFER);
    // SAFETY: NXE gives a meaning to a bit that no entry has set yet.
    unsafe { msr::write(msr::IA32_EFER, efer | 1 << 11) };
}

/// The time-stamp counter.
#[inline(always)]
#[must_use]
pub fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: RDTSC reads a counter, and no memory: the compiler's own would have all that was loaded before loaded again.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags)) };
    high << 32 | low
}

/// Whether strings are moved in pieces larger than their elements. Every CPU with VMX has the register.
#[must_use]
pub fn fast_strings() -> bool {
    msr::read(msr::IA32_MISC_ENABLE) & 1 != 0
}

/// CR2: the address of the last page fault, the host's or the guest's.
#[inline(always)]
#[must_use]
pub fn cr2() -> u64 {
    let value;
    // SAFETY: reading CR2 has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets CR2, which the guest sees as its own.
pub fn set_cr2(value: u64) {
    // SAFETY: CR2 is not used by the CPU, only reported.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Stops until a reset.
pub fn halt() {
    // SAFETY: interrupts are off; the CPU stops here.
    unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
}
