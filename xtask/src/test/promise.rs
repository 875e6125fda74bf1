//! Something promised, and how it is checked.

use super::report::Report;
use crate::setup::ToolchainChoice;
use clap::ValueEnum;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often is said what is still under way.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// A promise of the project.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What is promised: `noun::sentence`.
    pub name: &'static str,
    /// Checks it, and says in a few words what was seen.
    pub check: fn(&Bench, &str) -> anyhow::Result<String>,
}

/// Whether what is too long for every change runs at full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Shortened, never left out.
    Short,
    /// At full length.
    Full,
}

/// What every check has at hand.
#[derive(Clone, Debug)]
pub struct Bench {
    /// How much of the long ones runs.
    pub length: Length,
    /// The compiler for what runs in the machine.
    pub toolchain: ToolchainChoice,
    /// Where consoles and summaries go.
    pub logs: PathBuf,
}

impl Bench {
    /// xtask itself, as a person would start it here.
    ///
    /// # Errors
    /// It is not known where it is.
    pub fn xtask(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(toolchain) = self.toolchain.to_possible_value() {
            command.env("FAULTLINE_TOOLCHAIN", toolchain.get_name());
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// What a worker tells.
enum News {
    Begun(&'static str),
    Done(&'static str, anyhow::Result<String>),
}

/// Checks promises, `side_by_side` at a time, and reports each as it is done.
pub fn keep(promises: &[&Promise], bench: &Bench, side_by_side: usize, report: &mut Report) {
    let waiting: Mutex<VecDeque<&Promise>> = Mutex::new(promises.iter().copied().collect());
    let (sender, news) = channel();
    std::thread::scope(|scope| {
        for _ in 0..side_by_side.min(promises.len()) {
            let (sender, waiting) = (sender.clone(), &waiting);
            scope.spawn(move || work(waiting, bench, &sender));
        }
        drop(sender);
        let mut running = BTreeMap::new();
        loop {
            match news.recv_timeout(HEARTBEAT) {
                Ok(News::Begun(name)) => {
                    report.begun(name);
                    running.insert(name, Instant::now());
                }
                Ok(News::Done(name, outcome)) => {
                    let took = running.remove(name).map_or(Duration::ZERO, |start| start.elapsed());
                    report.done(name, took, outcome);
                }
                Err(RecvTimeoutError::Timeout) => report.still_running(&running),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
}

fn work(waiting: &Mutex<VecDeque<&Promise>>, bench: &Bench, sender: &Sender<News>) {
    loop {
        let next = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        let Some(promise) = next else { return };
        let check = || (promise.check)(bench, promise.name);
        // The receiver outlives every worker.
        let _ = sender.send(News::Begun(promise.name));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the check itself panicked")));
        let _ = sender.send(News::Done(promise.name, outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    fn bench() -> Bench {
        Bench { length: Length::Short, toolchain: ToolchainChoice::Auto, logs: PathBuf::new() }
    }

    const KEPT: Promise = Promise { name: "kept", check: |_, name| Ok(name.to_owned()) };
    const BROKEN: Promise = Promise { name: "broken", check: |_, _| anyhow::bail!("it is not so") };
    const PANICS: Promise = Promise { name: "panics", check: |_, _| panic!("on purpose") };

    #[test]
    fn a_broken_promise_and_a_check_that_panics_are_failures_and_the_others_go_on() {
        let mut report = Report::default();
        keep(&[&BROKEN, &PANICS, &KEPT, &KEPT], &bench(), 2, &mut report);
        assert_eq!(report.closing_line(), "2 passed, 2 failed, 0 skipped");
        assert_eq!(report.finish(), Status::Error);
    }

    #[test]
    fn kept_promises_end_well() {
        let mut report = Report::default();
        keep(&[&KEPT], &bench(), 8, &mut report);
        report.skip(3);
        assert_eq!(report.closing_line(), "1 passed, 0 failed, 3 skipped");
        assert_eq!(report.finish(), Status::Done);
    }

    #[test]
    fn a_run_in_which_nothing_passed_is_a_failure() {
        assert_eq!(Report::default().finish(), Status::Error);
    }
}
