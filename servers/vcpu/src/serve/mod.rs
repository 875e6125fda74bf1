//! The server: load the guest, start its vCPU, then receive, resolve, reply.

mod console;
mod guest;
mod host_clock;
mod pager;
mod window;

use console::Console;
use ipc_proto::call::{End, notice};
use ipc_proto::exit::Resume;
use ipc_proto::layout::handle;
use ipc_proto::manifest::Manifest;
use ipc_proto::state::StateMask;
use pager::Pager;
use rt::{Received, StatePage, Task};
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
    /// The deadline that the kernel has.
    armed: u64,
}

/// Where the server begins.
pub fn main(task: Task) -> ! {
    let Some(vm) = served_vm(&task.info.vms, &task.manifest, usize::from(task.info.task)) else {
        log::error!("the manifest gives this server no VM, or more than one");
        give_up(End::ServerFailed);
    };
    let mut state = StatePage::take(usize::from(vm), 0);
    let (machine, memory) = match guest::set_up(&task, vm, &mut state) {
        Ok(guest) => guest,
        Err(error) => {
            log::error!("{error}");
            give_up(End::ServerFailed);
        }
    };
    let console = Console::new(&task);
    let mut server = Server { vm, machine, state, memory, console, armed: 0 };
    server.start();
    server.serve()
}

/// The one VM that names this task as its server.
fn served_vm(vms: &[u8], manifest: &Manifest, task: usize) -> Option<u16> {
    let name = &manifest.tasks.get(task)?.name;
    let mut served =
        vms.iter().filter(|vm| manifest.vms.get(usize::from(**vm)).is_some_and(|entry| entry.server == *name));
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

    fn serve(&mut self) -> ! {
        self.after(rt::tsc());
        let mut next = rt::receive();
        loop {
            next = match next {
                Received::Exit(message) => {
                    let now = rt::tsc();
                    match self.machine.exit(&message.exit, &mut self.state, &mut self.memory, now) {
                        Ok(answer) => {
                            self.after(now);
                            rt::reply(self.resume(answer).to_words())
                        }
                        Err(ending) => self.end(&ending, message.exit.travels()),
                    }
                }
                Received::Notice(bits) => {
                    // Other tasks are none of this VM's business.
                    if bits & notice::TASK_STOPPED != 0 && Pager::has_stopped(self.vm) {
                        log::error!("the pager has stopped, and this VM cannot do without");
                        self.finish(End::ServerFailed);
                    }
                    self.notice();
                    rt::receive()
                }
                Received::Call { vm, .. } => {
                    log::warn!("the server of VM {vm} calls, and nothing is offered here");
                    rt::reply_call(0)
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
            };
        }
    }

    /// The timer that was asked for has come.
    fn notice(&mut self) {
        self.armed = 0;
        let now = rt::tsc();
        if self.machine.bus.uart.has_room()
            && let Some(byte) = self.console.typed(now)
        {
            self.machine.bus.receive(byte);
        }
        if let Some(answer) = self.machine.tick(now)
            && let Err(refused) = rt::run(self.resume(answer))
        {
            log::error!("the kernel refuses to resume the vCPU: {refused}");
            self.finish(End::ServerFailed);
        }
        self.after(now);
    }

    /// Puts out what the guest has sent and asks for the next notification.
    fn after(&mut self, now: u64) {
        let sent = self.machine.bus.uart.sent();
        self.console.put(sent, now);
        let console = self.console.deadline(sent);
        let wanted = [self.machine.bus.deadline(), console].into_iter().flatten().min().unwrap_or(0);
        if wanted == 0 && self.machine.is_halted() {
            self.end(&Ending::Stranded, StateMask::empty());
        }
        if wanted != self.armed {
            self.armed = wanted;
            rt::timer(wanted);
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
        }
        self.finish(end)
    }

    fn finish(&mut self, end: End) -> ! {
        self.console.flush(self.machine.bus.uart.sent());
        let figures = self.machine.figures();
        rt::stat(format_args!("exits.served"), figures.exits);
        rt::stat(format_args!("interrupts.delivered"), figures.interrupts);
        report("ports.unknown", "port", &self.machine.bus.unknown);
        report("msrs.unknown", "MSR", &self.machine.msrs.unknown);
        report("mmio.unknown", "memory page", &self.machine.mmio.unknown);
        Pager::report(self.vm);
        give_up(end)
    }
}

/// One figure for the summary, and a line for each number behind it.
fn report(key: &str, noun: &str, tally: &Tally) {
    rt::stat(format_args!("{key}"), tally.total());
    for (number, count) in tally.iter() {
        log::info!("unknown {noun} {number:#x}: {count} times");
    }
}

/// Ends the system; a task that may not ends itself.
fn give_up(end: End) -> ! {
    if let Err(refused) = rt::power_off(end) {
        log::error!("cannot power off by handle {}: {refused}", handle::MACHINE);
    }
    panic!("nothing is left to do")
}
