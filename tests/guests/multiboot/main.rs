//! `multiboot-check`: a kernel as the Multiboot 1 specification (0.6.96) has it, that checks what its loader left.
//!
//! It begins in 32-bit protected mode without paging, makes page tables of its own and goes on in 64-bit mode.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod information;
#[cfg(target_os = "none")]
mod module;

#[cfg(target_os = "none")]
use guests::report::{Report, holds};

/// Zero in memory and not in the file: the loader has to clear it.
#[cfg(target_os = "none")]
static ZERO: [core::sync::atomic::AtomicU64; 8192] = [const { core::sync::atomic::AtomicU64::new(0) }; 8192];

#[cfg(target_os = "none")]
fn main(start: &entry::Start) -> ! {
    guests::interrupt::install();
    let mut report = Report::new("multiboot");
    report.check("the loader says that it is one", holds(start.magic == 0x2bad_b002, "another magic number in EAX"));
    report.check("protected mode, paging off, interrupts shut out", start.mode());
    let zero = ZERO.iter().all(|word| word.load(core::sync::atomic::Ordering::Relaxed) == 0);
    report.check("memory beyond the file is zero", holds(zero, "a word is not"));
    let information = information::Information::at(start.information);
    report.check("memory sizes", information.sizes());
    report.check("memory map", information.map());
    report.check("command line", information.command_line(b"one two=3"));
    report.check("a module, as it was packed", information.module());
    devices::check(&mut report);
    report.finish()
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
