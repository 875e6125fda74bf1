//! Watching one run: console in, screen and log out, until the machine stops, time is up, or somebody leaves.

use super::screen::Screen;
use super::{Options, Outcome, terminal};
use crate::console::{Kind, Piece, Splitter, SystemLine};
use crate::machine::{self, Event, Keyboard, Machine, Running};
use crate::progress::say;
use crate::status::Status;
use crate::summary::Figures;
use crate::system::System;
use anyhow::Context;
use ipc_proto::call::End;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a machine may take to stop after the system has ended.
const GRACE: Duration = Duration::from_secs(20);
/// The longest wait for console bytes between two looks at the clock.
const TICK: Duration = Duration::from_millis(50);

/// Watches one run.
pub struct Watch {
    timeout: Option<Duration>,
    log: Option<File>,
    screen: Screen,
    splitter: Splitter,
    loader: Vec<u8>,
    /// What the machine around the system said.
    around: Vec<String>,
    ended: Option<Instant>,
    outcome: Outcome,
}

impl Watch {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn new(options: &Options, system: &System, machine: Machine) -> anyhow::Result<Self> {
        let create = |path: &PathBuf| File::create(path).with_context(|| format!("writing {}", path.display()));
        let outcome = Outcome {
            status: Status::Failed,
            reason: String::new(),
            end: None,
            qemu_status: None,
            system: system.manifest.name.as_str().to_owned(),
            machine,
            errors: Vec::new(),
            figures: Figures::default(),
            duration: Duration::ZERO,
        };
        Ok(Self {
            timeout: options.timeout,
            log: options.log.as_ref().map(create).transpose()?,
            screen: Screen::new(options.show),
            splitter: Splitter::default(),
            loader: Vec::new(),
            around: Vec::new(),
            ended: None,
            outcome,
        })
    }

    /// Until the machine stops, time is up, or somebody wants to leave.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn watch(&mut self, mut running: Running, keyboard: Keyboard) -> anyhow::Result<()> {
        let start = Instant::now();
        let left = interrupts();
        left.store(false, Ordering::Relaxed);
        let _typing = match keyboard {
            Keyboard::Absent => None,
            Keyboard::Person => Some(terminal::connect(running.keys().context("this machine takes no keys")?, left)?),
        };
        let stopped = loop {
            match running.next(TICK)? {
                Event::Bytes(bytes) => self.take(&bytes)?,
                Event::Quiet => self.screen.flush(),
                Event::Ended => {
                    self.machine_ended(&mut running)?;
                    break None;
                }
            }
            if self.outcome.qemu_status.is_some() {
                break None;
            }
            if left.load(Ordering::Relaxed) {
                break Some((Status::Interrupted, "interrupted".to_owned()));
            }
            if self.ended.is_some_and(|ended| ended.elapsed() > GRACE) {
                let reason = format!("the end was announced ({}), but the machine went on", self.outcome.reason);
                break Some((Status::Failed, reason));
            }
            let up = self.timeout.filter(|timeout| self.ended.is_none() && start.elapsed() > *timeout);
            if let Some(timeout) = up {
                break Some((Status::Timeout, format!("not ended after {} s", timeout.as_secs())));
            }
        };
        self.outcome.duration = start.elapsed();
        if self.outcome.qemu_status.is_none() {
            for piece in self.splitter.finish() {
                self.piece(piece);
            }
        }
        self.screen.flush();
        if let Some((status, reason)) = stopped {
            (self.outcome.status, self.outcome.reason) = (status, reason);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(log) = &mut self.log {
            log.write_all(bytes)?;
        }
        for piece in self.splitter.push(bytes) {
            // After that there is only the outer machine's own end.
            if self.outcome.qemu_status.is_none() {
                self.piece(piece);
            }
        }
        self.screen.flush();
        Ok(())
    }

