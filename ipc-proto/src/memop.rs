//! MemOp: what a pager asks of the kernel, unasked. Register words after the handle: word 1 is the operation.
//!
//! Who asks: the holder of a VM handle; all but `Read`, `Info` and `Walk` need the pager's right. The status in rax is 0 or
//! the number of a [`crate::refused::Refused`]; a refused operation has changed nothing unless it says otherwise.

/// The operations. `gfn`, `pfn` and counts are in 4 KiB frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum MemOp {
    /// Map a run: words 2 to 5 are a [`crate::grant::ClaimedGrant`].
    Map = 1,
    /// Unmap word 3 frames from gfn word 2. What was mapped no longer is when the call returns, in the guest and in
    /// every window; `mmu_seq` advances; tables that this empties are the VM's pool's again. Word 0 comes back as the
    /// number of frames that were mapped.
    Unmap = 2,
    /// Take away the rights not in word 4 from word 3 frames from gfn word 2; `mmu_seq` advances. Rights are never
    /// added. Word 0 comes back as the number of leaves that changed.
    Protect = 3,
    /// Read what is mapped: from gfn word 2 on, the first leaf. Word 0 comes back as its gfn, word 1 as its pfn, word
    /// 2 as a grant's shape (count 1), with bit 32 accessed and bit 33 dirty; status `NotAsked` when there is none.
    Read = 4,
    /// Give word 3 frames from pfn word 2 to the VM's table pool. They leave the caller's address space until the VM
    /// gives them back.
    Donate = 5,
    /// Word 0 comes back as the VM's `mmu_seq`, word 1 as the table frames left, word 2 as the frames mapped, word 3 as
    /// [`Abilities`] of the CPU with the number of its largest page's [`crate::grant::Level`] in bits 5:4, word 4 as
    /// the INVEPTs that were executed for the VM.
    Info = 6,
    /// The page that was promised by `Pending` with token word 2 can be had now: the fault is asked again.
    Ready = 7,
    /// Tell which of word 3 frames from gfn word 2 were used, as [`Harvest`] word 4 says, and begin to note anew. A bitmap
    /// of the frames is put at the beginning of the caller's message page; word 0 comes back as how many bits are set.
    Harvest = 8,
    /// Word 2, below 2^40, is the generation of the VM's memory slots from now on: answers `Mmio` that are remembered
    /// under another one are asked again.
    Generation = 9,
    /// Word 2: 1 begins, 0 ends the log of pages that the CPU sets a D bit for (SDM vol. 3C, 29.3.6).
    SetLog = 10,
    /// Word 2 is a gfn: words 0 to 3 come back as the entries of the EPT, levels 4 to 1, by which the CPU finds it, and word
    /// 4 as how many of them there are, 0 beyond the guest. See [`crate::walk`].
    Walk = 11,
    /// Which frames are the caller's to grant or to donate: from pfn word 2 on, the first such frame comes back as word 0,
    /// how many neighbours from it on are alike as word 1 (at most [`OWNED`]), and as word 2 whether they are mapped in a
    /// guest (1) or not (0). `NotAsked` when there is none. What was donated is not the caller's.
    Owned = 12,
    /// How the answers of the VM's shadow compare with the pager's: row word 2 of those that [`crate::shadow`] has, six words.
    /// `NotAsked` beyond them, and without a shadow.
    Shadow = 13,
}

/// What [`MemOp::Harvest`] takes. A write through a window counts like one of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Harvest {
    /// Frames that the CPU lets the guest write. It does not any more, but the granted right stays: the kernel gives it
    /// back at the next write, without a message. `mmu_seq` advances.
    WriteProtect = 0,
    /// Frames whose D bit is set; it is cleared. Refused with `BadRights` when the CPU has no such bits.
    Dirty = 1,
    /// Frames whose A bit is set; it is cleared. Refused with `BadRights` when the CPU has no such bits.
    Accessed = 2,
    /// Frames that the CPU lets the guest use at all. It does not any more, but the granted rights stay: the kernel gives
    /// them back at the next use, without a message. `mmu_seq` advances.
    Hide = 3,
    /// The log begun by [`MemOp::SetLog`]: not a bitmap but up to [`LOG`] gfns come back, word 0 says how many. Their D
    /// bits are cleared. Words 2 and 3 mean nothing. Refused with `NotAsked` when the log is off.
    Log = 4,
    /// What `WriteProtect` would tell, and nothing is taken: what is about to be taken away anyway. No invalidation.
    LookWritable = 5,
    /// What `Dirty` would tell, and nothing is taken.
    LookDirty = 6,
}

/// The most frames of one [`MemOp::Harvest`].
pub const HARVEST: u64 = 16384;
/// The most frames of one [`MemOp::Owned`].
pub const OWNED: u64 = 16384;
/// The most gfns of the CPU's log.
pub const LOG: usize = 512;
/// Generations of memory slots are below this.
pub const GENERATIONS: u64 = 1 << 40;

bitflags::bitflags! {
    /// What the CPU's EPT can do beyond the ordinary: word 3 of [`MemOp::Info`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Abilities: u64 {
        /// A and D bits.
        const ACCESSED_DIRTY = 1 << 0;
        /// Page-modification logging.
        const LOG = 1 << 1;
        /// Pages that can be fetched from but not read.
        const EXECUTE_ONLY = 1 << 2;
    }
}

impl Harvest {
    /// The mode of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::WriteProtect),
            1 => Some(Self::Dirty),
            2 => Some(Self::Accessed),
            3 => Some(Self::Hide),
            4 => Some(Self::Log),
            5 => Some(Self::LookWritable),
            6 => Some(Self::LookDirty),
            _ => None,
        }
    }

    /// Whether the CPU must have A and D bits for it.
    #[must_use]
    pub const fn needs_bits(self) -> bool {
        match self {
            Self::Dirty | Self::Accessed | Self::LookDirty => true,
            Self::WriteProtect | Self::Hide | Self::Log | Self::LookWritable => false,
        }
    }

    /// Whether what it tells begins anew.
    #[must_use]
    pub const fn takes(self) -> bool {
        match self {
            Self::WriteProtect | Self::Dirty | Self::Accessed | Self::Hide | Self::Log => true,
            Self::LookWritable | Self::LookDirty => false,
        }
    }
}

impl MemOp {
    /// The operation of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Map),
            2 => Some(Self::Unmap),
            3 => Some(Self::Protect),
            4 => Some(Self::Read),
            5 => Some(Self::Donate),
            6 => Some(Self::Info),
            7 => Some(Self::Ready),
            8 => Some(Self::Harvest),
            9 => Some(Self::Generation),
            10 => Some(Self::SetLog),
            11 => Some(Self::Walk),
            12 => Some(Self::Owned),
            13 => Some(Self::Shadow),
            _ => None,
        }
    }
}
