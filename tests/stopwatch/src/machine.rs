//! The kernel and the task's own frames, as the library of vmm-mm wants them.

use core::fmt::Arguments;
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::memop::{Harvest, MemOp};
use ipc_proto::refused::Refused;
use vmm_mm::machine::{Cpu, Kernel, LogSwitch, Memory};

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

    /// The stopwatch has no boot modules.
    fn read_image(&mut self, _: u8, _: u64, _: u32) -> bool {
        false
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Unmap, [first.0, pages, 0, 0]).map(|words| words[0])
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Protect, [first.0, pages, u64::from(keep.bits()), 0]).map(|words| words[0])
    }

    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused> {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = grant.claim();
        rt::mem_op(vm, MemOp::Map, [shape, gfn, pfn, mmu_seq]).map(|words| words[0])
    }

    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused> {
        rt::donate(vm, first, count)
    }

    fn next_mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        let [first, pfn, shape, ..] = rt::mem_op(vm, MemOp::Read, [gfn.0, 0, 0, 0]).ok()?;
        let shape = shape & !(3 << 32);
        ClaimedGrant { shape, gfn: first, pfn, mmu_seq: 0 }.typed().ok()
    }

    fn cpu(&mut self, vm: usize) -> Option<Cpu> {
        rt::mem_op(vm, MemOp::Info, [0; 4]).ok().map(|words| Cpu::from_word(words[3]))
    }

    fn harvest(&mut self, vm: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Harvest, [first.0, frames, mode as u64, 0]).map(|words| words[0])
    }

    fn harvested(&self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        rt::read_message_at(word * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn generation(&mut self, vm: usize, generation: u64) -> Result<(), Refused> {
        rt::mem_op(vm, MemOp::Generation, [generation, 0, 0, 0]).map(|_| ())
    }

    fn set_log(&mut self, vm: usize, log: LogSwitch) -> Result<(), Refused> {
        let on = match log {
            LogSwitch::On => 1,
            LogSwitch::Off => 0,
        };
        rt::mem_op(vm, MemOp::SetLog, [on, 0, 0, 0]).map(|_| ())
    }

    fn mmu_seq(&mut self, vm: usize) -> Option<u64> {
        rt::mem_op(vm, MemOp::Info, [0; 4]).ok().map(|words| words[0])
    }

    fn ready(&mut self, vm: usize, token: u64) -> Result<(), Refused> {
        rt::mem_op(vm, MemOp::Ready, [token, 0, 0, 0]).map(|_| ())
    }

    fn now(&mut self) -> u64 {
        rt::tsc()
    }

    fn wake_at(&mut self, tsc: u64) {
        rt::timer(tsc);
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        let mut bytes = [0; ClaimedGrant::BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip([shape, gfn, pfn, mmu_seq]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        rt::write_message_at(place * ClaimedGrant::BYTES, &bytes);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        rt::stat(key, value);
    }
}
