//! Marks around what Bochs's debugger shall write down.
#![expect(unsafe_code, reason = "an instruction that only the debugger sees")]

/// Where the debugger was told so it stops here; elsewhere nothing happens.
#[inline(always)]
pub fn mark() {
    // SAFETY: a register is exchanged with itself.
    unsafe { core::arch::asm!("xchg bx, bx", options(nomem, nostack, preserves_flags)) }
}
