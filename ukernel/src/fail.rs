//! Ends: a task that stops, a system that ends, a kernel that finds itself broken.

use crate::arch::door::TrapFrame;
use crate::arch::machine;
use crate::core::{Context, Core, Next};
use crate::figures;
use crate::log::{self, Letter};
use crate::thread::{Question, State, Thread};
use crate::vcpu::Status;
use core::fmt::{self, Arguments};
use ipc_proto::call::{Cause, End, notice};
use ipc_proto::refused::Refused;

impl Core {
    /// Stops a thread for what it did. Whoever it was serving waits for who comes after it; grants stay.
    #[cold]
    pub fn stop(&mut self, id: u8, cause: (Cause, u64), why: Arguments<'_>) -> Next {
        self.has_stopped(id, cause, why);
        self.pick()
    }

    /// The same for a thread that does not run: who does goes on.
    #[cold]
    pub fn has_stopped(&mut self, id: u8, cause: (Cause, u64), why: Arguments<'_>) {
        let name = &self.system.tasks[usize::from(id)].name;
        log::line(Letter::ERROR, "ukernel", format_args!("task {name} stopped: {why}"));
        self.mark_stopped(id, cause);
    }

    /// Marks a thread as stopped and tells the supervisors that are left; without any, the system ends.
    pub fn mark_stopped(&mut self, id: u8, cause: (Cause, u64)) {
        self.withdraw(id, cause);
        for (supervisor, task) in self.system.tasks.iter().enumerate() {
            if task.supervisor && supervisor != usize::from(id) {
                self.notify(supervisor as u8, notice::TASK_STOPPED);
            }
        }
        self.end_with_the_last();
    }

    /// Task `id` has nothing more to do, and says how. Other VMs go on; the system ends with the last supervisor.
    pub fn is_over(&mut self, id: u8, how: End) -> Next {
        self.threads[usize::from(id)].end = Some(how);
        self.mark_stopped(id, (Cause::Done, how as u64));
        self.pick()
    }

    /// Thread `id` does nothing more. Whoever it was serving waits for who comes after it, as do those whose faults it has
    /// promised to answer; what it waited for itself is not asked any more, and a VM that it serves is over.
    fn withdraw(&mut self, id: u8, cause: (Cause, u64)) {
        self.forget(Context::Thread(id));
        let thread = &mut self.threads[usize::from(id)];
        thread.state = State::Stopped;
        thread.deadline = None;
        thread.life.cause = cause;
        let unanswered = core::mem::replace(&mut thread.serving, Context::Idle);
        thread.askers.insert(unanswered);
        self.compared(id, None);
        self.answer_callers(id);
        for vcpu in 0..self.vcpus.len() as u8 {
            let of = self.vcpus[usize::from(vcpu)].of;
            if of.server == id {
                self.forget(Context::Vcpu(vcpu));
                self.vcpus[usize::from(vcpu)].status = Status::Parked(None);
                if let Some(pager) = of.pager.filter(|pager| *pager != id) {
                    self.notify(pager, notice::VM_ENDED);
                }
            } else if of.pager == Some(id) && matches!(self.vcpus[usize::from(vcpu)].status, Status::Pending(_)) {
                self.vcpus[usize::from(vcpu)].faults();
                self.threads[usize::from(id)].askers.insert(Context::Vcpu(vcpu));
            }
        }
    }

    /// Ends the system if no supervisor is left: as badly as any of them says, and badly if one stopped.
    fn end_with_the_last(&self) {
        let all = self.system.tasks.iter().zip(&self.threads).filter(|(task, _)| task.supervisor).enumerate();
        if all.clone().all(|(_, (_, thread))| self.can_do_nothing(thread)) {
            let worst = all.clone().map(|(_, (_, thread))| thread.end.unwrap_or(End::ServerFailed));
            let worst = worst.max_by_key(|end| *end as u64).unwrap_or(End::ServerFailed);
            let words = fmt::from_fn(|f| {
                all.clone().try_for_each(|(place, (task, thread))| {
                    let between = if place == 0 { "" } else { "; " };
                    let what = thread.end.map_or("it cannot go on", End::text);
                    write!(f, "{between}{}: {what}", task.name)
                })
            });
            end(self, worst, format_args!("{words}"));
        }
    }

    /// Whether a thread has stopped, or waits in a window for a pager that has.
    fn can_do_nothing(&self, thread: &Thread) -> bool {
        match thread.state {
            State::Stopped => true,
            State::Asking(Question::Window { vm, .. }) => self.system.vms[usize::from(vm)]
                .pager
                .is_some_and(|pager| self.threads[usize::from(pager)].state == State::Stopped),
            State::Asking(Question::Call { .. }) | State::Frame | State::Answered | State::Receiving => false,
        }
    }

    /// Nobody shall answer `context` any more: its answer would be refused as one that nothing asked for.
    fn forget(&mut self, context: Context) {
        for thread in &mut self.threads {
            thread.askers.remove(context);
            if thread.serving == context {
                thread.serving = Context::Idle;
            }
        }
    }

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
    let TrapFrame { vector, error, rip, rsp, .. } = frame;
    let why = format_args!("exception {vector} ({error:#x}) in the kernel at {rip:#x}, stack {rsp:#x}, CR2 {cr2:#x}");
    log::line(Letter::ERROR, "ukernel", why);
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
