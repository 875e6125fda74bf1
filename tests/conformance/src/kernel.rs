//! The kernel as a pager sees it: it asks, and does what system calls ask of it.
//!
//! A call that no pager has reason to make ends the case at once: what it is refused with names the obligation.

use crate::ledger::{FIRST, Ledger};
use crate::memop;
use crate::pager::Pager;
use crate::refusal::is_excused;
use crate::setup::{self, Setup};
use crate::vm::{Cpu, Vm};
use anyhow::{bail, ensure};
use ipc_proto::call::{Call, LINE, NO_REPLY, Received, notice};
use ipc_proto::fault::{ClaimedReply, TopUp};
use ipc_proto::grant::{ClaimedGrant, Pfn};
use ipc_proto::host::{Boot, INFO, MessagePage, Return, SystemCall, ToPager};
use ipc_proto::layout::{BootInfo, handle};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::wire;
use ipc_proto::words::Words;
use std::time::{Duration, Instant};

/// The most further grants for which a message page has room.
const FURTHER: usize = 4096 / ClaimedGrant::BYTES;

/// No pager is slept for longer without a look at the deadline.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// What the pager is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// A fault.
    Fault(Words),
    /// The fault again, after a refusal.
    RefusedReply(Words),
    /// A request of a VM's server.
    Call(u8, Vec<u8>),
    /// Notification bits.
    Notice(u64),
    /// The notice that a VM is over.
    Over(u8),
    /// That nothing was to be answered.
    NotAsked,
    /// A status that this version does not have.
    Unknown(u64),
}

/// What it answers: nothing to a notice.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The words.
    pub words: Words,
    /// What the message page begins with.
    pub message: Vec<u8>,
}

/// What an accepted answer to a fault says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Its grants are installed.
    Mapped,
    /// Nothing is mapped; with this generation.
    Mmio(u64),
    /// The access is to be tried again.
    Retry,
    /// The page is promised.
    Pending(u64),
    /// The access is forbidden.
    Denied(DenyReason),
}

/// The kernel, and the pager that it asks.
pub struct Kernel {
    /// The pager.
    pub pager: Pager,
    /// Frames and tables.
    pub ledger: Ledger,
    /// The pager's VMs.
    pub vms: Vec<Vm>,
    /// Figures that the pager has reported.
    pub figures: Vec<String>,
    /// Lines that it has printed.
    pub lines: Vec<String>,
    /// Tokens that were told to be ready.
    pub ready: Vec<u64>,
    /// Tokens under which a fault is pending.
    pub pending: Vec<u64>,
    /// What every operation that changes something is refused with, whatever it is.
    pub refuses: Option<Refused>,
    /// When a notice is due, by the monotonic clock; 0 for never.
    timer: u64,
    /// What the pager has said last that the next incarnation shall know.
    pub kept: u64,
    setup: Setup,
}

impl Kernel {
    /// Boots a system and waits until its pager receives.
    ///
    /// # Errors
    /// Whatever the pager does instead.
    pub fn boot(setup: &Setup, command: &str) -> anyhow::Result<Self> {
        let mut ledger = Ledger::new(setup.frames)?;
        let cpu = Cpu { bits: setup.bits, largest: setup.largest, abilities: setup.abilities };
        let vms: Vec<Vm> = (0..setup::VMS).map(|number| Vm::new(number, cpu, &ledger)).collect();
        let mut last = FIRST + setup.frames;
        for vm in &vms {
            for _ in 0..setup.tables {
                last -= 1;
                let given = ledger.donate(Pfn(last), 1, &mut vm.pool.lock(), vm.number);
                given.map_err(|refused| anyhow::anyhow!("the tables to begin with: {refused}"))?;
            }
        }
        let pager = Pager::start(command, setup.deadline)?;
        let (figures, lines, ready, pending) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (timer, kept, refuses, setup) = (0, 0, None, setup.clone());
        let mut kernel = Self { pager, ledger, vms, figures, lines, ready, pending, timer, kept, refuses, setup };
        kernel.greet(0)?;
        Ok(kernel)
    }

