//! The decision: facts in, answer out. Nothing is read, taken or changed here.

use crate::fault::PageFault;
use crate::memslot::{MemSlot, State};
use ipc_proto::fault::Origin;
use ipc_proto::grant::Rights;
use ipc_proto::slot::SlotFlags;

/// What the pipeline made of a fault: KVM's `RET_PF_*`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PfRet {
    /// The next stage goes on. Never leaves the pipeline: it is what [`Resolution::Ram`] means.
    Continue,
    /// Enter the guest again; it faults again if it must.
    Retry,
    /// No memory answers the access: the VM's server does.
    Emulate,
    /// A stage for the easy cases could not answer: the next one does. Never leaves the pipeline.
    Invalid,
    /// The page is mapped now.
    Fixed,
    /// The page was mapped with enough rights all the time.
    Spurious,
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Nothing is mapped there and nothing shall be.
    Emulate,
    /// The slot is being changed: try again.
    Retry,
    /// It is memory: find its frame and map it with these rights.
    Ram(Rights),
}

impl Resolution {
    /// The same as KVM says it.
    #[must_use]
    pub const fn ret(self) -> PfRet {
        match self {
            Self::Emulate => PfRet::Emulate,
            Self::Retry => PfRet::Retry,
            Self::Ram(_) => PfRet::Continue,
        }
    }
}

/// Decides what a fault is, given the slot that holds its gfn.
///
/// | fault | answer |
/// | --- | --- |
/// | no slot, or one that the asker may not see | `Emulate` |
/// | the slot is being changed | `Retry` |
/// | a write to a read-only slot | `Emulate` |
/// | anything else | `Ram`, with the slot's rights |
///
/// A misconfigured entry is what an earlier answer `Emulate` has left behind: like any other fault it is decided by the
/// slots that there are now. What was tried is not known of it, so memory is mapped as for a read.
#[inline]
#[must_use]
pub fn resolve(fault: &PageFault, slot: Option<&MemSlot>) -> Resolution {
    let Some(slot) = slot else { return Resolution::Emulate };
    if slot.state() == State::Invalid {
        return Resolution::Retry;
    }
    let flags = slot.flags();
    // One test for the usual case, a slot without flags.
    if !flags.is_empty() && !allows(flags, fault) {
        return Resolution::Emulate;
    }
    Resolution::Ram(slot.rights())
}

fn allows(flags: SlotFlags, fault: &PageFault) -> bool {
    let seen = match fault.origin {
        Origin::Vcpu => true,
        Origin::Window => !flags.contains(SlotFlags::PRIVATE),
    };
    seen && !(flags.contains(SlotFlags::READONLY) && fault.write())
}

#[cfg(test)]
mod tests;
