//! A pager as a task of a system: receive, resolve, reply; and the kernel and the task's own frames as the library wants them.
//! The server of this package is one, and so are the tests' that answer in ways of their own.

use crate::adopt::Broken;
use crate::alarm::{Alarm, Due};
use crate::control::{MESSAGE, REPLY};
use crate::machine::{Cpu, FRAME, Kernel, LogSwitch, Memory, OwnedRun, PageBytes};
use crate::serve::{INTERNAL, Pager};
use crate::shares::{Shares, shares};
use core::fmt::Arguments;
use heapless::Vec;
use ipc_proto::call::{End, notice};
use ipc_proto::exit::{ExitMessage, Resume, ResumeFlags};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::layout::{BootInfo, HANDED_OVER};
use ipc_proto::manifest::{MAX_MODULES, MAX_VMS};
use ipc_proto::memop::{Harvest, MemOp};
use ipc_proto::refused::Refused;
use ipc_proto::state::StateMask;
use ipc_proto::walk::Walk;
use ipc_proto::words::Words;
use rt::{Answer, Received, Task};

/// The kernel and the task's own frames.
pub struct Machine {
    first_pfn: u64,
    /// One of the VMs that it pages.
    vm: Option<usize>,
    alarm: Alarm,
    /// The boot modules of this task, in the manifest's order.
    images: Vec<&'static [u8], MAX_MODULES>,
    ticks: Ticks,
}

/// What the pager's work took: between a message and its answer.
#[derive(Clone, Copy, Debug, Default)]
struct Ticks {
    /// Its own instructions and the kernel's. Those of faults only when they are [`measured`].
    all: u64,
    /// Of those, in operations of the kernel.
    in_kernel: u64,
    /// Whether faults are measured.
    whole: bool,
}

/// Which VM has how many of `frames` of the task's frames.
///
/// # Panics
/// When the options share out what there is not.
#[must_use]
pub fn frames(task: &Task, frames: u64) -> Shares {
    let vms: Vec<_, MAX_VMS> = task.vms().collect();
    let shared = shares(&vms, &task.entry().options, &task.info.vms, frames);
    shared.unwrap_or_else(|wrong| panic!("the frames cannot be shared out by the options: {wrong:?}"))
}

impl Machine {
    /// Those of `task`.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let images = task.info.modules.iter().filter_map(|module| task.module(&module.name)).collect();
        let vm = task.info.vms.first().map(|vm| usize::from(*vm));
        Self { first_pfn: task.info.first_pfn, vm, alarm: Alarm::NONE, images, ticks: Ticks::default() }
    }
}

/// Takes the frames over: all of them, or what the incarnation before knew of them. A pager that cannot go on stops before it
/// answers anything.
///
/// # Panics
/// When what the incarnation before has left makes no sense.
pub fn begin(pager: &mut Pager, (info, shares): (&BootInfo, &Shares), machine: &mut Machine) {
    if info.kept == 0 {
        pager.take_over(shares, machine);
        if pager.keep_on(machine).is_err() {
            log::warn!("too few frames: after a death nothing of this would be known");
        }
        return;
    }
    if info.kept == HANDED_OVER {
        match pager.take_up(shares, info.incarnation, machine) {
            Ok(mapped) => log::debug!("incarnation {}: {mapped} frames are mapped", info.incarnation),
            Err(broken) => panic!("what the incarnation before has handed over cannot be: {broken:x?}"),
        }
        return;
    }
    let began = rt::tsc();
    match pager.adopt((info.kept, shares), info.incarnation, machine) {
        Ok(adopted) => log::debug!("incarnation {}: {adopted}, {} ticks", info.incarnation, rt::tsc() - began),
        Err(Broken::Head) => {
            log::debug!("what the incarnation before has kept is of another kind");
            rt::finish(End::ServerFailed)
        }
        Err(broken) => panic!("what the incarnation before has left cannot be trusted: {broken:x?}"),
    }
}

/// For [`serve`]: answers faults as the library does, and counts the ticks that it takes.
pub fn measured(message: &Answer, pager: &mut Pager, machine: &mut Machine) -> Option<Words> {
    machine.ticks.whole = true;
    let fault = message.fault()?;
    let start = rt::tsc();
    let words = pager.answer(&fault, machine);
    machine.ticks.all += rt::tsc() - start;
    Some(words)
}

/// Serves with `pager` for as long as the task lives. What is received is shown to `own` first: it may answer itself.
// A function of its own, so that what it keeps in registers is the fault's.
#[inline(never)]
pub fn serve(
    pager: &mut Pager,
    machine: &mut Machine,
    mut own: impl FnMut(&Answer, &mut Pager, &mut Machine) -> Option<Words>,
) -> ! {
    let mut next = rt::receive_words();
    loop {
        if let Some(words) = own(&next, pager, machine) {
            next = rt::reply_words(words);
            continue;
        }
        next = match next.fault() {
            Some(fault) => rt::reply_words(pager.answer(&fault, machine)),
            None => other(pager, machine, next),
        };
    }
}

