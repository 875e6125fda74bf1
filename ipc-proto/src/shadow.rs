//! How the answers of a VM's shadow compare with its pager's: what [`crate::memop::MemOp::Shadow`] comes back with.

use crate::fault::{ClaimedReply, FaultKind, Origin, Qualification};
use crate::grant::{ClaimedGrant, Gpa};
use crate::words::Words;
use core::fmt;

/// So many differences of each kind are remembered.
pub const KEPT: u64 = 8;
/// Rows of six words: the counts, and the differences of each kind.
pub const ROWS: usize = 1 + 2 * KEPT as usize;

/// The row of the difference of that kind before which there were `count`; none for what is only counted.
#[must_use]
pub const fn row(kind: Kind, count: u64) -> Option<usize> {
    let first = match kind {
        Kind::Extent => 1,
        Kind::Decision => 1 + KEPT,
        Kind::Same | Kind::Missed => return None,
    };
    Some((first + count % KEPT) as usize)
}

/// How many faults were answered how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The answers were the same.
    pub same: u64,
    /// Both gave the page the same rights and memory type, within another run.
    pub extent: u64,
    /// They differed in more than that.
    pub decision: u64,
    /// The shadow was busy, or had stopped.
    pub missed: u64,
}

/// How two answers compare: places in the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are the same.
    Same = 0,
    /// Both give the page the same rights and memory type, within another run.
    Extent = 1,
    /// They differ in more than that.
    Decision = 2,
    /// There is only one.
    Missed = 3,
}

/// A fault that pager and shadow have answered differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The address.
    pub gpa: Gpa,
    /// Whose access it was.
    pub origin: Origin,
    /// What the hardware reported.
    pub kind: FaultKind,
    /// What was tried and what was allowed.
    pub qualification: Qualification,
    /// The pager's answer.
    pub pager: Said,
    /// The shadow's.
    pub shadow: Said,
}

/// What is compared of an answer: words 0 and 1 of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said(pub [u64; 2]);

impl Counts {
    /// The counts that the words spell.
    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        let [same, extent, decision, missed, _, _] = *words;
        Self { same, extent, decision, missed }
    }

    /// The rows of the last differences of that kind, the last one first.
    pub fn rows(&self, kind: Kind) -> impl Iterator<Item = usize> {
        let count = match kind {
            Kind::Extent => self.extent,
            Kind::Decision => self.decision,
            Kind::Same | Kind::Missed => 0,
        };
        (count.saturating_sub(KEPT)..count).rev().filter_map(move |before| row(kind, before))
    }
}

impl Difference {
    /// The difference that the words spell: 0 the address, 1 the cause (31:0 the qualification, 39:32 the origin, 47:40 the
    /// kind), 2 and 3 words 0 and 1 of the pager's answer, 4 and 5 the shadow's.
    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        let [gpa, cause, head, gfn, shadow_head, shadow_gfn] = *words;
        let origin = if cause >> 32 & 0xff == 0 { Origin::Vcpu } else { Origin::Window };
        let kind = match cause >> 40 & 0xff {
            0 => FaultKind::Violation,
            1 => FaultKind::Misconfiguration,
            _ => FaultKind::LogFull,
        };
        let qualification = Qualification::from_bits_retain(cause as u32);
        let (pager, shadow) = (Said([head, gfn]), Said([shadow_head, shadow_gfn]));
        Self { gpa: Gpa(gpa), origin, kind, qualification, pager, shadow }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gpa, origin, kind, qualification, pager, shadow } = self;
        let all = [(Qualification::READ, "read"), (Qualification::WRITE, "write"), (Qualification::FETCH, "fetch")];
        write!(f, "gpa {:#x}", gpa.0)?;
        for (_, name) in all.iter().filter(|(bit, _)| qualification.contains(*bit)) {
            write!(f, " {name}")?;
        }
        match kind {
            FaultKind::Violation => {}
            FaultKind::Misconfiguration => f.write_str(" misconfiguration")?,
            FaultKind::LogFull => f.write_str(" log full")?,
        }
        match origin {
            Origin::Vcpu => {}
            Origin::Window => f.write_str(" through the window")?,
        }
        write!(f, ": pager {pager}, shadow {shadow}")
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [head, second] = self.0;
        match ClaimedReply::from_words(&[head, second, 0, 0, 0, 0]) {
            Ok(ClaimedReply::Map(claim, more)) => {
                match (ClaimedGrant { mmu_seq: 0, ..claim }).typed() {
                    Ok(grant) => {
                        let rights =
                            [("r", 1), ("w", 2), ("x", 4)].map(|(name, bit)| match grant.rights.bits() & bit {
                                0 => "-",
                                _ => name,
                            });
                        let [read, write, execute] = rights;
                        write!(f, "Map gfn {:#x} {} x {:?} ", grant.gfn.0, grant.count, grant.level)?;
                        write!(f, "{read}{write}{execute} {:?}", grant.mem_type)?;
                    }
                    Err(why) => write!(f, "Map ({why})")?,
                }
                if more != 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Ok(ClaimedReply::Mmio(_)) => f.write_str("Mmio"),
            Ok(ClaimedReply::Retry) => f.write_str("Retry"),
            Ok(ClaimedReply::Pending(_)) => f.write_str("Pending"),
            Ok(ClaimedReply::Deny(reason)) => write!(f, "Deny ({reason})"),
            Err(_) => write!(f, "no answer of this version ({head:#x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultReply, TopUp};
    use crate::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
    use crate::refused::DenyReason;
    use std::string::ToString;

    #[test]
    fn a_difference_is_told_in_words_that_people_read() {
        let (gfn, pfn) = (Gfn(0x1000), Pfn(7));
        let (rights, mem_type) = (Rights::READ | Rights::EXECUTE, MemType::WriteBack);
        let grant =
            Grant { gfn, pfn, count: 16, level: Level::Page, rights, mem_type, mmu_seq: 3, seen_by: SeenBy::Everyone };
        let words = |reply: FaultReply| reply.to_words(TopUp::default());
        let [head, first, ..] = words(FaultReply::Map(grant, 2));
        let [other, second, ..] = words(FaultReply::Deny(DenyReason::Policy));
        let told = Difference::from_words(&[0x100_0010, 2 | 1 << 32, head, first, other, second]);
        assert_eq!(
            told.to_string(),
            "gpa 0x1000010 write through the window: pager Map gfn 0x1000 16 x Page r-x WriteBack and 2 more, \
             shadow Deny (the policy forbids it)"
        );
        let told = Difference::from_words(&[0, 1 << 40, 3 << 56, 0, 9 << 56, 0]);
        assert_eq!(
            told.to_string(),
            "gpa 0x0 misconfiguration: pager Retry, shadow no answer of this version (0x900000000000000)"
        );
    }

    #[test]
    fn counts_are_in_the_order_of_the_specification() {
        let counts = Counts::from_words(&[1, 2, 13, 4, 0, 0]);
        assert_eq!(counts, Counts { same: 1, extent: 2, decision: 13, missed: 4 });
        assert!(counts.rows(Kind::Extent).eq([2, 1]));
        assert!(counts.rows(Kind::Decision).eq([13, 12, 11, 10, 9, 16, 15, 14]), "the last of thirteen first");
        assert_eq!(counts.rows(Kind::Same).count(), 0);
    }
}