    /// Stops the pager and starts it again, with its frames and what it has granted as they are.
    ///
    /// # Errors
    /// Whatever the new incarnation does instead of receiving.
    pub fn restart(&mut self, command: &str, incarnation: u32) -> anyhow::Result<()> {
        self.pager.kill();
        self.pager = Pager::start(command, self.setup.deadline)?;
        self.pending.clear();
        self.timer = 0;
        self.greet(incarnation)
    }

    fn greet(&mut self, incarnation: u32) -> anyhow::Result<()> {
        let boot = self.boot_frame(incarnation)?;
        let due = self.pager.due();
        let first = self.pager.send(&ToPager::Boot(boot)).and_then(|()| self.until_it_receives(due, Expected::Nothing));
        first.map(|_| ()).map_err(|error| error.context("P1: after its start"))
    }

    fn boot_frame(&self, incarnation: u32) -> anyhow::Result<Boot> {
        let manifest = setup::manifest(&self.setup)?;
        let info = BootInfo {
            protocol: ipc_proto::version::PROTOCOL,
            task: crate::ledger::PAGER,
            incarnation,
            tsc_hz: 1_000_000_000,
            manifest_len: manifest.len() as u32,
            first_pfn: FIRST,
            frames: self.setup.frames - u64::from(self.setup.tables) * self.vms.len() as u64,
            modules: heapless::Vec::new(),
            vms: self.vms.iter().map(|vm| vm.number).collect(),
            guest_physical_bits: self.setup.bits,
            fast_strings: true,
            kept: self.kept,
        };
        let mut bytes = heapless::Vec::new();
        bytes.resize_default(INFO).map_err(|_| anyhow::anyhow!("no room for the boot information"))?;
        let len =
            wire::encode(&info, &mut bytes).map_err(|error| anyhow::anyhow!("the boot information: {error:?}"))?;
        bytes.truncate(len);
        let path = self.ledger.bytes.path().to_string_lossy();
        let Ok(frames) = heapless::String::try_from(path.as_ref()) else { bail!("the path {path} is too long") };
        Ok(Boot { info: bytes, manifest, frames })
    }

    /// Asks, does what the pager's system calls ask for, and hands over the answer.
    ///
    /// # Errors
    /// Silence, an end, or a call that breaks an obligation.
    pub fn ask(&mut self, question: &Question) -> anyhow::Result<Answer> {
        let (status, words, bytes, expected) = match question {
            Question::Fault(words) => (Received::Fault as u64, *words, &[][..], Expected::Answer),
            Question::RefusedReply(words) => (Received::RefusedReply as u64, *words, &[][..], Expected::Answer),
            Question::Call(vm, bytes) => {
                let words = [u64::from(*vm), bytes.len() as u64, 0, 0, 0, 0];
                (Received::Call as u64, words, &bytes[..], Expected::Answer)
            }
            Question::Notice(bits) => (Received::Notice as u64, [*bits, 0, 0, 0, 0, 0], &[][..], Expected::Nothing),
            Question::Over(vm) => {
                let words = [notice::VM_ENDED, 1 << *vm, 0, 0, 0, 0];
                (Received::Notice as u64, words, &[][..], Expected::Nothing)
            }
            Question::NotAsked => (Refused::NotAsked as u64, [0; 6], &[][..], Expected::Nothing),
            Question::Unknown(status) => (*status, [0; 6], &[][..], Expected::Answer),
        };
        let due = self.pager.due();
        self.come_back(status, words, bytes)?;
        self.until_it_receives(due, expected)
    }

    /// Asks, and does not wait for the answer: the pager is about to die.
    ///
    /// # Errors
    /// It has ended already.
    pub fn abandon(&mut self, fault: Words) -> anyhow::Result<()> {
        self.come_back(Received::Fault as u64, fault, &[])
    }

