//! One page into and out of tables of four levels: the kernel's walk beside x86_64's and page_table_multiarch's.
//!
//! Every table is there already, in one arena whose offset is the physical address: the first page of each table was
//! mapped and unmapped before.

pub mod multiarch;
pub mod ours;
pub mod x86;

use std::cell::Cell;

/// Frames of the arena: three tables above and as many below as there are pages to map.
const FRAMES: usize = 64;
/// Tables of the last level.
const TABLES: u64 = 16;
/// Where what is mapped begins, as a page number: any place with tables of its own.
const FIRST: u64 = 1 << 18;

/// The page of turn `n`: one after the other.
const fn page(n: usize) -> u64 {
    FIRST + n as u64
}

/// The first page of each table.
fn first_pages() -> impl Iterator<Item = u64> {
    (0..TABLES).map(|table| FIRST + table * 512)
}

/// One frame, aligned as tables must be.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Frame([u64; 512]);

/// Frames that are handed out one after the other.
struct Arena {
    frames: &'static mut [Frame],
    next: Cell<usize>,
}

impl Arena {
    fn new() -> Self {
        Self { frames: vec![Frame([0; 512]); FRAMES].leak(), next: Cell::new(0) }
    }

    /// Where frame 0 is.
    fn base(&mut self) -> u64 {
        self.frames.as_mut_ptr() as u64
    }

    /// The physical address of the next frame.
    fn take(&self) -> Option<u64> {
        let next = self.next.get();
        self.next.set(next + 1);
        (next < FRAMES).then_some(next as u64 * 4096)
    }
}
