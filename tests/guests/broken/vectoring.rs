//! A guest whose interrupt table lies where nothing is: its first exception cannot be delivered.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

/// The old VGA window, where this machine has nothing.
#[cfg(target_os = "none")]
const TABLE: u64 = 0xb_8000;

#[cfg(target_os = "none")]
fn main(_ram: u64) -> ! {
    // What is answered now may be remembered; the exception's access is another matter.
    let found = guests::memory::read::<u64>(TABLE);
    guests::line!("vectoring: {found:#x} where the table is, and an exception");
    guests::interrupt::load(TABLE, 0xfff);
    // SAFETY: ends the machine, which is what this guest is for.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
