//! A guest that ends in a triple fault: it has no interrupt table and runs into an invalid opcode.
//!
//! R12 holds a number by which a reader knows that the registers shown are this guest's.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(_ram: u64) -> ! {
    guests::line!("triple-fault: here it comes");
    guests::interrupt::load(0, 0);
    // SAFETY: ends the machine, which is what this guest is for.
    unsafe {
        core::arch::asm!("mov r12, {mark}", "ud2", mark = const 0x0bad_c0de_u64, options(noreturn));
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
