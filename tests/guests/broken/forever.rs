//! A guest that never ends: it says so and goes round.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::line!("forever: going round");
    loop {
        for address in (0x40_0000..ram).step_by(4096) {
            guests::memory::write(address, address);
        }
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
