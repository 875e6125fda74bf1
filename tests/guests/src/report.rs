//! One line for each check, and how many failed.

use core::fmt::Display;

/// What has been checked so far.
pub struct Report {
    guest: &'static str,
    passed: u32,
    failed: u32,
}

impl Report {
    /// Nothing has been checked.
    #[must_use]
    pub const fn new(guest: &'static str) -> Self {
        Self { guest, passed: 0, failed: 0 }
    }

    /// Prints how a check came out, and counts it.
    pub fn check<E: Display>(&mut self, what: &str, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                crate::line!("{}: {what} ok", self.guest);
            }
            Err(why) => {
                self.failed += 1;
                crate::line!("{}: {what} FAILED: {why}", self.guest);
            }
        }
    }

    /// Prints the last line and ends the machine.
    pub fn finish(self) -> ! {
        crate::line!("{}: {} checks passed, {} failed", self.guest, self.passed, self.failed);
        crate::port::end(self.failed.min(0xfd) as u8)
    }
}

/// Two numbers that should have been equal.
pub struct Unequal {
    /// What was found.
    pub found: u64,
    /// What should have been there.
    pub wanted: u64,
    /// Where.
    pub at: u64,
}

impl Display for Unequal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x} where {:#x} should be, at {:#x}", self.found, self.wanted, self.at)
    }
}

/// Whether what was found is what should be there.
///
/// # Errors
/// Both, when not.
pub fn equal(at: u64, found: u64, wanted: u64) -> Result<(), Unequal> {
    if found == wanted { Ok(()) } else { Err(Unequal { found, wanted, at }) }
}

/// Whether something holds.
///
/// # Errors
/// `why`, when not.
pub fn holds(what: bool, why: &'static str) -> Result<(), &'static str> {
    if what { Ok(()) } else { Err(why) }
}
