//! The server: load the guest, start its vCPU, then receive, resolve, reply.

mod commands;
mod console;
mod control;
mod figures;
mod guest;
mod host_clock;
mod line;
mod lives;
mod pager;
mod precopy;
mod rows;
mod shadow;
mod swap;
mod window;
mod wrong;

use console::Console;
use control::Control;
use ipc_proto::call::{End, notice};
use ipc_proto::exit::{Exit, ExitMessage, Resume};
use ipc_proto::grant::Gpa;
use ipc_proto::layout::handle;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::slot::SlotRequest;
use ipc_proto::state::StateMask;
use ipc_proto::walk::Walk;
use pager::Pager;
use rt::{Received, StatePage, Task};
use vcpu::clock::{Tsc, earliest};
use vcpu::ending::{Ending, log_registers};
use vcpu::machine::{Answer, Machine};
use vcpu::tally::Tally;
use window::Ram;

/// Everything that the loop needs.
struct Server {
    vm: u16,
    machine: Machine,
    state: StatePage,
    memory: Ram,
    console: Console,
    control: Option<Control>,
    /// The deadline that the kernel has: never later than what is wanted.
    armed: Option<Tsc>,
}

/// Where the server begins.
pub fn main(task: Task) -> ! {
    let Some(vm) = served_vm(&task) else {
        log::error!("the manifest gives this server no VM, or more than one");
        give_up(End::ServerFailed);
    };
    Pager::is_revived(&task, usize::from(vm));
    let mut state = StatePage::take(usize::from(vm), 0);
    let (machine, memory) = match guest::set_up(&task, vm, &mut state) {
        Ok(guest) => guest,
        Err(error) => {
            log::error!("{error}");
            give_up(End::ServerFailed);
        }
    };
    let mut console = Console::new(&task);
    let control = Control::new(&task, vm);
    console.also_at(control.as_ref().map(Control::due));
    let mut server = Server { vm, machine, state, memory, console, control, armed: None };
    server.start();
    server.serve()
}

/// The one VM that names this task as its server.
fn served_vm(task: &Task) -> Option<u16> {
    let serves = |vm: &&u8| task.vms().nth(usize::from(**vm)).is_some_and(|vm| vm.server == task.entry().name);
    let mut served = task.info.vms.iter().filter(serves);
    match (served.next(), served.next()) {
        (Some(vm), None) => Some(u16::from(*vm)),
        _ => None,
    }
}

impl Server {
    fn start(&mut self) {
        let all = Answer { write: StateMask::all(), ..Answer::again() };
        if let Err(refused) = rt::run(self.resume(all)) {
            log::error!("the kernel refuses to start the vCPU: {refused}");
            self.finish(End::ServerFailed);
        }
    }

    /// Receive, resolve, reply. Most exits need no look at the clock, the console or the timer.
    fn serve(&mut self) -> ! {
        self.after(rt::tsc());
        let mut next = rt::receive_words();
        loop {
            let Some(message) = next.exit() else {
                let received = rt::Answer { ..next };
                next = self.other(received);
                continue;
            };
            let (head, event) = match self.machine.exit_at_once(&message.exit, &mut self.state) {
                Some(flags) => two_words(&Resume { flags, ..Resume::advance(self.vm, 0) }),
                None => self.exit(next.words[0], next.words[1], next.words[2]),
            };
            next = rt::reply_words([head, event, 0, 0, 0, 0]);
        }
    }

    /// Any other exit.
    #[inline(never)]
    fn exit(&mut self, head: u64, first: u64, second: u64) -> (u64, u64) {
        let words = [head, first, second, 0, 0, 0];
        let Ok(message) = ExitMessage::from_words(&words) else { return (head, first) };
        let now = rt::tsc();
        if let exit @ Exit::Mmio(gpa, qualification) = &message.exit {
            let (state, memory) = (&mut self.state, &mut self.memory);
            return match self.machine.memory_exit(exit, *gpa, *qualification, state, memory, now) {
                Ok(answer) => two_words(&self.resume(answer)),
                Err(ending) => self.end(&ending, exit.travels()),
            };
        }
        match self.machine.exit(&message.exit, &mut self.state, &mut self.memory, now) {
            Ok(answer) => {
                self.after(now);
                two_words(&self.resume(answer))
            }
            Err(ending) => self.end(&ending, message.exit.travels()),
        }
    }

    /// Whatever is no exit of the guest.
    #[inline(never)]
    fn other(&mut self, answer: rt::Answer) -> rt::Answer {
        match answer.received() {
            Received::Notice(bits, _) => {
                // Other tasks are none of this VM's business.
                if bits & notice::TASK_STOPPED != 0 && Pager::has_stopped(self.vm) {
                    log::error!("the pager has stopped, and this VM cannot do without");
                    self.finish(End::ServerFailed);
                }
                self.notice();
                rt::receive_words()
            }
            Received::Call { vm, .. } => {
                log::warn!("the server of VM {vm} calls, and nothing is offered here");
                rt::reply_words([0; 6])
            }
            Received::Exit(_) => {
                let [head, first, second, ..] = answer.words;
                let (head, event) = self.exit(head, first, second);
                rt::reply_words([head, event, 0, 0, 0, 0])
            }
            Received::Fault(fault) => {
                log::error!("a fault at {:#x} came here: this task is no pager", fault.gpa.0);
                self.finish(End::ServerFailed)
            }
            Received::RefusedReply(_, refused) => {
                log::error!("the kernel refused a reply: {refused}");
                self.finish(End::ServerFailed)
            }
            Received::Unknown(answer) => {
                log::error!("the kernel answered {:#x} {:x?}", answer.status, answer.words);
                self.finish(End::ServerFailed)
            }
        }
    }

