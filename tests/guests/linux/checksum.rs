//! `checksum`: a Linux program that fills most of RAM with a pattern and verifies it, twice.
//!
//! Every word depends on its place and on the pass, so a page that is lost, stale, shared with another or given back
//! too early is found. It needs no C library: the guest's user space is this program and busybox.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod ram;

#[cfg(target_os = "none")]
use call::say;
#[cfg(target_os = "none")]
use guests::pattern::{self, Fill};

/// So much of RAM is filled, in percent: what is promised is 70.
#[cfg(target_os = "none")]
const PERCENT: u64 = 72;
/// So many KiB are left to everything else, whatever that makes of [`PERCENT`].
#[cfg(target_os = "none")]
const LEFT: u64 = 12 << 10;

#[cfg(target_os = "none")]
fn main() -> i32 {
    let Some((ram, available)) = ram::total_kib().zip(ram::available_kib()) else {
        say!("checksum: FAILED: /proc does not tell how much memory there is");
        return 2;
    };
    let mut line = [0; 1024];
    let fill = Fill::from_command_line(call::read_file(b"/proc/cmdline\0", &mut line).unwrap_or_default());
    let pages = (ram * PERCENT / 100).min(available.saturating_sub(LEFT)) / 4;
    say!("checksum: {pages} pages of 4 KiB, {} % of {ram} KiB of RAM", pages * 400 / ram);
    let Some(words) = call::map(pages as usize * 4096) else {
        say!("checksum: FAILED: no memory");
        return 2;
    };
    for pass in 1..=2 {
        let written = pattern::fill(words, pass, fill);
        match pattern::verify(words, pass, fill) {
            Ok(read) if read == written => say!("checksum pass {pass} ok {read:016x} pages={pages}"),
            Ok(read) => {
                say!("checksum pass {pass} FAILED: {written:016x} written, {read:016x} read");
                return 1;
            }
            Err(page) => {
                say!("checksum pass {pass} FAILED: page {page} does not hold what was written");
                return 1;
            }
        }
    }
    0
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
