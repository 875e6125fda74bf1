//! What an I/O instruction wants of a device.

use crate::words::bits;
use serde::{Deserialize, Serialize};

/// What an I/O instruction wants: an exit qualification as in SDM vol. 3C, table 28-5, which is word 1 as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PortParts", into = "PortParts")]
pub struct PortAccess(u64);

/// Which way an I/O instruction moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// To the device.
    Out,
    /// From the device.
    In,
}

/// A [`PortAccess`] part by part, as postcard has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortParts {
    /// The port.
    pub port: u16,
    /// Bytes at a time: 1, 2 or 4.
    pub size: u8,
    /// Which way.
    pub direction: Direction,
    /// INS or OUTS: memory is the other operand.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
}

impl PortAccess {
    /// The bits that it has: size, direction, string, REP, port.
    const KNOWN: u64 = 0xffff_003f;

    /// From an exit qualification.
    #[inline(always)]
    #[must_use]
    pub const fn from_qualification(word: u64) -> Self {
        Self(word & Self::KNOWN)
    }

    /// As an exit qualification.
    #[inline(always)]
    #[must_use]
    pub const fn to_qualification(self) -> u64 {
        self.0
    }

    /// The port.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Bytes at a time: 1, 2 or 4.
    #[inline(always)]
    #[must_use]
    pub const fn size(self) -> u8 {
        bits(self.0, 0, 3) as u8 + 1
    }

    /// Which way.
    #[inline(always)]
    #[must_use]
    pub const fn direction(self) -> Direction {
        if bits(self.0, 3, 1) == 1 { Direction::In } else { Direction::Out }
    }

    /// INS or OUTS: memory is the other operand.
    #[inline(always)]
    #[must_use]
    pub const fn string(self) -> bool {
        bits(self.0, 4, 1) == 1
    }

    /// With a REP prefix.
    #[inline(always)]
    #[must_use]
    pub const fn rep(self) -> bool {
        bits(self.0, 5, 1) == 1
    }
}

impl From<PortParts> for PortAccess {
    fn from(parts: PortParts) -> Self {
        let direction = match parts.direction {
            Direction::In => 1 << 3,
            Direction::Out => 0,
        };
        Self(
            (u64::from(parts.size).wrapping_sub(1) & 7)
                | direction
                | u64::from(parts.string) << 4
                | u64::from(parts.rep) << 5
                | u64::from(parts.port) << 16,
        )
    }
}

impl From<PortAccess> for PortParts {
    fn from(access: PortAccess) -> Self {
        Self {
            port: access.port(),
            size: access.size(),
            direction: access.direction(),
            string: access.string(),
            rep: access.rep(),
        }
    }
}
