//! Pages that nobody has touched yet.

use guests::memory::{Address, PAGE};

/// Below are the image, its stack and its page tables.
const FIRST: Address = 0x40_0000;

/// Hands out untouched pages, each once, from 4 MiB on.
pub struct Fresh {
    next: Address,
    end: Address,
}

impl Fresh {
    /// All of RAM from 4 MiB on.
    pub const fn new(ram: u64) -> Self {
        Self { next: FIRST, end: ram }
    }

    /// How many pages are left.
    pub const fn left(&self) -> u64 {
        self.end.saturating_sub(self.next) / PAGE
    }

    /// How many pages were handed out.
    pub const fn touched(&self) -> u64 {
        (self.next - FIRST) / PAGE
    }

    /// The next page.
    pub fn page(&mut self) -> Address {
        self.run(1)
    }

    /// The next `count` pages, which lie together.
    pub fn run(&mut self, count: u64) -> Address {
        assert!(self.left() >= count, "too little RAM");
        let first = self.next;
        self.next += count * PAGE;
        first
    }
}
