//! What the library needs of the kernel and of its frames: system calls through the port, and a file.

use super::flaw::Flaw;
use super::flawed::LATER;
use super::port::Port;
use anyhow::Context;
use ipc_proto::call::{Call, NO_REPLY};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::host::Return;
use ipc_proto::layout::handle;
use ipc_proto::memop::{Harvest, MemOp};
use ipc_proto::refused::Refused;
use ipc_proto::walk::Walk;
use ipc_proto::words::Words;
use std::fmt::Arguments;
use std::fs::File;
use std::os::unix::fs::FileExt;
use vmm_mm::alarm::Alarm;
use vmm_mm::machine::{Cpu, FRAME, Kernel, LogSwitch, Memory, OwnedRun, PageBytes};

/// The kernel and the frames, as the pager reaches them.
pub struct Machine {
    port: Port,
    frames: File,
    first_pfn: u64,
    /// What the next call hands over in the message page.
    message: Vec<u8>,
    /// What the last call left there.
    received: Vec<u8>,
    pub(super) alarm: Alarm,
    /// What is wrong with it, if anything.
    pub(super) flaw: Option<Flaw>,
    /// The first frame that was granted, and the first sequence number: for flaws that cling to them.
    pub(super) first: Option<(u64, u64)>,
    /// The first frame that was given as a table, for one that goes on to use it; 0 before.
    pub(super) first_tables: u64,
    /// How many slots were deleted, and the first page that was told dirty last: for flaws that count.
    pub(super) deleted: u64,
    pub(super) told: Option<u64>,
    /// How often the pager was started before.
    pub(super) incarnation: u32,
}

impl Machine {
    /// Opens the frames.
    pub fn new(port: Port, frames: &str, first_pfn: u64, flaw: Option<Flaw>) -> anyhow::Result<Self> {
        let frames =
            File::options().read(true).write(true).open(frames).with_context(|| format!("opening {frames}"))?;
        Ok(Self {
            port,
            frames,
            first_pfn,
            message: Vec::new(),
            received: Vec::new(),
            alarm: Alarm::NONE,
            flaw,
            first: None,
            first_tables: 0,
            deleted: 0,
            told: None,
            incarnation: 0,
        })
    }

    /// Answers, if there is something to answer, and waits for the next message; `None` when the system has ended.
    pub fn receive(&mut self, answer: Option<Words>) -> anyhow::Result<Option<Return>> {
        let (number, words) = match answer {
            Some(words) => (Call::ReplyReceive as u64, words),
            None => (Call::ReplyReceive as u64 | NO_REPLY, [0; 6]),
        };
        let message = std::mem::take(&mut self.message);
        self.port.call(number, words, &message)
    }

    /// Puts the reply to a request into the message page.
    pub fn put(&mut self, bytes: &[u8]) {
        bytes.clone_into(&mut self.message);
    }

    /// Writes bytes that are no frame.
    pub(super) fn blurt(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.port.write(bytes)
    }

    /// A system call that is not `ReplyReceive`. When the system has ended in the middle of it there is nothing to do.
    pub(super) fn call(&mut self, number: Call, words: Words, message: &[u8]) -> Result<Words, Refused> {
        let Ok(Some(back)) = self.port.call(number as u64, words, message) else { std::process::exit(0) };
        self.received = back.message.to_vec();
        match Refused::from_number(back.status) {
            None => Ok(back.words),
            Some(refused) => Err(refused),
        }
    }

    /// An operation on a VM.
    pub(super) fn mem_op(&mut self, vm: usize, op: MemOp, arguments: [u64; 4]) -> Result<Words, Refused> {
        let [w2, w3, w4, w5] = arguments;
        self.call(Call::MemOp, [u64::from(handle::vm(vm)), op as u64, w2, w3, w4, w5], &[])
    }

    /// Asks for a notice.
    pub(super) fn set_timer(&mut self, tsc: u64) {
        // `Timer` is never refused.
        let _ = self.call(Call::Timer, [tsc, 0, 0, 0, 0, 0], &[]);
    }

    /// Where a frame lies in the file.
    fn at(frame: u32, index: usize) -> u64 {
        u64::from(frame) * FRAME as u64 + 4 * index as u64
    }

    /// The index of a frame.
    pub(super) const fn index(&self, pfn: u64) -> u32 {
        (pfn - self.first_pfn) as u32
    }
}

/// The file is there for as long as the system is; without it there is nothing left to serve.
fn held(done: std::io::Result<()>) {
    if let Err(error) = done {
        eprintln!("the file of frames: {error}");
        std::process::exit(1);
    }
}

impl Memory for Machine {
    fn clear(&mut self, frame: u32) {
        held(self.frames.write_all_at(&[0; FRAME], Self::at(frame, 0)));
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        let mut bytes = [0; 4];
        held(self.frames.read_exact_at(&mut bytes, Self::at(frame, index)));
        u32::from_le_bytes(bytes)
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        held(self.frames.write_all_at(&value.to_le_bytes(), Self::at(frame, index)));
    }

