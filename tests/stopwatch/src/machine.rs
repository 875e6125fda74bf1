//! The kernel and the task's own frames, as the library of vmm-mm wants them.

use core::fmt::Arguments;
use ipc_proto::grant::{ClaimedGrant, Gfn, Rights};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use vmm_mm::machine::{Kernel, Memory};

/// Its frames begin at this pfn.
pub struct Machine {
    /// The pfn of the frame with index 0.
    pub first_pfn: u64,
}

impl Memory for Machine {
    fn clear(&mut self, frame: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).clear();
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        rt::frame(self.first_pfn + u64::from(frame)).word(index)
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).set_word(index, value);
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Unmap, [first.0, pages, 0, 0]).map(|words| words[0])
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Protect, [first.0, pages, u64::from(keep.bits()), 0]).map(|words| words[0])
    }

    fn mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Rights> {
        let [first, pfn, shape, ..] = rt::mem_op(vm, MemOp::Read, [gfn.0, 0, 0, 0]).ok()?;
        let leaf = ClaimedGrant { shape: shape & !(3 << 32), gfn: first, pfn, mmu_seq: 0 }.typed().ok()?;
        (gfn.0.wrapping_sub(first) < leaf.level.frames()).then_some(leaf.rights)
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        rt::stat(key, value);
    }
}
