//! Pages that lie in a row, for the control console.

use super::control::say;
use super::line::Line;
use core::ops::Range;

/// Rows that are told one by one.
const MOST: u32 = 64;

/// Pages in a row, told one row a line.
pub struct Rows {
    /// So many lines are said still.
    lines: u32,
    last: Range<u64>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { lines: MOST, last: 0..0 }
    }
}

impl Rows {
    /// The row that the last page is in, so far.
    pub const fn last(&self) -> Range<u64> {
        self.last.start..self.last.end
    }

    /// The next page.
    pub fn add(&mut self, page: u64, base: u64, line: &mut Line) {
        if page == self.last.end {
            self.last.end += 1;
        } else {
            self.say(base, line);
            self.last = page..page + 1;
        }
    }

    /// Tells the last row.
    pub fn say(&mut self, base: u64, line: &mut Line) {
        if !self.last.is_empty() && self.lines > 0 {
            self.lines -= 1;
            let (gpa, pages) = ((base + self.last.start) << 12, self.last.end - self.last.start);
            say(line, format_args!(" row gpa {gpa:#x} pages {pages}"));
        }
    }
}
