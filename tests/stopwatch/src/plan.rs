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
/// Each fault is answered with its page, until the first fault in [`TRIGGER`].
pub const PROTECTED: u64 = BULK + LENGTH;
/// At the first fault the CPU's right to write is taken from all pages of [`PROTECTED`], as for a dirty log.
pub const TRIGGER: u64 = PROTECTED + LENGTH;
/// Behind the last range of small pages.
pub const SMALL_END: u64 = TRIGGER + LENGTH;
/// Each fault is answered with the 2 MiB around it: [`LARGES`] of them.
pub const LARGE: u64 = SMALL_END;
/// Large pages there.
pub const LARGES: u64 = 8;
/// Behind the last range.
pub const END: u64 = LARGE + LARGES * LENGTH;

/// Pages around a fault.
pub const RUN: u64 = 16;
/// Answers that map nothing; the kernel takes 64 of them for a pager that is stuck.
pub const RETRIES: u32 = 32;