    fn read(&self, frame: u32, page: &mut PageBytes) {
        held(self.frames.read_exact_at(page, Self::at(frame, 0)));
    }

    fn write(&mut self, frame: u32, page: &PageBytes) {
        held(self.frames.write_all_at(page, Self::at(frame, 0)));
    }

    fn ask_for_time(&mut self) {
        let now = self.now();
        if let Some(next) = self.alarm.ask_for_time(now) {
            self.set_timer(next);
        }
    }

    fn ask_for_frames(&mut self) {
        let now = self.now();
        self.wake_at(now);
    }

    /// There are no boot modules on the host.
    fn read_image(&mut self, _: u8, _: u64, _: u32) -> bool {
        false
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        if self.flawed_unmap(vm, first, pages) {
            return Ok(0);
        }
        self.mem_op(vm, MemOp::Unmap, [first.0, pages, 0, 0]).map(|words| words[0])
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        if self.flaw == Some(Flaw::KeepsRights) {
            return Ok(0);
        }
        self.mem_op(vm, MemOp::Protect, [first.0, pages, u64::from(keep.bits()), 0]).map(|words| words[0])
    }

    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused> {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = grant.claim();
        self.mem_op(vm, MemOp::Map, [shape, gfn, pfn, mmu_seq]).map(|words| words[0])
    }

    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused> {
        if self.flaw == Some(Flaw::NoTopUp) {
            return Err(Refused::NotYours);
        }
        self.mem_op(vm, MemOp::Donate, [first, count, 0, 0]).map(|_| ())
    }

    fn owned(&mut self, pfn: u64) -> Option<OwnedRun> {
        let [first, count, mapped, ..] = self.mem_op(0, MemOp::Owned, [pfn, 0, 0, 0]).ok()?;
        Some(OwnedRun { first, count, mapped: mapped != 0 })
    }

    fn keep(&mut self, pfn: u64) {
        // `Keep` is never refused.
        let _ = self.call(Call::Keep, [pfn, 0, 0, 0, 0, 0], &[]);
    }

    fn next_mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        let [first, pfn, shape, ..] = self.mem_op(vm, MemOp::Read, [gfn.0, 0, 0, 0]).ok()?;
        let shape = shape & !(3 << 32);
        ClaimedGrant { shape, gfn: first, pfn, mmu_seq: 0 }.typed().ok()
    }

    fn walk(&mut self, vm: usize, gfn: Gfn) -> Option<Walk> {
        self.mem_op(vm, MemOp::Walk, [gfn.0, 0, 0, 0]).ok().map(|words| Walk::from_words(&words))
    }

    fn cpu(&mut self, vm: usize) -> Option<Cpu> {
        self.mem_op(vm, MemOp::Info, [0; 4]).ok().map(|words| Cpu::from_word(words[3]))
    }

    fn harvest(&mut self, vm: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused> {
        self.mem_op(vm, MemOp::Harvest, [first.0, frames, mode as u64, 0]).map(|words| words[0])
    }

    fn harvested(&self, word: usize) -> u64 {
        let bytes = self.received.chunks(8).nth(word).unwrap_or_default();
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    fn generation(&mut self, vm: usize, generation: u64) -> Result<(), Refused> {
        if self.flaw == Some(Flaw::RemembersForEver) {
            return Ok(());
        }
        let old = self.flaw == Some(Flaw::SaysOldGenerations);
        let said = if old { generation % LATER } else { generation };
        self.mem_op(vm, MemOp::Generation, [said, 0, 0, 0]).map(|_| ())
    }

    fn set_log(&mut self, vm: usize, log: LogSwitch) -> Result<(), Refused> {
        let on = match log {
            LogSwitch::On => 1,
            LogSwitch::Off => 0,
        };
        self.mem_op(vm, MemOp::SetLog, [on, 0, 0, 0]).map(|_| ())
    }

    fn mmu_seq(&mut self, vm: usize) -> Option<u64> {
        self.mem_op(vm, MemOp::Info, [0; 4]).ok().map(|words| words[0])
    }

    fn ready(&mut self, vm: usize, token: u64) -> Result<(), Refused> {
        if self.flaw == Some(Flaw::WakesNobody) {
            return Ok(());
        }
        self.mem_op(vm, MemOp::Ready, [token, 0, 0, 0]).map(|_| ())
    }

    fn now(&mut self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn wake_at(&mut self, tsc: u64) {
        let next = self.alarm.wake_at(tsc);
        self.set_timer(next);
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        self.message.resize((place + 1) * ClaimedGrant::BYTES, 0);
        let bytes = [shape, gfn, pfn, mmu_seq].map(u64::to_le_bytes).concat();
        self.message[place * ClaimedGrant::BYTES..].copy_from_slice(&bytes);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        if self.flaw == Some(Flaw::NoFigures) {
            return;
        }
        let text = format!("{key} {value}");
        // A figure of ours is shorter than a line.
        let _ = self.call(Call::Stat, [0, text.len() as u64, 0, 0, 0, 0], text.as_bytes());
    }
}