    /// The timer that was asked for has come.
    fn notice(&mut self) {
        self.armed = None;
        let now = rt::tsc();
        if self.machine.bus.uart.has_room()
            && let Some(byte) = self.console.typed(now)
        {
            self.machine.bus.receive(byte);
        }
        if let Some(control) = &mut self.control {
            control.poll(&mut self.machine, &mut self.memory, now);
            self.console.also_at(Some(control.due()));
        }
        if let Some(answer) = self.machine.tick(now)
            && let Err(refused) = rt::run(self.resume(answer))
        {
            log::error!("the kernel refuses to resume the vCPU: {refused}");
            self.finish(End::ServerFailed);
        }
        self.after(now);
        // Notices that only the control console asks for wake nobody.
        let idle = self.control.as_ref().is_some_and(Control::is_idle) && !self.console.is_awaited();
        if idle && self.machine.is_halted() && self.machine.bus.deadline().is_none() {
            self.end(&Ending::Stranded, StateMask::empty());
        }
    }

    /// Puts out what the guest has sent and asks for the next notification.
    fn after(&mut self, now: u64) {
        let sent = self.machine.bus.uart.sent();
        self.console.put(sent, now);
        let console = self.console.deadline(sent);
        match earliest(self.machine.bus.deadline(), console) {
            // A notification that comes too early costs one look; a deadline that is masked for a moment comes back.
            Some(wanted) if self.armed.is_none_or(|armed| wanted < armed) => {
                self.armed = Some(wanted);
                rt::timer(wanted);
            }
            None if self.machine.is_halted() => self.end(&Ending::Stranded, StateMask::empty()),
            Some(_) | None => {}
        }
    }

    fn resume(&self, answer: Answer) -> Resume {
        let Answer { flags, write, event } = answer;
        Resume { vcpu: 0, vm: self.vm, flags, write, event }
    }

    /// The VM is over; the state page holds what is `known`.
    fn end(&mut self, ending: &Ending, known: StateMask) -> ! {
        self.console.flush(self.machine.bus.uart.sent());
        let end = ending.end();
        if end == End::Done {
            log::info!("{ending}");
        } else {
            log::error!("{ending}");
            log_registers(&self.state, known);
            if let Ending::Stuck(gpa, _) = ending {
                self.tell_story(Gpa(*gpa));
            }
        }
        self.finish(end)
    }

    /// Everything there is to know of an address that faults without end: the entries of the EPT, and what the pager says.
    fn tell_story(&self, gpa: Gpa) {
        match rt::mem_op(usize::from(self.vm), MemOp::Walk, [gpa.gfn().0, 0, 0, 0]) {
            Ok(words) => Walk::from_words(&words).entries().for_each(|entry| log::error!("EPT {entry}")),
            Err(refused) => log::error!("no walk of the EPT: {refused}"),
        }
        if let Err(error) = Pager::of(self.vm).request(&SlotRequest::Why(gpa)) {
            log::error!("{error}");
        }
    }

    fn finish(&mut self, end: End) -> ! {
        self.console.flush(self.machine.bus.uart.sent());
        if let Some(control) = &mut self.control {
            control.flush();
        }
        let figures = self.machine.figures();
        rt::stat(format_args!("exits.served"), figures.exits);
        rt::stat(format_args!("interrupts.delivered"), figures.interrupts);
        report("ports.unknown", "port", &self.machine.bus.unknown);
        report("msrs.unknown", "MSR", &self.machine.msrs.unknown);
        report("mmio.unknown", "memory page", &self.machine.mmio.unknown);
        Pager::report(self.vm);
        shadow::report(self.vm);
        give_up(end)
    }
}

/// A resume in the two words that it has.
const fn two_words(resume: &Resume) -> (u64, u64) {
    let [head, event, ..] = resume.to_words();
    (head, event)
}

/// One figure for the summary, and a line for each number behind it.
fn report(key: &str, noun: &str, tally: &Tally) {
    rt::stat(format_args!("{key}"), tally.total());
    for (number, count) in tally.iter() {
        log::info!("unknown {noun} {number:#x}: {count} times");
    }
}

/// Ends the system; a task that may not says to its supervisor how the VM has ended.
fn give_up(end: End) -> ! {
    match rt::power_off(end) {
        Ok(()) | Err(Refused::BadHandle) => {}
        Err(refused) => log::error!("cannot power off by handle {}: {refused}", handle::MACHINE),
    }
    rt::finish(end)
}
