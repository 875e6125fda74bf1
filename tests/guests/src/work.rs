//! What the workloads share: an area of pages that nobody has touched, and the line that says what the work took.

use crate::cpu::ticks;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Below are the image, its stack and its page tables.
const FIRST: u64 = 0x40_0000;
/// Size of a page, in bytes.
const PAGE: u64 = 4096;
/// Words of 8 bytes in a page.
const WORDS: u64 = PAGE / 8;

/// The pages that the work is done on.
pub struct Area {
    /// How many there are.
    pub pages: u64,
}

impl Area {
    /// All of them as words.
    pub fn words(&mut self) -> &mut [u64] {
        // SAFETY: RAM from there on is nobody else's, and it is borrowed as long as the area is.
        unsafe { core::slice::from_raw_parts_mut(FIRST as *mut u64, (self.pages * WORDS) as usize) }
    }

    /// A word of page `page`, a different one for each of 512 pages.
    pub fn word(&self, page: u64) -> &AtomicU64 {
        let address = FIRST + (page % self.pages) * PAGE + (page % WORDS) * 8;
        // SAFETY: the word lies in the area, which is borrowed, and is only used as an atomic meanwhile.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    }

    /// Writes to the page, or reads from it.
    pub fn touch(&self, page: u64, write: bool) -> u64 {
        let word = self.word(page);
        if write {
            word.store(page + 1, Relaxed);
        }
        word.load(Relaxed)
    }
}

/// Numbers that look like chance, and are the same in every run.
pub struct Chance(pub u64);

impl Chance {
    /// One below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Does `work` with all of RAM from 4 MiB on, says what it took, and ends the machine. The work says what it computed, or which
/// page did not hold what it should.
pub fn run(name: &str, ram: u64, work: fn(&mut Area) -> Result<u64, u64>) -> ! {
    crate::interrupt::install();
    let mut area = Area { pages: ram.saturating_sub(FIRST) / PAGE };
    let start = ticks();
    let done = work(&mut area);
    let ticks = ticks() - start;
    match done {
        Ok(sum) => {
            crate::line!("work: {name} pages={} ticks={ticks} sum={sum:016x}", area.pages);
            crate::port::end(0)
        }
        Err(page) => {
            crate::line!("work: {name} FAILED: page {page} does not hold what was written");
            crate::port::end(1)
        }
    }
}
