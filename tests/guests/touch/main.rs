//! `touch`: touches everything a virtual machine has, and checks every result itself.
//!
//! Memory by every kind of first access, ports, CPUID, MSRs, addresses without memory, read-only memory, the timer.
//! Each check prints one line; the last line counts them, and their failures are the exit status.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cpuid;
#[cfg(target_os = "none")]
mod fresh;
#[cfg(target_os = "none")]
mod hole;
#[cfg(target_os = "none")]
mod pages;
#[cfg(target_os = "none")]
mod ports;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod timer;

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::interrupt::install();
    guests::cpu::enable_sse();
    guests::line!("touch: {} KiB of RAM", ram >> 10);
    let mut report = guests::report::Report::new("touch");
    let mut fresh = fresh::Fresh::new(ram);

    pages::check(&mut report, &mut fresh);
    registers::check(&mut report, &mut fresh);
    hole::check(&mut report, ram);
    cpuid::check(&mut report);
    ports::check(&mut report, &mut fresh);
    timer::check(&mut report, &mut fresh);

    guests::line!("touch: {} distinct pages touched", fresh.touched());
    report.finish()
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
