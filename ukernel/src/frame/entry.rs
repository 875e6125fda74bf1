//! The word of one frame.

use ipc_proto::manifest::MAX_VMS;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// No RAM, or RAM that the firmware keeps.
    Absent = 0,
    /// The kernel's image and objects.
    Kernel = 1,
    /// A boot module.
    Module = 2,
    /// A task's, to grant or to donate.
    Owned = 3,
    /// Donated to a VM, free for a table.
    Pool = 4,
    /// Donated to a VM, and a table of its EPT or window.
    Table = 5,
}

/// One entry: use in bits 3:0, owner in 15:8, a bit for its VM in 23:16, level in 31:24, mappings or link in 63:32. A VM is
/// a bit so that a run of frames is checked with one operation for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub(super) u64);

/// One mapping, in an entry.
pub(super) const MAPPING: u64 = 1 << 32;
/// The bits of an entry or of a block's word that say which VM maps it.
pub(super) const VMS: u64 = 0xff << 16;

const _: () = assert!(MAX_VMS <= 8, "each VM has a bit");

/// The bit of a VM in an entry.
pub(super) const fn vm_bit(vm: u8) -> u64 {
    1 << (16 + vm % 8)
}

impl Entry {
    pub(super) const fn new(used: Use, owner: u8, vm: u64, level: u8, word: u32) -> Self {
        Self(used as u64 | (owner as u64) << 8 | vm | (level as u64) << 24 | (word as u64) << 32)
    }

    /// What the frame is used for.
    #[must_use]
    pub const fn used(self) -> Use {
        match self.0 & 0xf {
            1 => Use::Kernel,
            2 => Use::Module,
            3 => Use::Owned,
            4 => Use::Pool,
            5 => Use::Table,
            _ => Use::Absent,
        }
    }

    /// The task that owns it, or donated it.
    #[must_use]
    pub const fn owner(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The VM in which it is mapped, or whose table it is.
    #[must_use]
    pub const fn vm(self) -> Option<u8> {
        match (self.0 & VMS) >> 16 {
            0 => None,
            bit => Some(bit.trailing_zeros() as u8),
        }
    }

    /// How many EPT entries map it, counting a large page once for each of its frames.
    #[must_use]
    pub const fn mappings(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
