//! The last answers of a VM's faults, to be read when something is asked about an address. The first touch of a page,
//! of which there are a hundred thousand and which the page's frame tells of, is not among them.

use crate::resolve::PfRet;
use ipc_proto::fault::{Fault, Origin, Qualification};
use ipc_proto::grant::Gpa;
use ipc_proto::slot::SlotId;

/// How many answers are remembered.
pub const LENGTH: usize = 16;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The address.
    pub gpa: Gpa,
    /// The VM's `mmu_seq` when the fault was taken.
    pub mmu_seq: u64,
    /// What was tried and what was allowed.
    pub qualification: Qualification,
    /// The vCPU.
    pub vcpu: u16,
    /// Whose access it was.
    pub origin: Origin,
    /// The slot, if one holds the address.
    pub slot: Option<SlotId>,
    /// What the pipeline made of it; `None` when it was denied.
    pub result: Option<PfRet>,
}

/// The last answers, the oldest overwritten first.
#[derive(Debug)]
pub struct History {
    answers: [Answered; LENGTH],
    count: u64,
}

impl Answered {
    const NONE: Self = Self {
        gpa: Gpa(0),
        mmu_seq: 0,
        qualification: Qualification::empty(),
        vcpu: 0,
        origin: Origin::Vcpu,
        slot: None,
        result: None,
    };
}

impl History {
    /// Nothing was answered yet.
    pub const EMPTY: Self = Self { answers: [Answered::NONE; LENGTH], count: 0 };

    /// Remembers an answer.
    #[inline]
    pub const fn note(&mut self, fault: &Fault, slot: Option<SlotId>, result: Option<PfRet>) {
        let Fault { gpa, mmu_seq, qualification, vcpu, origin, .. } = *fault;
        self.answers[self.count as usize % LENGTH] =
            Answered { gpa, mmu_seq, qualification, vcpu, origin, slot, result };
        self.count += 1;
    }

    /// The answers with their numbers, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Answered)> {
        let first = self.count.saturating_sub(LENGTH as u64);
        (first..self.count).map(|number| (number, &self.answers[number as usize % LENGTH]))
    }
}

#[cfg(test)]
mod tests;
