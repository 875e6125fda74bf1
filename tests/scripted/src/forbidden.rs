//! What the kernel must not allow, and stops a task for.
#![expect(unsafe_code, reason = "tries what it may not")]

/// Executes what is at `address`.
pub fn execute(address: u64) {
    // SAFETY: not at all; the kernel must stop this task here.
    unsafe { core::arch::asm!("call {}", in(reg) address) };
}
