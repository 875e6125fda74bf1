//! The last answers of a VM's faults, to be read when something is asked about an address. First touches of pages, of
//! which there are a hundred thousand, are kept apart: they would push out everything else.

use crate::resolve::PfRet;
use ipc_proto::fault::{Fault, Origin, Qualification};
use ipc_proto::grant::Gpa;
use ipc_proto::slot::SlotId;

/// How many answers are remembered, and how many first touches.
pub const LENGTH: usize = 16;

/// What the kernel said of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The address.
    pub gpa: Gpa,
    /// The guest's instruction; 0 through a window.
    pub rip: u64,
    /// The VM's `mmu_seq` when the fault was taken.
    pub mmu_seq: u64,
    /// What was tried and what was allowed.
    pub qualification: Qualification,
    /// The vCPU.
    pub vcpu: u16,
    /// Whose access it was.
    pub origin: Origin,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// To what.
    pub to: Seen,
    /// The slot, if one holds the address.
    pub slot: Option<SlotId>,
    /// What the pipeline made of it; `None` when it was denied.
    pub result: Option<PfRet>,
}

/// The first touch of a page: no more than can be stored in a few instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The address.
    pub gpa: Gpa,
    /// The guest's instruction; 0 through a window.
    pub rip: u64,
    /// The VM's `mmu_seq` when the fault was taken.
    pub mmu_seq: u64,
    /// What was tried.
    pub qualification: Qualification,
}

/// The last answers, the oldest overwritten first.
#[derive(Debug)]
pub struct History {
    answers: Last<Answered>,
    touches: Last<Touched>,
}

/// The last of many.
#[derive(Debug)]
struct Last<T> {
    items: [T; LENGTH],
    count: u64,
}

impl Seen {
    const NOTHING: Self =
        Self { gpa: Gpa(0), rip: 0, mmu_seq: 0, qualification: Qualification::empty(), vcpu: 0, origin: Origin::Vcpu };

    const fn of(fault: &Fault) -> Self {
        let Fault { gpa, rip, mmu_seq, qualification, vcpu, origin, .. } = *fault;
        Self { gpa, rip, mmu_seq, qualification, vcpu, origin }
    }
}

impl<T: Copy> Last<T> {
    #[inline(always)]
    const fn push(&mut self, item: T) {
        self.items[self.count as usize % LENGTH] = item;
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let first = self.count.saturating_sub(LENGTH as u64);
        (first..self.count).map(|number| (number, &self.items[number as usize % LENGTH]))
    }
}

impl History {
    /// Nothing was answered yet.
    pub const EMPTY: Self = Self {
        answers: Last { items: [Answered { to: Seen::NOTHING, slot: None, result: None }; LENGTH], count: 0 },
        touches: Last {
            items: [Touched { gpa: Gpa(0), rip: 0, mmu_seq: 0, qualification: Qualification::empty() }; LENGTH],
            count: 0,
        },
    };

    /// Remembers an answer.
    pub const fn note(&mut self, fault: &Fault, slot: Option<SlotId>, result: Option<PfRet>) {
        self.answers.push(Answered { to: Seen::of(fault), slot, result });
    }

    /// Remembers the first touch of a page, which was answered with the page.
    #[inline(always)]
    pub const fn touched(&mut self, fault: &Fault) {
        let Fault { gpa, rip, mmu_seq, qualification, .. } = *fault;
        self.touches.push(Touched { gpa, rip, mmu_seq, qualification });
    }

    /// The answers with their numbers, the oldest first.
    pub fn answers(&self) -> impl Iterator<Item = (u64, &Answered)> {
        self.answers.iter()
    }

    /// The first touches with their numbers, the oldest first.
    pub fn touches(&self) -> impl Iterator<Item = (u64, &Touched)> {
        self.touches.iter()
    }
}

#[cfg(test)]
mod tests;
