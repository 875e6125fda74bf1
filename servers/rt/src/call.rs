//! The system calls: SYSENTER with a number and six words, see [`ipc_proto::call`].
#![expect(unsafe_code, reason = "SYSENTER")]

use core::arch::asm;
use ipc_proto::call::{self, Call, Deed, End, NO_REPLY};
use ipc_proto::exit::{ExitMessage, Resume};
use ipc_proto::fault::Fault;
use ipc_proto::layout::handle;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// Status and words of a system call that came back.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// 0, the number of a [`Refused`], or the number of a [`call::Received`].
    pub status: u64,
    /// The words.
    pub words: Words,
}

impl Answer {
    /// The fault, if that is what was received: the quick way for a pager's usual message.
    #[inline(always)]
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        if self.status != call::Received::Fault as u64 {
            return None;
        }
        match Fault::from_words(&self.words) {
            Ok(fault) => Some(fault),
            Err(_) => None,
        }
    }

    /// The exit, if that is what was received: likewise for a VM's server.
    #[inline(always)]
    #[must_use]
    pub const fn exit(&self) -> Option<ExitMessage> {
        if self.status != call::Received::Exit as u64 {
            return None;
        }
        match ExitMessage::from_words(&self.words) {
            Ok(exit) => Some(exit),
            Err(_) => None,
        }
    }

    /// What was received, whatever it is.
    #[must_use]
    pub fn received(self) -> Received {
        received(self)
    }

    fn checked(self) -> Result<Words, Refused> {
        match Refused::from_number(self.status) {
            None => Ok(self.words),
            Some(refused) => Err(refused),
        }
    }
}

/// What a server received.
#[derive(Clone, Copy, Debug)]
pub enum Received {
    /// A guest's fault.
    Fault(Fault),
    /// A guest's exit.
    Exit(ExitMessage),
    /// A call by the server of VM `vm`: that many bytes are in the message page.
    Call {
        /// The VM whose server calls.
        vm: usize,
        /// How many bytes of the message page are the request's.
        len: usize,
    },
    /// Notification bits, see [`call::notice`], and with `VM_ENDED` a bit for each VM that is over.
    Notice(u64, u64),
    /// The last reply was refused; the fault waits for another.
    RefusedReply(Fault, Refused),
    /// Something that this version does not know.
    Unknown(Answer),
}

#[inline(always)]
fn enter(number: u64, words: Words) -> Answer {
    let [mut w0, mut w1, mut w2, mut w3, mut w4, mut w5] = words;
    let mut status = number;
    // SAFETY: the kernel comes back to rdx with rcx as stack pointer and changes nothing else of this task but the
    // registers named here and the pages that the call is documented to write.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rcx, rsp",
            "lea rdx, [rip + 2f]",
            "sysenter",
            "2:",
            "pop rbp",
            "pop rbx",
            inout("rax") status,
            inout("rdi") w0,
            inout("rsi") w1,
            inout("r8") w2,
            inout("r9") w3,
            inout("r10") w4,
            inout("r11") w5,
            lateout("rcx") _, lateout("rdx") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
    }
    Answer { status, words: [w0, w1, w2, w3, w4, w5] }
}

#[inline(always)]
fn received(answer: Answer) -> Received {
    let words = answer.words;
    match call::Received::from_number(answer.status) {
        Some(call::Received::Fault) => match Fault::from_words(&words) {
            Ok(fault) => Received::Fault(fault),
            Err(_) => Received::Unknown(answer),
        },
        Some(call::Received::Exit) => match ExitMessage::from_words(&words) {
            Ok(exit) => Received::Exit(exit),
            Err(_) => Received::Unknown(answer),
        },
        Some(call::Received::Call) => Received::Call { vm: words[0] as usize, len: words[1] as usize },
        Some(call::Received::Notice) => Received::Notice(words[0], words[1]),
        Some(call::Received::RefusedReply) => match (Fault::from_words(&words), Refused::from_number(words[5])) {
            (Ok(fault), Some(refused)) => Received::RefusedReply(fault, refused),
            _ => Received::Unknown(answer),
        },
        None => Received::Unknown(answer),
    }
}

/// Waits for the next message without answering one.
#[inline(always)]
#[must_use]
pub fn receive() -> Received {
    received(enter(Call::ReplyReceive as u64 | NO_REPLY, [0; 6]))
}

/// Answers the message received last and waits for the next.
#[inline(always)]
#[must_use]
pub fn reply(words: Words) -> Received {
    received(enter(Call::ReplyReceive as u64, words))
}

/// As [`reply`], for a server that looks at the words itself.
#[inline(always)]
#[must_use]
pub fn reply_words(words: Words) -> Answer {
    enter(Call::ReplyReceive as u64, words)
}