/// Answers anything but a fault, if an answer is due, and receives what is next.
#[cold]
#[inline(never)]
fn other(pager: &mut Pager, machine: &mut Machine, message: Answer) -> Answer {
    let start = rt::tsc();
    let reply = match message.received() {
        Received::Fault(fault) => Some(pager.answer(&fault, machine)),
        Received::Call { vm, len } => Some(request(pager, machine, vm, len)),
        Received::RefusedReply(fault, refused) => Some(pager.after_refusal(&fault, refused, machine)),
        Received::Exit(exit) => {
            log::error!("the manifest made a pager the server of vm {}: {:?} is not answered", exit.vm, exit.exit);
            Some(park(&exit))
        }
        Received::Notice(bits, ended) => {
            if bits & notice::TIMER != 0 {
                timer_came(pager, machine);
            }
            for vm in (0..MAX_VMS).filter(|vm| ended >> vm & 1 != 0) {
                pager.vm_ended(vm, machine);
            }
            None
        }
        Received::Unknown(answer) if answer.status == Refused::NotAsked as u64 => None,
        Received::Unknown(answer) => {
            log::error!("a message that this version does not know: {answer:x?}");
            Some(INTERNAL)
        }
    };
    machine.ticks.all += rt::tsc() - start;
    match reply {
        Some(words) => rt::reply_words(words),
        None => rt::receive_words(),
    }
}

/// Does what the time has come for.
fn timer_came(pager: &mut Pager, machine: &mut Machine) {
    let (due, next) = machine.alarm.rang(rt::tsc());
    if next != 0 {
        rt::timer(next);
    }
    match due {
        Due::WaitedFor => pager.notice(machine),
        Due::Leisure => pager.at_leisure(machine),
        Due::Nothing => {}
    }
}

/// The vCPU stays where it is.
fn park(exit: &ExitMessage) -> Words {
    let flags = ResumeFlags::PARK;
    Resume { vcpu: exit.vcpu, vm: exit.vm, flags, write: StateMask::empty(), event: None }.to_words()
}

/// A request that is longer than any that this version knows is cut, and so malformed.
fn request(pager: &mut Pager, machine: &mut Machine, vm: usize, len: usize) -> Words {
    let mut bytes = [0; MESSAGE + 1];
    let len = len.min(bytes.len());
    rt::read_message(&mut bytes[..len]);
    let mut reply = [0; REPLY];
    let used = pager.request(vm, &bytes[..len], &mut reply, machine);
    rt::write_message(&reply[..used]);
    [used as u64, 0, 0, 0, 0, 0]
}

impl Machine {
    /// An operation of the kernel on a VM.
    fn op(&mut self, vm: usize, op: MemOp, arguments: [u64; 4]) -> Result<Words, Refused> {
        let start = rt::tsc();
        let done = rt::mem_op(vm, op, arguments);
        self.ticks.in_kernel += rt::tsc() - start;
        done
    }
}

