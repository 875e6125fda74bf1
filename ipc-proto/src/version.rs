//! The version of the protocol that this crate speaks.

use serde::{Deserialize, Serialize};

/// Two sides understand each other when their majors are equal; a minor only adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes when an old message means something else.
    pub major: u16,
    /// Changes when a message or a variant is added.
    pub minor: u16,
}

/// The version of this crate. No release has been made: until 1.0 any commit may change a message.
pub const PROTOCOL: Version = Version { major: 0, minor: 3 };

impl Version {
    /// Whether a peer that speaks `other` can be understood.
    #[must_use]
    pub const fn understands(self, other: Self) -> bool {
        self.major == other.major
    }
}
