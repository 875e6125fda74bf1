//! What a pager does wrong.

use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::refused::DenyReason;
use ipc_proto::words::Words;

/// A flaw.
#[derive(Clone, Copy, Debug)]
pub enum Flaw {
    /// It stops.
    Stops,
    /// It never answers.
    Hangs,
    /// It grants no page to be written.
    ReadOnly,
    /// It grants the page beside the one that is asked for.
    Beside,
    /// It denies what is memory.
    Denies,
    /// It stops at each step of the protocol in turn, one in each incarnation: [`crate::death`].
    Dies,
    /// It stops at each step of a hand-over: [`crate::passing`].
    DiesHandingOver,
    /// It stops while it goes on from what was kept, behind another one.
    DiesGoingOn,
    /// It stops while it takes pages back.
    DiesReclaiming,
}

/// Bit 13 of a grant's shape: the right to write.
const WRITE: u64 = 1 << 13;

impl Flaw {
    /// Every flaw by its name.
    pub const ALL: [(&str, Self); 9] = [
        ("stops", Self::Stops),
        ("hangs", Self::Hangs),
        ("read-only", Self::ReadOnly),
        ("beside", Self::Beside),
        ("denies", Self::Denies),
        ("dies", Self::Dies),
        ("dies-handing-over", Self::DiesHandingOver),
        ("dies-going-on", Self::DiesGoingOn),
        ("dies-reclaiming", Self::DiesReclaiming),
    ];

    /// The flaw of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, flaw)| *flaw)
    }

    /// What becomes of a good answer.
    pub fn spoil(self, [shape, gfn, rest @ ..]: Words) -> Words {
        let [pfn, mmu_seq, top_up, last] = rest;
        match self {
            Self::Stops | Self::Dies | Self::DiesHandingOver | Self::DiesGoingOn | Self::DiesReclaiming => {
                panic!("here is the flaw")
            }
            Self::Hangs => loop {
                core::hint::spin_loop();
            },
            Self::ReadOnly => [shape & !WRITE, gfn, pfn, mmu_seq, top_up, last],
            Self::Beside => [shape, gfn + 1, pfn, mmu_seq, top_up, last],
            Self::Denies => FaultReply::Deny(DenyReason::Policy).to_words(TopUp::from_word(top_up)),
        }
    }
}