impl Memory for Machine {
    #[inline(always)]
    fn clear(&mut self, frame: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).clear();
    }

    #[inline(always)]
    fn word(&self, frame: u32, index: usize) -> u32 {
        rt::frame(self.first_pfn + u64::from(frame)).word(index)
    }

    #[inline(always)]
    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).set_word(index, value);
    }

    #[inline(always)]
    fn is_zero(&self, frame: u32, index: usize, count: usize) -> bool {
        rt::frame(self.first_pfn + u64::from(frame)).is_zero(index, count)
    }

    #[inline(always)]
    fn set_row(&mut self, frame: u32, index: usize, count: usize, value: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).set_row(index, count, value);
    }

    #[inline(always)]
    fn zeros(&self, frame: u32, index: usize, most: usize) -> usize {
        rt::frame(self.first_pfn + u64::from(frame)).zeros(index, most)
    }

    #[inline(always)]
    fn row(&self, frame: u32, index: usize, most: usize, value: u32) -> usize {
        rt::frame(self.first_pfn + u64::from(frame)).row(index, most, value)
    }

    fn ask_for_time(&mut self) {
        if let Some(tsc) = self.alarm.ask_for_time(rt::tsc()) {
            rt::timer(tsc);
        }
    }

    fn ask_for_frames(&mut self) {
        rt::timer(self.alarm.wake_at(rt::tsc()));
    }

    fn read(&self, frame: u32, page: &mut PageBytes) {
        rt::frame(self.first_pfn + u64::from(frame)).read(page);
    }

    fn write(&mut self, frame: u32, page: &PageBytes) {
        rt::frame(self.first_pfn + u64::from(frame)).write(page);
    }

    fn fill(&mut self, frame: u32, value: u64) {
        rt::frame(self.first_pfn + u64::from(frame)).fill(value);
    }

    #[inline(always)]
    fn pair(&self, frame: u32, index: usize) -> u64 {
        rt::frame(self.first_pfn + u64::from(frame)).pair(index)
    }

    #[inline(always)]
    fn set_pair(&mut self, frame: u32, index: usize, value: u64) {
        rt::frame(self.first_pfn + u64::from(frame)).set_pair(index, value);
    }

    fn read_at(&self, frame: u32, index: usize, bytes: &mut [u8]) {
        rt::frame(self.first_pfn + u64::from(frame)).read_at(index, bytes);
    }

    fn write_at(&mut self, frame: u32, index: usize, bytes: &[u8]) {
        rt::frame(self.first_pfn + u64::from(frame)).write_at(index, bytes);
    }

    fn read_image(&mut self, image: u8, page: u64, frame: u32) -> bool {
        let Some(bytes) = self.images.get(usize::from(image)) else { return false };
        let bytes = usize::try_from(page).ok().and_then(|page| bytes.chunks(FRAME).nth(page)).unwrap_or_default();
        let mut content = [0; FRAME];
        content[..bytes.len()].copy_from_slice(bytes);
        self.write(frame, &content);
        true
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        self.op(vm, MemOp::Unmap, [first.0, pages, 0, 0]).map(|words| words[0])
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        self.op(vm, MemOp::Protect, [first.0, pages, u64::from(keep.bits()), 0]).map(|words| words[0])
    }

    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused> {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = grant.claim();
        self.op(vm, MemOp::Map, [shape, gfn, pfn, mmu_seq]).map(|words| words[0])
    }

    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused> {
        self.op(vm, MemOp::Donate, [first, count, 0, 0]).map(|_| ())
    }

    fn owned(&mut self, pfn: u64) -> Option<OwnedRun> {
        let [first, count, mapped, ..] = rt::mem_op(self.vm?, MemOp::Owned, [pfn, 0, 0, 0]).ok()?;
        Some(OwnedRun { first, count, mapped: mapped != 0 })
    }

    fn keep(&mut self, pfn: u64) {
        rt::keep(pfn);
    }

    fn next_mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        let [first, pfn, shape, ..] = self.op(vm, MemOp::Read, [gfn.0, 0, 0, 0]).ok()?;
        let shape = shape & !(3 << 32);
        ClaimedGrant { shape, gfn: first, pfn, mmu_seq: 0 }.typed().ok()
    }

    fn walk(&mut self, vm: usize, gfn: Gfn) -> Option<Walk> {
        self.op(vm, MemOp::Walk, [gfn.0, 0, 0, 0]).ok().map(|words| Walk::from_words(&words))
    }

    fn cpu(&mut self, vm: usize) -> Option<Cpu> {
        self.op(vm, MemOp::Info, [0; 4]).ok().map(|words| Cpu::from_word(words[3]))
    }

    fn harvest(&mut self, vm: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused> {
        self.op(vm, MemOp::Harvest, [first.0, frames, mode as u64, 0]).map(|words| words[0])
    }

    fn harvested(&self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        rt::read_message_at(word * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn generation(&mut self, vm: usize, generation: u64) -> Result<(), Refused> {
        self.op(vm, MemOp::Generation, [generation, 0, 0, 0]).map(|_| ())
    }

    fn set_log(&mut self, vm: usize, log: LogSwitch) -> Result<(), Refused> {
        let on = match log {
            LogSwitch::On => 1,
            LogSwitch::Off => 0,
        };
        self.op(vm, MemOp::SetLog, [on, 0, 0, 0]).map(|_| ())
    }

    fn mmu_seq(&mut self, vm: usize) -> Option<u64> {
        self.op(vm, MemOp::Info, [0; 4]).ok().map(|words| words[0])
    }

    fn ready(&mut self, vm: usize, token: u64) -> Result<(), Refused> {
        self.op(vm, MemOp::Ready, [token, 0, 0, 0]).map(|_| ())
    }

    fn now(&mut self) -> u64 {
        rt::tsc()
    }

    fn wake_at(&mut self, tsc: u64) {
        rt::timer(self.alarm.wake_at(tsc));
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        let mut bytes = [0; ClaimedGrant::BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip([shape, gfn, pfn, mmu_seq]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        rt::write_message_at(place * ClaimedGrant::BYTES, &bytes);
    }

    fn ticks(&self) -> Option<(u64, u64)> {
        let Ticks { all, in_kernel, whole } = self.ticks;
        whole.then_some((all - in_kernel, in_kernel))
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        rt::stat(key, value);
    }
}
