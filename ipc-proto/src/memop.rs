//! MemOp: what a pager asks of the kernel, unasked. Register words after the handle: word 1 is the operation.
//!
//! Who asks: the holder of a VM handle; all but `Read` and `Info` need the pager's right. The status in rax is 0 or
//! the number of a [`crate::refused::Refused`]; a refused operation has changed nothing unless it says otherwise.

/// The operations. `gfn`, `pfn` and counts are in 4 KiB frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum MemOp {
    /// Map a run: words 2 to 5 are a [`crate::grant::ClaimedGrant`].
    Map = 1,
    /// Unmap word 3 frames from gfn word 2. What was mapped no longer is when the call returns, in the guest and in
    /// every window; `mmu_seq` advances. Word 0 comes back as the number of frames that were mapped.
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
    /// Word 0 comes back as the VM's `mmu_seq`, word 1 as the table frames left, word 2 as the frames mapped.
    Info = 6,
    /// The page that was promised by `Pending` with token word 2 can be had now: the fault is asked again.
    Ready = 7,
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
            _ => None,
        }
    }
}
