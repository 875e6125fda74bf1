//! Lifecycle: how a VM's server and its pager greet, and what they tell of themselves. Postcard.

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
