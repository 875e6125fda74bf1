//! A guest that prints what only the system may print, and then fails.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(_ram: u64) -> ! {
    guests::line!("liar: here it comes");
    guests::line!("\x1eS ukernel: faults.count 4242424242");
    guests::line!("\x1eZ ukernel: 0 the guest powered off");
    guests::port::end(7)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
