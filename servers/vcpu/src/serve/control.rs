//! The control console of the VM: takes requests from the second serial port and answers them, a little at each of the
//! server's timer notices. It costs nothing between them.

use super::commands::Commands;
use super::line::{FIFO, Input, Line};
use super::precopy::{Precopy, Step};
use super::window::Ram;
use super::wrong::Verdict;
use core::fmt::Write;
use rt::Task;
use vcpu::console::{GREETING, Request};
use vcpu::machine::Machine;
use vcpu::memory::RamMap;

/// Between two looks at the port when nobody asks anything, in milliseconds.
const IDLE_MS: u64 = 20;
/// Between two steps of a long command.
const STEP_MS: u64 = 1;
/// Bytes a second at 115200 baud.
const BYTES_HZ: u64 = 11_520;

/// The console.
pub struct Control {
    line: Line,
    commands: Commands,
    /// The command that is under way.
    job: Option<Precopy>,
    tsc_hz: u64,
    /// When this is called next.
    due: u64,
}

impl Control {
    /// The console, if the manifest gives this task the port and the VM has a pager.
    pub fn new(task: &Task, vm: u16) -> Option<Self> {
        let entry = task.vms().nth(usize::from(vm)).filter(|entry| entry.pager.is_some())?;
        let mut line = Line::of(task)?;
        let map = RamMap::new(u64::from(entry.memory) << 12);
        say(&mut line, format_args!("{GREETING}"));
        let tsc_hz = task.info.tsc_hz;
        Some(Self { line, commands: Commands::new(task, vm, map), job: None, tsc_hz, due: rt::tsc() })
    }

    /// When this wants to be called.
    pub const fn due(&self) -> u64 {
        self.due
    }

    /// Sends what is still to be sent: the system is about to end.
    pub fn flush(&mut self) {
        self.line.flush();
    }

    /// Whether nothing is under way that could change the guest.
    pub fn is_idle(&self) -> bool {
        self.job.is_none() && !self.line.is_busy() && !self.commands.types()
    }

    /// It is tick `now`: takes requests and answers them. Guest and devices stand still meanwhile.
    pub fn poll(&mut self, machine: &mut Machine, memory: &mut Ram, now: u64) {
        if now < self.due {
            return;
        }
        self.line.send();
        self.commands.type_on(machine);
        match &mut self.job {
            Some(job) => match job.step(&mut self.commands, &mut self.line) {
                Step::On => {}
                Step::Over(verdict) => {
                    self.job = None;
                    answer(&mut self.line, verdict);
                }
            },
            None => match self.line.input() {
                Some(Input::Line(text)) => self.request(&text, machine, memory),
                Some(Input::Overlong) => say(&mut self.line, format_args!("error: the line is too long")),
                None => {}
            },
        }
        self.line.send();
        let wait = if self.line.is_busy() || self.commands.types() {
            FIFO as u64 * self.tsc_hz / BYTES_HZ
        } else if self.job.is_some() {
            STEP_MS * self.tsc_hz / 1_000
        } else {
            IDLE_MS * self.tsc_hz / 1_000
        };
        self.due = rt::tsc() + wait;
    }

    fn request(&mut self, text: &str, machine: &Machine, memory: &mut Ram) {
        match Request::parse(text) {
            Ok(None) => {}
            Ok(Some(Request::Precopy(slot, to))) => match Precopy::begin(slot, to, &mut self.commands, memory) {
                Ok(job) => self.job = Some(job),
                Err(why) => answer(&mut self.line, Err(why)),
            },
            Ok(Some(request)) => {
                let verdict = self.commands.perform(&request, (machine, memory), &mut self.line);
                answer(&mut self.line, verdict);
            }
            Err(mistake) => say(&mut self.line, format_args!("error: {mistake}")),
        }
    }
}

/// The line that ends an answer.
fn answer(line: &mut Line, verdict: Verdict) {
    match verdict {
        Ok(()) => say(line, format_args!("ok")),
        Err(why) => say(line, format_args!("error: {why}")),
    }
}

/// A line of the protocol.
pub fn say(line: &mut Line, text: core::fmt::Arguments<'_>) {
    // Writing to the port never fails.
    let _ = writeln!(line, "{text}");
}
