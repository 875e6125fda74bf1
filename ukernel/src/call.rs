//! System calls: from number and words to what is done.

use crate::core::{Context, Core, Next};
use crate::log::{self, Letter};
use crate::task::Handle;
use crate::thread::{Question, State};
use crate::vcpu::Status;
use crate::{exit, memop, restart};
use heapless::String;
use ipc_proto::call::{Call, Cause, End, LINE, LINE_OFFSET, NO_REPLY};
use ipc_proto::exit::{Resume, ResumeFlags};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// What a system call came with, as the entry pushed it.
#[derive(Debug)]
#[repr(C)]
pub struct Caller {
    /// The message registers.
    pub words: Words,
    /// rax: which call.
    pub number: u64,
    /// Where it comes back to.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
}

impl Caller {
    /// Whether SYSEXIT may go there: not beyond the task's half of the address space.
    #[inline(always)]
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        (self.rip | self.rsp) < TASK_END
    }
}

/// The end of a task's half of the address space: SYSEXIT must not go beyond.
const TASK_END: u64 = 1 << 47;

/// A system call of the thread that runs.
#[inline(always)]
pub fn system_call(core: &mut Core, caller: &Caller) -> Next {
    let Caller { words, number, .. } = caller;
    let Context::Thread(id) = core.current else { return core.pick() };
    if !caller.is_sound() {
        let why = format_args!("a system call from outside of the task's addresses");
        return core.stop(id, (Cause::Trap, caller.rip), why);
    }
    let thread = &mut core.threads[usize::from(id)];
    thread.rip = caller.rip;
    thread.rsp = caller.rsp;
    if *number == Call::ReplyReceive as u64 {
        return core.reply_receive(id, words);
    }
    if *number == Call::ReplyReceive as u64 | NO_REPLY {
        return receive_only(core, id);
    }
    let done = match Call::from_number(*number) {
        None | Some(Call::ReplyReceive) => Err(Refused::UnknownCall),
        Some(Call::Send) => return send(core, id, words),
        Some(Call::MemOp) => memop::mem_op(core, id, words),
        Some(Call::Run) => run(core, id, words),
        Some(Call::Timer) => Ok(set_timer(core, id, words[0])),
        Some(Call::Log) => print(core, id, words, Letter::of_level(words[0])),
        Some(Call::PowerOff) => return power_off(core, id, words),
        Some(Call::Stat) => print(core, id, words, Letter::Figure),
        Some(Call::Supervise) => restart::supervise(core, id, words),
        Some(Call::Keep) => {
            core.threads[usize::from(id)].life.kept = words[0];
            Ok([0; 6])
        }
        Some(Call::Finish) => return core.is_over(id, End::from_number(words[0])),
    };
    let (status, words) = match done {
        Ok(words) => (0, words),
        Err(refused) => (refused as u64, [0; 6]),
    };
    let next = core.answer(id, status, words);
    core.run(next)
}

/// Receives without an answer: what was asked last must not need one.
fn receive_only(core: &mut Core, id: u8) -> Next {
    match core.threads[usize::from(id)].serving {
        Context::Vcpu(_) | Context::Thread(_) => core.back(id, Refused::Unanswered),
        Context::Idle if core.shows(id).is_some() => core.back(id, Refused::Unanswered),
        Context::Idle => core.receive(id),
    }
}

/// Calls a portal.
fn send(core: &mut Core, id: u8, words: &Words) -> Next {
    let (vm, to) = match core.system.tasks[usize::from(id)].handle(words[0]) {
        Ok(Handle::Portal(vm, to)) => (vm, to),
        Ok(_) => return core.back(id, Refused::BadHandle),
        Err(refused) => return core.back(id, refused),
    };
    if words[1] > 4096 {
        return core.back(id, Refused::BadLength);
    }
    if to == id || core.threads[usize::from(to)].state == State::Stopped {
        return core.back(id, Refused::Unreachable);
    }
    let len = words[1] as u16;
    core.threads[usize::from(id)].state = State::Asking(Question::Call { to, len, vm });
    let question = core.question(Context::Thread(id));
    core.ask(Context::Thread(id), to, question)
}

/// Lets a parked vCPU run.
fn run(core: &mut Core, id: u8, words: &Words) -> Result<Words, Refused> {
    let Handle::Vcpu(vcpu) = core.system.tasks[usize::from(id)].handle(words[0])? else {
        return Err(Refused::BadHandle);
    };
    let resume = [words[1], words[2], 0, 0, 0, 0];
    let resume = Resume::from_words(&resume).map_err(|_| Refused::UnknownVariant)?;
    if resume.flags.contains(ResumeFlags::MORE) {
        // More of what? There is no exit to hand over again.
        return Err(Refused::UnknownVariant);
    }
    match core.vcpus[usize::from(vcpu)].status {
        Status::Parked(exit) if !resume.flags.contains(ResumeFlags::PARK) => {
            exit::apply(core, vcpu, &resume, exit);
            core.make_ready(Context::Vcpu(vcpu));
            Ok([0; 6])
        }
        _ if resume.flags == ResumeFlags::WINDOW && resume.write.is_empty() && resume.event.is_none() => {
            core.load(vcpu);
            core.vcpus[usize::from(vcpu)].cpu.set_interrupt_window(crate::arch::vmx::guest::Window::Wanted);
            if let Status::Pending(_) = core.vcpus[usize::from(vcpu)].status {
                // Interrupts reach it; it comes back to the access that it waits for.
                core.vcpus[usize::from(vcpu)].status = Status::Ready;
                core.make_ready(Context::Vcpu(vcpu));
            }
            Ok([0; 6])
        }
        _ => Err(Refused::NotParked),
    }
}

fn set_timer(core: &mut Core, id: u8, deadline: u64) -> Words {
    core.threads[usize::from(id)].deadline = (deadline != 0).then_some(deadline);
    core.arm_timer();
    [0; 6]
}

/// Prints a line of the message page.
fn print(core: &Core, id: u8, words: &Words, letter: Letter) -> Result<Words, Refused> {
    let len = usize::try_from(words[1]).ok().filter(|len| *len <= LINE).ok_or(Refused::BadLength)?;
    let page = core.threads[usize::from(id)].task.message;
    let mut line = String::<LINE>::new();
    for at in LINE_OFFSET..LINE_OFFSET + len {
        let byte = core.system.memory.byte(page, at);
        // What is not printable ASCII could pass for a line of somebody else.
        let _ = line.push(if (0x20..0x7f).contains(&byte) { byte as char } else { '?' });
    }
    log::line(letter, &core.system.tasks[usize::from(id)].name, format_args!("{line}"));
    Ok([0; 6])
}

/// A supervisor ends its part of the system.
fn power_off(core: &mut Core, id: u8, words: &Words) -> Next {
    match core.system.tasks[usize::from(id)].handle(words[0]) {
        Ok(Handle::Machine) => core.is_over(id, End::from_number(words[1])),
        Ok(_) => core.back(id, Refused::BadHandle),
        Err(refused) => core.back(id, refused),
    }
}
