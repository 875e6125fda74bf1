//! The kernel and the task's frames, until the pager dies in the middle of what it does with them.

use core::fmt::Arguments;
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::memop::Harvest;
use ipc_proto::refused::Refused;
use ipc_proto::walk::Walk;
use vmm_mm::machine::{Cpu, Kernel, LogSwitch, Memory, OwnedRun, PageBytes};
use vmm_mm::task::Machine;

/// What a pager dies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// A page has been taken from the guest.
    Unmap,
    /// A part of a compressed page has been written.
    Pack,
    /// It asks what the ledger has.
    Read,
    /// A word has been written that outlives it.
    Word,
}

/// A machine whose pager dies when it has done that so often.
pub struct Dying<'a> {
    pub machine: &'a mut Machine,
    pub over: Over,
    pub left: &'a mut u32,
}

impl Dying<'_> {
    fn done(&mut self, what: Over) {
        if what == self.over {
            *self.left = self.left.saturating_sub(1);
            assert!(*self.left != 0, "here is the flaw: {what:?}");
        }
    }
}

impl Memory for Dying<'_> {
    fn clear(&mut self, frame: u32) {
        self.machine.clear(frame);
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        self.machine.word(frame, index)
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        self.machine.set_word(frame, index, value);
        self.done(Over::Word);
    }

    fn ask_for_time(&mut self) {
        self.machine.ask_for_time();
    }

    fn ask_for_frames(&mut self) {
        self.machine.ask_for_frames();
    }

    fn read(&self, frame: u32, page: &mut PageBytes) {
        self.machine.read(frame, page);
    }

    fn write(&mut self, frame: u32, page: &PageBytes) {
        self.machine.write(frame, page);
    }

    fn write_at(&mut self, frame: u32, index: usize, bytes: &[u8]) {
        self.machine.write_at(frame, index, bytes);
        self.done(Over::Pack);
    }

    fn read_image(&mut self, image: u8, page: u64, frame: u32) -> bool {
        self.machine.read_image(image, page, frame)
    }
}

impl Kernel for Dying<'_> {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        let gone = self.machine.unmap(vm, first, pages);
        self.done(Over::Unmap);
        gone
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        self.machine.protect(vm, first, pages, keep)
    }

    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused> {
        self.machine.map(vm, grant)
    }

    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused> {
        self.machine.donate(vm, first, count)
    }

    fn owned(&mut self, pfn: u64) -> Option<OwnedRun> {
        self.machine.owned(pfn)
    }

    fn keep(&mut self, pfn: u64) {
        self.machine.keep(pfn);
    }

    fn next_mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        self.done(Over::Read);
        self.machine.next_mapped(vm, gfn)
    }

    fn walk(&mut self, vm: usize, gfn: Gfn) -> Option<Walk> {
        self.machine.walk(vm, gfn)
    }

    fn cpu(&mut self, vm: usize) -> Option<Cpu> {
        self.machine.cpu(vm)
    }

    fn harvest(&mut self, vm: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused> {
        self.done(Over::Read);
        self.machine.harvest(vm, first, frames, mode)
    }

    fn harvested(&self, word: usize) -> u64 {
        self.machine.harvested(word)
    }

    fn generation(&mut self, vm: usize, generation: u64) -> Result<(), Refused> {
        self.machine.generation(vm, generation)
    }

    fn set_log(&mut self, vm: usize, log: LogSwitch) -> Result<(), Refused> {
        self.machine.set_log(vm, log)
    }

    fn mmu_seq(&mut self, vm: usize) -> Option<u64> {
        self.machine.mmu_seq(vm)
    }

    fn ready(&mut self, vm: usize, token: u64) -> Result<(), Refused> {
        self.machine.ready(vm, token)
    }

    fn now(&mut self) -> u64 {
        self.machine.now()
    }

    fn wake_at(&mut self, tsc: u64) {
        self.machine.wake_at(tsc);
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        self.machine.further(place, claim);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        self.machine.stat(key, value);
    }
}
