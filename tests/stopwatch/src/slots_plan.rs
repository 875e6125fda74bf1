//! Where the pager of many slots puts them. `tests/guests/bench/growth.rs` knows it too.

/// The first page's address: above the guest's RAM.
pub const FIRST: u64 = 64 << 20;
/// So many pages in all of them.
pub const PAGES: u64 = 4096;
/// The first slot's number; those below are RAM.
pub const NUMBER: u16 = 8;
