//! What the pager needs of the kernel and of its own memory.

use core::fmt::Arguments;
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::refused::Refused;

/// 32-bit words in one frame.
pub const WORDS: usize = 1024;

/// The bytes of the pager's own frames. A frame is named by its index: 0 is the first that the pager owns.
pub trait Memory {
    /// Fills the frame with zeros.
    fn clear(&mut self, frame: u32);
    /// Word `index` (below [`WORDS`]) of the frame.
    fn word(&self, frame: u32, index: usize) -> u32;
    /// Writes word `index` (below [`WORDS`]) of the frame.
    fn set_word(&mut self, frame: u32, index: usize, value: u32);
}

/// The kernel's operations on a VM, as [`ipc_proto::memop`] has them, and what else leaves the pager.
pub trait Kernel {
    /// Unmaps `pages` frames from `first` on, in the guest and in every window; says how many were mapped.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused>;
    /// Takes away every right but `keep`; says how many leaves changed.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused>;
    /// Maps a run unasked; says how many frames are mapped more than before.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused>;
    /// Gives `count` of the pager's frames from pfn `first` on to the VM's tables, for good.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused>;
    /// The page that is mapped at `gfn` by the kernel's ledger, whatever its size; `None` when there is none.
    fn mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant>;
    /// The VM's present invalidation sequence number; `None` when the kernel does not say.
    fn mmu_seq(&mut self, vm: usize) -> Option<u64>;
    /// Puts a further grant of the reply that is being made into its place, counted from 0.
    fn further(&mut self, place: usize, claim: ClaimedGrant);
    /// Reports one figure for the summary.
    fn stat(&mut self, key: Arguments<'_>, value: u64);
}
