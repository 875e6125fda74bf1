//! How a request of the control console ends, and why it is not done.

use super::lives::NotSupervised;
use super::pager::PagerError;
use core::fmt;
use ipc_proto::slot::SlotId;

/// How a request ends.
pub type Verdict = Result<(), Wrong>;

/// Why a request is not done.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// The pager does not do it, or its answer makes no sense.
    Pager(PagerError),
    /// The supervisor does not do it.
    Supervised(NotSupervised),
    /// No figure is named so.
    NoFigure,
    /// No slot of this server's has that number.
    NoSlot(SlotId),
    /// No slot holds that address, or none that may be used so.
    NoMemory(u64),
    /// Pages of the copy that are not as the original.
    Differs(u64),
    /// The copy would lie in the original.
    OntoItself(SlotId),
    /// The copy went on and on.
    Diverges(u32),
    /// No more pages can be tracked.
    TooManyTracked,
    /// Too much was typed at once.
    KeysFull,
    /// More slots than can be handed over.
    TooManySlots,
    /// The VM has no shadow.
    NoShadow,
}

impl From<PagerError> for Wrong {
    fn from(error: PagerError) -> Self {
        Self::Pager(error)
    }
}

impl From<NotSupervised> for Wrong {
    fn from(why: NotSupervised) -> Self {
        Self::Supervised(why)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pager(error) => error.fmt(f),
            Self::Supervised(why) => why.fmt(f),
            Self::NoFigure => f.write_str("no figure has that in its name: `stats` alone lists them all"),
            Self::NoSlot(id) => write!(f, "there is no slot {}", id.0),
            Self::NoMemory(gpa) => write!(f, "no slot that allows it holds {gpa:#x}"),
            Self::Differs(pages) => write!(f, "{pages} pages of the copy differ from the original"),
            Self::OntoItself(id) => write!(f, "slot {} is copied to where another slot lies, not onto itself", id.0),
            Self::Diverges(rounds) => write!(f, "after {rounds} rounds the guest still writes faster than is copied"),
            Self::TooManyTracked => f.write_str("no more pages can be tracked at once"),
            Self::NoShadow => f.write_str("this VM has no shadow: `cargo xtask run ... --set shadow=c` gives it one"),
            Self::TooManySlots => f.write_str("the pager has more slots than can be handed over"),
            Self::KeysFull => f.write_str("more was typed than the guest has taken"),
        }
    }
}