/// As [`receive`], for a server that looks at the words itself.
#[inline(always)]
#[must_use]
pub fn receive_words() -> Answer {
    enter(Call::ReplyReceive as u64 | NO_REPLY, [0; 6])
}

/// Answers a [`Received::Call`] with `len` bytes of the message page and waits for the next message.
#[must_use]
pub fn reply_call(len: usize) -> Received {
    reply([len as u64, 0, 0, 0, 0, 0])
}

/// Makes any system call: for tests of what the kernel refuses.
#[must_use]
pub fn system_call(number: u64, words: Words) -> Answer {
    enter(number, words)
}

/// Calls a portal with `len` bytes of the message page and says how many came back there.
///
/// # Errors
/// `BadHandle`, `BadLength`, `Unreachable`.
pub fn send(portal: u16, len: usize) -> Result<usize, Refused> {
    let words = enter(Call::Send as u64, [u64::from(portal), len as u64, 0, 0, 0, 0]).checked()?;
    Ok(words[0] as usize)
}

/// An operation on VM `vm`: `arguments` are words 2 to 5.
///
/// # Errors
/// What [`MemOp`] says of the operation.
pub fn mem_op(vm: usize, op: MemOp, arguments: [u64; 4]) -> Result<Words, Refused> {
    let [w2, w3, w4, w5] = arguments;
    enter(Call::MemOp as u64, [u64::from(handle::vm(vm)), op as u64, w2, w3, w4, w5]).checked()
}

/// Gives `count` frames from `first` to the table pool of VM `vm`.
///
/// # Errors
/// `NotYours`, `KernelObject`, `StillMapped`.
pub fn donate(vm: usize, first: u64, count: u64) -> Result<(), Refused> {
    mem_op(vm, MemOp::Donate, [first, count, 0, 0]).map(|_| ())
}

/// Lets a parked vCPU go on; of one that is not parked only the window request is taken.
///
/// # Errors
/// `BadHandle`; `NotParked` when it is not parked and the resume asks for more than a window.
pub fn run(resume: Resume) -> Result<(), Refused> {
    let [w0, w1, ..] = resume.to_words();
    let vcpu = handle::vcpu(resume.vm as usize, resume.vcpu as usize);
    enter(Call::Run as u64, [u64::from(vcpu), w0, w1, 0, 0, 0]).checked().map(|_| ())
}

/// Asks for a notification when the time-stamp counter reaches `deadline`; 0 cancels.
pub fn timer(deadline: u64) {
    enter(Call::Timer as u64, [deadline, 0, 0, 0, 0, 0]);
}

/// Ends this task's part of the system, with the last supervisor's the system. Comes back only when the task may not.
///
/// # Errors
/// `BadHandle`.
pub fn power_off(end: End) -> Result<(), Refused> {
    enter(Call::PowerOff as u64, [u64::from(handle::MACHINE), end as u64, 0, 0, 0, 0]).checked().map(|_| ())
}

/// Ends this task: it is done, and how.
pub fn finish(end: End) -> ! {
    enter(Call::Finish as u64, [end as u64, 0, 0, 0, 0, 0]);
    // A task that is done does not come back.
    loop {
        let _ = receive();
    }
}

/// The next incarnation of this task finds `value` in its boot information.
pub fn keep(value: u64) {
    enter(Call::Keep as u64, [value, 0, 0, 0, 0, 0]);
}

/// A supervisor looks at a task, stops it, or starts it with that image.
///
/// # Errors
/// `BadHandle`, `NoRight`, `Unanswered` when it runs, `BadCount` without such an image.
pub fn supervise(task: usize, deed: Deed, image: usize) -> Result<Words, Refused> {
    let words = [u64::from(handle::MACHINE), task as u64, deed as u64, image as u64, 0, 0];
    enter(Call::Supervise as u64, words).checked()
}

/// Reports one figure for the summary: `key value`.
pub fn stat(key: core::fmt::Arguments<'_>, value: u64) {
    let len = crate::logger::format(format_args!("{key} {value}"));
    enter(Call::Stat as u64, [0, len as u64, 0, 0, 0, 0]);
}

/// Prints `len` bytes of the message page as log lines.
pub(crate) fn log(level: u64, len: usize) {
    enter(Call::Log as u64, [level, len as u64, 0, 0, 0, 0]);
}

/// The time-stamp counter.
#[inline(always)]
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter; the kernel leaves CR4.TSD clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Stops this task with an invalid opcode.
#[cfg(target_os = "none")]
pub(crate) fn stop() -> ! {
    // SAFETY: UD2 does not come back.
    unsafe { asm!("ud2", options(noreturn)) }
}