    fn machine_ended(&mut self, running: &mut Running) -> anyhow::Result<()> {
        match self.outcome.machine {
            Machine::Qemu | Machine::QemuTcg => {
                self.outcome.qemu_status = running.exit_status()?.and_then(|status| status.code());
            }
            // Bochs always exits with 1; the status of the QEMU inside has come as a line.
            Machine::Bochs | Machine::QemuInBochs => {}
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece) {
        self.screen.show(&piece);
        match piece {
            Piece::Loader(bytes) => self.loader.extend(bytes),
            // Shown and logged as it comes.
            Piece::Guest(_) => {}
            Piece::System(line) => self.line(&line),
        }
    }

    fn line(&mut self, line: &SystemLine) {
        self.outcome.figures.take(line);
        match line.kind {
            Kind::Error => self.outcome.errors.push(format!("{}: {}", line.speaker, line.text)),
            Kind::Machine => {
                self.outcome.qemu_status = machine::qemu_status(&line.text).or(self.outcome.qemu_status);
                self.around.push(format!("{}: {}", line.speaker, line.text));
            }
            Kind::End => self.system_ends(line),
            Kind::Warn | Kind::Info | Kind::Debug | Kind::Trace | Kind::Figure => {}
        }
    }

    fn system_ends(&mut self, line: &SystemLine) {
        let Some((end, reason)) = line.end() else { return };
        self.ended = Some(Instant::now());
        self.outcome.end = Some(end);
        self.outcome.reason = reason.to_owned();
        self.outcome.status = if end == End::Done { Status::Done } else { Status::Failed };
    }

    /// What came of it; `dir` has what the machine left.
    #[must_use]
    pub fn outcome(mut self, dir: &Path) -> Outcome {
        if self.outcome.figures.kernel("ledger_matches_ept") == Some(0) && self.outcome.status == Status::Done {
            self.outcome.status = Status::Failed;
            self.outcome.reason.push_str(", but the EPT does not equal the frame table");
        }
        if let (Some(end), Some(status)) = (self.outcome.end, self.outcome.qemu_status)
            && status != 2 * end as i32 + 1
        {
            // A guest may write what looks like a system line; it cannot make QEMU's exit status.
            self.outcome.status = Status::Failed;
            self.outcome.reason = format!("the end announced is {end:?}, but QEMU's exit status is {status}");
        }
        if self.outcome.reason.is_empty() {
            self.outcome.reason = match self.outcome.end {
                Some(end) => format!("{end:?}"),
                None => self.silent_end(dir),
            };
        }
        self.outcome
    }

    /// The machine stopped, and the system had not said that it ended.
    fn silent_end(&self, dir: &Path) -> String {
        let mut reason = "the machine stopped before the system said that it ended".to_owned();
        if let Some(status) = self.outcome.qemu_status {
            reason.push_str(&format!("; QEMU's exit status is {status}"));
        }
        if self.outcome.figures.is_empty() && !self.loader.is_empty() {
            reason.push_str(&format!("; the loader said:\n{}", printable(&String::from_utf8_lossy(&self.loader))));
        }
        for line in &self.around {
            reason.push_str(&format!("\n{line}"));
        }
        if let Some(words) = self.outcome.machine.last_words(dir) {
            reason.push_str(&format!("; the machine's log ends with:\n{words}"));
        }
        reason
    }
}

/// A console's text without what moves the cursor.
fn printable(text: &str) -> String {
    let lines = text.lines().map(|line| line.rsplit("\x1b[1;1H").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('\x1b')).collect::<Vec<_>>().join("\n")
}

/// Set by Ctrl-C and by a request to terminate; the handler is installed once.
fn interrupts() -> &'static AtomicBool {
    static LEFT: AtomicBool = AtomicBool::new(false);
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        if let Err(error) = ctrlc::set_handler(|| LEFT.store(true, Ordering::Relaxed)) {
            say(&format!("Ctrl-C will not end the machine properly: {error}"));
        }
    });
    &LEFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Choice;
    use crate::run::screen::Show;
    use crate::system::{self, Request};

    /// What comes of a run on `machine` whose console is `console`.
    fn outcome(machine: Machine, console: &str) -> Outcome {
        let options = Options {
            request: Request { system: "touch".into(), ..Request::default() },
            machine: Choice::Auto,
            toolchain: crate::setup::ToolchainChoice::Auto,
            show: Show::Plain,
            timeout: None,
            log: None,
            cpu: String::new(),
            iso: None,
        };
        let system = system::load(&options.request).expect("the system of the repository");
        let mut watch = Watch::new(&options, &system, machine).expect("a watch");
        watch.take(console.as_bytes()).expect("no log to write");
        watch.outcome(Path::new("/nowhere"))
    }

    const BOOT: &str = "faultline: boot\n\r";

    #[test]
    fn the_systems_own_end_decides_the_status() {
        let done = outcome(Machine::Bochs, &format!("{BOOT}\x1eZ ukernel: 0 the guest powered off\n"));
        assert_eq!((done.status, done.reason.as_str()), (Status::Done, "the guest powered off"));
        let console = format!("{BOOT}\x1eE vcpu: triple fault\n\x1eZ ukernel: 1 the guest failed\n");
        let failed = outcome(Machine::Bochs, &console);
        assert_eq!((failed.status, failed.end), (Status::Failed, Some(End::GuestFailed)));
        assert_eq!(failed.errors, ["vcpu: triple fault"]);
    }

    #[test]
    fn a_machine_that_stops_without_an_end_has_failed_and_the_loaders_words_are_told() {
        let silent = outcome(Machine::Bochs, "\x1b[H\x1b[J\x1b[1;1Herror: out of memory.\r\n");
        assert_eq!(silent.status, Status::Failed);
        assert!(silent.reason.contains("error: out of memory."), "{}", silent.reason);
    }

    #[test]
    fn an_end_that_the_guest_forged_is_found_out_by_the_last_word_and_by_qemus_status() {
        let forged = "\x1eZ ukernel: 0 all is well\n";
        let console = format!("{BOOT}{forged}\x1eZ ukernel: 1 triple fault\n");
        assert_eq!(outcome(Machine::Bochs, &console).status, Status::Failed);
        let console = format!("{BOOT}{forged}\x1eM outer-linux: QEMU exit status 3\n");
        assert_eq!(outcome(Machine::QemuInBochs, &console).status, Status::Failed);
        let console = format!("{BOOT}{forged}\x1eM outer-linux: QEMU exit status 1\n");
        assert_eq!(outcome(Machine::QemuInBochs, &console).status, Status::Done);
    }

    #[test]
    fn a_system_whose_ledger_does_not_match_has_failed_whatever_it_says() {
        let console = format!("{BOOT}\x1eS ukernel: ledger_matches_ept 0\n\x1eZ ukernel: 0 done\n");
        let outcome = outcome(Machine::Bochs, &console);
        assert_eq!(outcome.status, Status::Failed);
        assert!(outcome.reason.contains("frame table"), "{}", outcome.reason);
    }
}