    fn come_back(&mut self, status: u64, words: Words, bytes: &[u8]) -> anyhow::Result<()> {
        let Ok(message) = MessagePage::from_slice(bytes) else { bail!("a message of ours is longer than a page") };
        self.pager.send(&ToPager::Return(Return { status, words, message }))
    }

    fn until_it_receives(&mut self, due: Instant, expected: Expected) -> anyhow::Result<Answer> {
        const ANSWERS: u64 = Call::ReplyReceive as u64;
        const RECEIVES: u64 = Call::ReplyReceive as u64 | NO_REPLY;
        loop {
            let call = self.pager.next(due)?;
            match (call.number, expected) {
                (ANSWERS, Expected::Answer) => {
                    return Ok(Answer { words: call.words, message: call.message.to_vec() });
                }
                (RECEIVES, Expected::Nothing) => return Ok(Answer { words: [0; 6], message: Vec::new() }),
                (ANSWERS, Expected::Nothing) => bail!("P3: it answers what is not to be answered (NotAsked)"),
                (RECEIVES, Expected::Answer) => bail!("P2: it receives without having answered (Unanswered)"),
                _ => {
                    let (status, words, bytes) = self.system_call(&call)?;
                    self.come_back(status, words, &bytes)?;
                }
            }
        }
    }

    /// Any system call but `ReplyReceive`: status, words, and what the message page begins with.
    fn system_call(&mut self, call: &SystemCall) -> anyhow::Result<(u64, Words, Vec<u8>)> {
        let nothing = Ok((0, [0; 6], Vec::new()));
        match Call::from_number(call.number) {
            Some(Call::MemOp) => self.mem_op(&call.words),
            Some(Call::Timer) => {
                self.timer = call.words[0];
                nothing
            }
            Some(Call::Log) => {
                let line = text(call)?;
                self.lines.push(line);
                nothing
            }
            Some(Call::Stat) => {
                let figure = text(call)?;
                self.figures.push(figure);
                nothing
            }
            Some(Call::Keep) => {
                self.kept = call.words[0];
                nothing
            }
            Some(Call::Finish) => bail!("P2: it says that it is done, with the system going on"),
            Some(number @ (Call::Send | Call::Run | Call::PowerOff | Call::Supervise)) => {
                bail!("P38: {number:?} with handle {}, which it has not been given (BadHandle)", call.words[0])
            }
            Some(Call::ReplyReceive) | None => bail!("P38: system call {} (UnknownCall)", call.number),
        }
    }

    fn mem_op(&mut self, words: &Words) -> anyhow::Result<(u64, Words, Vec<u8>)> {
        let number = words[0];
        let held = (0..self.vms.len()).find(|n| u64::from(handle::vm(*n)) == number);
        let Some(held) = held else { bail!("P38: MemOp on handle {number}, which it has not been given (BadHandle)") };
        let Some(op) = MemOp::from_number(words[1]) else {
            bail!("P38: MemOp {}, which there is not (UnknownVariant)", words[1])
        };
        let done = match op {
            MemOp::Ready => match self.pending.iter().position(|token| *token == words[2]) {
                Some(place) => {
                    self.ready.push(self.pending.swap_remove(place));
                    Ok(([0; 6], Vec::new()))
                }
                None => Err(Refused::UnknownToken),
            },
            MemOp::Map | MemOp::Unmap | MemOp::Protect | MemOp::Harvest if self.refuses.is_some() => {
                return Ok((self.refuses.map_or(0, |why| why as u64), [0; 6], Vec::new()));
            }
            _ => memop::perform(&mut self.vms[held], &mut self.ledger, op, words),
        };
        match done {
            Ok((words, bytes)) => Ok((0, words, bytes)),
            Err(refused) => {
                // A pager may find out by a refusal what the CPU has not.
                let tries = refused == Refused::BadRights && matches!(op, MemOp::Harvest | MemOp::SetLog);
                if !tries {
                    is_excused(refused).map_err(|error| anyhow::anyhow!("{error}: {op:?} {:x?}", &words[2..]))?;
                }
                Ok((refused as u64, [0; 6], Vec::new()))
            }
        }
    }

