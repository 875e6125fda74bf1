//! A VM: an EPT, its invalidation sequence number, its pool of table frames, and who answers for it.

use crate::arch::paging::Space;
use crate::arch::vmx::guest;
use crate::frame::{FirstMapping, Pool};
use crate::shadow::Shown;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use ipc_proto::grant::Pfn;
use spin::Mutex;

/// A VM.
pub struct Vm {
    /// Its place in the manifest.
    pub id: u8,
    /// What the frame table gets for a frame that it maps.
    pub first_mapping: FirstMapping,
    /// The root of its EPT.
    pub root: Pfn,
    /// Its EPT pointer, for invalidation.
    pub eptp: u64,
    /// The task whose thread answers its faults.
    pub pager: Option<u8>,
    /// The task whose thread answers them too, without consequence.
    pub shadow: Option<u8>,
    /// What the shadow was asked last, and how its answers compare.
    pub shown: Mutex<Shown>,
    /// The task whose thread answers its other exits.
    pub server: u8,
    /// The address space that its exits enter: its pager's, or its server's when it has none.
    pub exit_space: Space,
    /// Bits of guest-physical addresses that its EPT maps.
    pub bits: u8,
    /// Table frames that were donated and are not in use.
    pub pool: Mutex<Pool>,
    /// How many those are, at most 65535, as messages say it.
    pub tables_left: AtomicU64,
    /// How often something was unmapped or protected.
    pub mmu_seq: AtomicU64,
    /// 4 KiB frames that are mapped.
    pub mapped: AtomicU64,
    /// The generation of its memory slots: remembered answers of another one are void.
    pub generation: AtomicU64,
    /// Whether the CPU logs the pages that it writes.
    pub logged: AtomicBool,
    /// INVEPTs that were executed for it.
    pub invepts: AtomicU64,
    /// Whether a harvest has ever taken every right of a page, or a shadow watches: faults do not go the short way.
    pub hides: AtomicBool,
}

impl Vm {
    /// The present invalidation sequence number.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.mmu_seq.load(Relaxed)
    }

    /// Something that was granted is not any more: every answer that was worked out before is stale.
    pub fn invalidated(&self) {
        self.mmu_seq.fetch_add(1, Relaxed);
    }

    /// Notes how many table frames are left: to be called after the pool has changed.
    pub fn note_tables(&self) {
        let left = self.pool.lock().count();
        self.tables_left.store(u64::from(left.min(u32::from(u16::MAX))), Relaxed);
    }

    /// Frames in its address space.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        1 << (self.bits - 12)
    }
}

/// Translations that the CPU may have cached are no longer what the EPT says.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "stale translations must be flushed before the guest runs"]
pub enum StaleTlb {
    /// Nothing was taken away.
    Nothing,
    /// Rights or frames of some pages were.
    Some,
}

impl StaleTlb {
    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Self::Nothing,
            (Self::Some, _) | (_, Self::Some) => Self::Some,
        }
    }

    /// One INVEPT, whatever the number of pages; none when nothing was taken away.
    #[inline(always)]
    pub fn flush(self, vm: &Vm) {
        match self {
            Self::Nothing => {}
            Self::Some => {
                vm.invepts.fetch_add(1, Relaxed);
                guest::flush(vm.eptp);
            }
        }
    }
}
