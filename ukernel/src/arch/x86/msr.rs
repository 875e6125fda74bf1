//! RDMSR and WRMSR.
#![expect(unsafe_code, reason = "MSR instructions")]

pub use x86::msr::*;

/// Reads an MSR that the caller knows to exist.
pub fn read(msr: u32) -> u64 {
    // SAFETY: reading an MSR changes no memory; one that does not exist faults, which stops the kernel with its name.
    unsafe { rdmsr(msr) }
}

/// Writes an MSR.
///
/// # Safety
/// The value keeps what Rust code relies on: the kernel's mappings, entry points and long mode.
pub unsafe fn write(msr: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { wrmsr(msr, value) }
}
