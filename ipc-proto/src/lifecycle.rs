//! Lifecycle: how a VM's server and its pager greet, and what they tell of themselves. Postcard.

use crate::manifest::Name;
use crate::version::Version;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// What a pager can do beyond what every pager must.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Features: u32 {
        /// Slots may be flagged `LOG_DIRTY_PAGES`.
        const DIRTY_LOG = 1;
        /// Grants may be larger than 4 KiB.
        const LARGE_PAGES = 2;
        /// It makes way for another pager, and goes on behind one.
        const HAND_OVER = 4;
        /// What it keeps is all that is to be known: whoever can read it goes on from there.
        const KEEPS = 8;
    }
}

/// The first message of a VM's server to its pager, and the pager's answer in [`crate::slot::SlotReply::Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the sender speaks.
    pub version: Version,
    /// What it can do.
    pub features: Features,
}

/// What a VM's server asks of the supervisor, on the handle [`crate::layout::handle::SUPERVISOR`], about its VM's pager.
/// Each is answered by one [`Supervised`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// It dies, as by its own fault, and is started again as the manifest has it.
    Kill,
    /// It is stopped and started again with the image that it has.
    Restart,
    /// It is stopped and started again with that image, on trial. What it keeps, or the ledger if it has handed over, is all that
    /// the image has to go on from.
    Swap(Name),
    /// The image on trial has taken over: from now on it is started again when it stops, as the manifest has it.
    Stay,
}

/// What has come of an [`Order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Supervised {
    /// It was done.
    Done,
    /// The bytes are no order, or the VM has no pager.
    Malformed,
    /// The pager's entry in the manifest has no such image.
    UnknownImage,
    /// The kernel does not start it.
    NotStarted,
}
