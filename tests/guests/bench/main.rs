//! `bench`: times its own exits, first touches, ports and device accesses, with the time-stamp counter.
//!
//! Each figure is one line: what was done, and the least, the median and the most ticks of many samples, less what the
//! two RDTSC themselves take. Then each thing is done once more between two `xchg bx, bx`: where Bochs's debugger is
//! told so, it stops there, and writes down every instruction in between. Elsewhere that instruction does nothing.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod act;
#[cfg(target_os = "none")]
mod samples;

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::interrupt::install();
    let clock = samples::Clock::calibrate();
    act::exits(&clock, ram);
    act::touches(&clock);
    act::traces(ram);
    guests::line!("bench: done");
    guests::port::end(0)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
