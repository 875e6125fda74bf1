//! Mapping grants: what a pager lets a guest see.

use crate::refused::Refused;
use crate::words::bits;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// A guest frame number: a guest-physical address divided by 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gfn(pub u64);

/// A host page frame number: a host-physical address divided by 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pfn(pub u64);

/// A guest-physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gpa(pub u64);

impl Gpa {
    /// The frame that holds the address.
    #[must_use]
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> 12)
    }
}

impl Gfn {
    /// The address of the frame's first byte.
    #[must_use]
    pub const fn gpa(self) -> Gpa {
        Gpa(self.0 << 12)
    }
}

/// The size of the pages of a run; the number is the level of the table that holds the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Level {
    /// 4 KiB.
    Page = 1,
    /// 2 MiB.
    Large = 2,
    /// 1 GiB.
    Huge = 3,
}

impl Level {
    /// The level of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Page),
            2 => Some(Self::Large),
            3 => Some(Self::Huge),
            _ => None,
        }
    }

    /// How many 4 KiB frames one page of this size has: 1, 512 or 262144.
    #[must_use]
    pub const fn frames(self) -> u64 {
        1 << (9 * (self as u64 - 1))
    }
}

bitflags! {
    /// What a guest may do with a page, as in bits 2:0 of an EPT entry (SDM vol. 3C, table 29-7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct Rights: u8 {
        /// Data reads.
        const READ = 1;
        /// Data writes; never without `READ`.
        const WRITE = 2;
        /// Instruction fetches; without `READ` only where the CPU has execute-only pages.
        const EXECUTE = 4;
    }
}

/// Who may see a page beside the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SeenBy {
    /// The VM's server too, through its window.
    Everyone = 0,
    /// Nobody: no window shows it.
    Guest = 1,
}

impl SeenBy {
    /// From a bit.
    #[must_use]
    pub const fn from_bit(bit: u64) -> Self {
        if bit & 1 == 0 { Self::Everyone } else { Self::Guest }
    }
}

/// The memory type of an EPT leaf (SDM vol. 3C, table 29-7, bits 5:3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum MemType {
    /// Uncacheable: devices.
    Uncacheable = 0,
    /// Write-combining.
    WriteCombining = 1,
    /// Write-through.
    WriteThrough = 4,
    /// Write-protected.
    WriteProtected = 5,
    /// Write-back: RAM.
    WriteBack = 6,
}

impl MemType {
    /// The type of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Uncacheable),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            _ => None,
        }
    }
}

/// A run of pages, contiguous in the guest and in the host, that the guest may see.
///
/// Who asks: the VM's pager, in the reply to a fault or by [`crate::memop`]. When it is accepted, each of its pages
/// is mapped, or was already mapped the same way. A refused grant changes nothing. Refusals: see [`Refused`].
/// The run lies in one table: `gfn / level.frames()` and the last page's differ only in the low nine bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The first guest frame; a multiple of the level's frames.
    pub gfn: Gfn,
    /// The first host frame; a multiple of the level's frames.
    pub pfn: Pfn,
    /// How many pages of that level: 1 to 512.
    pub count: u16,
    /// The pages' size.
    pub level: Level,
    /// What the guest may do.
    pub rights: Rights,
    /// How the CPU caches them.
    pub mem_type: MemType,
    /// The `mmu_seq` of the VM when the pager began to work it out: of the fault it answers, or read.
    pub mmu_seq: u64,
    /// Whether a window shows it.
    pub seen_by: SeenBy,
}

/// The words of a grant before anything of it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedGrant {
    /// `count` in bits 9:0, level in 11:10, rights in 14:12, memory type in 17:15, [`SeenBy`] in 18; the rest is zero.
    pub shape: u64,
    /// The first guest frame.
    pub gfn: u64,
    /// The first host frame.
    pub pfn: u64,
    /// The `mmu_seq` it was worked out under.
    pub mmu_seq: u64,
}

impl Grant {
    /// The grant as words.
    #[must_use]
    pub const fn claim(&self) -> ClaimedGrant {
        let shape = self.count as u64
            | (self.level as u64) << 10
            | (self.rights.bits() as u64) << 12
            | (self.mem_type as u64) << 15
            | (self.seen_by as u64) << 18;
        ClaimedGrant { shape, gfn: self.gfn.0, pfn: self.pfn.0, mmu_seq: self.mmu_seq }
    }
}

impl ClaimedGrant {
    /// The size of one encoded grant in the message page, in bytes: four little-endian words.
    pub const BYTES: usize = 32;

    /// Gives the words their types. What a grant means is not checked here, only that it is one.
    ///
    /// # Errors
    /// [`Refused::BadCount`], [`Refused::BadLevel`], [`Refused::BadMemType`], [`Refused::Reserved`].
    pub const fn typed(self) -> Result<Grant, Refused> {
        let count = bits(self.shape, 0, 10);
        if count == 0 || count > 512 {
            return Err(Refused::BadCount);
        }
        let Some(level) = Level::from_number(bits(self.shape, 10, 2)) else { return Err(Refused::BadLevel) };
        let rights = Rights::from_bits_truncate(bits(self.shape, 12, 3) as u8);
        let Some(mem_type) = MemType::from_number(bits(self.shape, 15, 3)) else {
            return Err(Refused::BadMemType);
        };
        let seen_by = SeenBy::from_bit(bits(self.shape, 18, 1));
        if self.shape >> 19 != 0 {
            return Err(Refused::Reserved);
        }
        let Self { gfn, pfn, mmu_seq, .. } = self;
        Ok(Grant { gfn: Gfn(gfn), pfn: Pfn(pfn), count: count as u16, level, rights, mem_type, mmu_seq, seen_by })
    }
}