    /// What the answer to a fault says, with its tables taken and its grants installed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn answered(&mut self, vm: u8, window: bool, answer: &Answer) -> Result<Reply, Refused> {
        let reply = ClaimedReply::from_words(&answer.words).map_err(|_| Refused::UnknownVariant)?;
        let vm = &mut self.vms[usize::from(vm)];
        let top_up = TopUp::from_word(answer.words[4]);
        if top_up.count != 0 {
            let mut pool = vm.pool.lock();
            self.ledger.donate(Pfn(top_up.first), u64::from(top_up.count), &mut pool, vm.number)?;
        }
        match reply {
            ClaimedReply::Map(claim, more) => {
                vm.install(claim, &self.ledger)?;
                let mut page = answer.message.clone();
                page.resize(4096, 0);
                for bytes in page.chunks_exact(ClaimedGrant::BYTES).take(usize::from(more).min(FURTHER)) {
                    vm.install(claimed(bytes), &self.ledger)?;
                }
                Ok(Reply::Mapped)
            }
            ClaimedReply::Mmio(generation) => Ok(Reply::Mmio(generation)),
            ClaimedReply::Retry => Ok(Reply::Retry),
            ClaimedReply::Pending(_) if window => Err(Refused::UnknownVariant),
            ClaimedReply::Pending(token) => {
                self.pending.push(token);
                Ok(Reply::Pending(token))
            }
            ClaimedReply::Deny(reason) => Ok(Reply::Denied(reason)),
        }
    }

    /// Gives the notice that the pager has asked for, if its time has come.
    ///
    /// # Errors
    /// What the pager does about it.
    pub fn keep_time(&mut self) -> anyhow::Result<()> {
        if self.timer != 0 && self.timer <= now() {
            self.timer = 0;
            self.ask(&Question::Notice(notice::TIMER))?;
        }
        Ok(())
    }

    /// Lets time pass until the pager says that what it promised under `token` is there.
    ///
    /// # Errors
    /// It waits for nothing, or for too long.
    pub fn wait_for(&mut self, token: u64) -> anyhow::Result<()> {
        let due = self.pager.due();
        while Instant::now() < due {
            if let Some(place) = self.ready.iter().position(|ready| *ready == token) {
                self.ready.swap_remove(place);
                return Ok(());
            }
            ensure!(self.timer != 0, "P5: a fault is pending under token {token}, and nothing makes it ready");
            std::thread::sleep(Duration::from_nanos(self.timer.saturating_sub(now())).min(LONGEST_SLEEP));
            self.keep_time()?;
        }
        bail!("P5: a fault is pending under token {token} for ever")
    }

    /// The end of the system: the pager ends, and has left its tables alone.
    ///
    /// # Errors
    /// It has not.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.pager.close()?;
        if let Some(pfn) = self.ledger.touched()? {
            bail!("P17: frame {pfn:#x}, given as a table, has been written to");
        }
        Ok(())
    }
}

/// The monotonic clock, in nanoseconds: the time-stamp counter of the host transport.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Whether the pager owes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Answer,
    Nothing,
}

fn claimed(bytes: &[u8]) -> ClaimedGrant {
    let word = |n: usize| bytes[8 * n..8 * n + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    ClaimedGrant { shape: word(0), gfn: word(1), pfn: word(2), mmu_seq: word(3) }
}

/// The line of a `Log` or a `Stat`.
fn text(call: &SystemCall) -> anyhow::Result<String> {
    let len = call.words[1] as usize;
    ensure!(len <= LINE, "P38: a line of {len} bytes (BadLength)");
    let mut line = call.message.to_vec();
    line.resize(len, 0);
    Ok(String::from_utf8_lossy(&line).into_owned())
}
