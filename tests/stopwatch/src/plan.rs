//! Which guest-physical ranges the stopwatch answers in ways of its own. `tests/guests/bench` knows it too.

/// Each range is one table's worth: 512 pages of 4 KiB.
pub const LENGTH: u64 = 2 << 20;
/// Each fault is answered with its page.
pub const SINGLE: u64 = 16 << 20;
/// Each fault is answered with the [`RUN`] pages around it.
pub const AROUND: u64 = SINGLE + LENGTH;
/// Each fault is answered with `Retry` [`RETRIES`] times, then with its page.
pub const RETRIED: u64 = AROUND + LENGTH;
/// At the first fault all pages are mapped and unmapped, and each call is timed by the pager.
pub const BULK: u64 = RETRIED + LENGTH;
/// Behind the last range.
pub const END: u64 = BULK + LENGTH;

/// Pages around a fault.
pub const RUN: u64 = 16;
/// Answers that map nothing; the kernel takes 64 of them for a pager that is stuck.
pub const RETRIES: u32 = 32;
