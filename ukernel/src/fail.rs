//! Ends: a task that stops, a system that ends, a kernel that finds itself broken.

use crate::arch::door::TrapFrame;
use crate::arch::machine;
use crate::core::{Context, Core, Next};
use crate::figures;
use crate::log::{self, Letter};
use crate::thread::{Question, State};
use core::fmt::Arguments;
use ipc_proto::call::{End, notice};
use ipc_proto::refused::Refused;

impl Core {
    /// Stops a thread for what it did. Whoever it was serving waits for who comes after it; grants stay.
    #[cold]
    pub fn stop(&mut self, id: u8, why: Arguments<'_>) -> Next {
        let name = &self.system.tasks[usize::from(id)].name;
        log::line(Letter::ERROR, "ukernel", format_args!("task {name} stopped: {why}"));
        self.mark_stopped(id);
        self.pick()
    }

    /// Marks a thread as stopped and tells the supervisors; without any, the system ends.
    pub fn mark_stopped(&mut self, id: u8) {
        let thread = &mut self.threads[usize::from(id)];
        thread.state = State::Stopped;
        thread.deadline = None;
        let unanswered = core::mem::replace(&mut thread.serving, Context::Idle);
        thread.askers.insert(unanswered);
        self.answer_callers(id);
        let mut told = false;
        for (supervisor, task) in self.system.tasks.iter().enumerate() {
            let waits = matches!(self.threads[supervisor].state, State::Stopped | State::Asking(_));
            if task.supervisor && !waits {
                told = true;
                self.notify(supervisor as u8, notice::TASK_STOPPED);
            }
        }
        if !told {
            end(self, End::ServerFailed, format_args!("no supervisor is left that could do something about it"));
        }
    }
}

impl Core {
    /// Whoever called a thread that has stopped is told so.
    fn answer_callers(&mut self, stopped: u8) {
        for caller in 0..self.threads.len() as u8 {
            if let State::Asking(Question::Call { to, .. }) = self.threads[usize::from(caller)].state
                && to == stopped
            {
                self.threads[usize::from(stopped)].askers.remove(Context::Thread(caller));
                let next = self.back(caller, Refused::Unreachable);
                self.defer(next);
            }
        }
    }
}

/// Ends the system: figures, the ledger's proof if the manifest wants it, the last line, and the machine.
pub fn end(core: &Core, end: End, why: Arguments<'_>) -> ! {
    let sound = figures::print(core);
    let end = if sound { end } else { End::KernelFailed };
    last_line(end, why)
}

/// Ends the machine because the kernel is broken: what it says of itself is not to be trusted further.
#[cold]
pub fn end_kernel(core: &Core, why: Arguments<'_>) -> ! {
    figures::print(core);
    last_line(End::KernelFailed, why)
}

/// Ends the machine at boot: it lacks something, or the system is not one.
#[cold]
pub fn end_boot(why: Arguments<'_>) -> ! {
    log::line(Letter::ERROR, "ukernel", why);
    last_line(End::KernelFailed, format_args!("the system was not started"))
}

/// A fault of the kernel itself.
#[cold]
pub fn kernel_fault(frame: &TrapFrame, cr2: u64) -> ! {
    log::line(
        Letter::ERROR,
        "ukernel",
        format_args!(
            "exception {} (error {:#x}) in the kernel at {:#x}, stack {:#x}, CR2 {cr2:#x}",
            frame.vector, frame.error, frame.rip, frame.rsp
        ),
    );
    last_line(End::KernelFailed, format_args!("the kernel faulted"))
}

/// A panic of the kernel.
#[cold]
pub fn panicked(info: Arguments<'_>) -> ! {
    log::line(Letter::ERROR, "ukernel", info);
    last_line(End::KernelFailed, format_args!("the kernel panicked"))
}

fn last_line(end: End, why: Arguments<'_>) -> ! {
    log::line(Letter::End, "ukernel", format_args!("{} {why}", end as u64));
    machine::power_off(end as u8)
}
