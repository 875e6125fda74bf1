//! `cargo xtask run`: set up, build, boot, show, and say how it went.

mod screen;
mod terminal;

use crate::build;
use crate::console::{Kind, Piece, Splitter, SystemLine};
use crate::image::{self, Choice};
use crate::machine::{self, Event, Job, Keyboard, Machine, Running};
use crate::progress::say;
use crate::setup;
use crate::status::Status;
use crate::summary::{self, Facts, Figures};
use crate::system::{self, Console, Request, System};
use crate::paths;
use anyhow::Context;
use ipc_proto::call::End;
pub use screen::Show;
use screen::Screen;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a machine may take to stop after the system has ended.
const GRACE: Duration = Duration::from_secs(20);
/// The longest wait for console bytes between two looks at the clock.
const TICK: Duration = Duration::from_millis(50);

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A system of `boot/`, or the path of a TOML file.
    #[arg(default_value = "linux")]
    system: String,
    #[command(flatten)]
    choice: Choice,
    /// The machine to run it on.
    #[arg(long, value_enum, default_value_t)]
    machine: machine::Choice,
    /// Type into the guest's console; Ctrl-A then X leaves.
    #[arg(long, conflicts_with = "headless")]
    interactive: bool,
    /// Plain output: no colours, no spinners, nothing read from the keyboard.
    #[arg(long)]
    headless: bool,
    /// End after that many seconds, with status 4.
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Write the whole console to this file, as it came from the machine.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the summary to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Boot this image instead of packing one.
    #[arg(long, value_name = "FILE", hide = true)]
    iso: Option<PathBuf>,
}

/// A run, for the verb and for scenarios.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The system, with changes.
    pub request: Request,
    /// The machine.
    pub machine: machine::Choice,
    /// The compiler for kernel and servers.
    pub toolchain: setup::ToolchainChoice,
    /// How much is shown while it runs.
    pub show: Show,
    /// When to give up.
    pub timeout: Option<Duration>,
    /// Where the whole console goes.
    pub log: Option<PathBuf>,
    /// An image made elsewhere.
    pub iso: Option<PathBuf>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status it deserves.
    pub status: Status,
    /// Why it ended, for people.
    pub reason: String,
    /// How the system itself said that it ended.
    pub end: Option<End>,
    /// The exit status of QEMU, where that is the machine: `2n + 1` for the [`End`] of number n.
    pub qemu_status: Option<i32>,
    /// The system's name.
    pub system: String,
    /// The machine's name.
    pub machine: Machine,
    /// The guest's own console bytes.
    pub guest: Vec<u8>,
    /// What kernel and servers said, without figures.
    pub lines: Vec<SystemLine>,
    /// What kernel and servers counted.
    pub figures: Figures,
    /// Ticks from the kernel's start to the end.
    pub ticks: Option<u64>,
    /// Time by the clock on the wall, from the machine's start.
    pub duration: Duration,
}

impl Outcome {
    /// The guest's console as text.
    #[must_use]
    pub fn guest_text(&self) -> String {
        String::from_utf8_lossy(&self.guest).into_owned()
    }

    /// The summary's facts.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            system: &self.system,
            status: self.status.word(),
            exit_status: self.status as u8,
            reason: &self.reason,
            machine: self.machine.name(),
            seconds: self.duration.as_secs_f64(),
        }
    }

    /// The summary as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        summary::json(&self.facts(), &self.figures)
    }
}

/// Runs the verb.
///
/// # Errors
/// What kept the system from being started.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let console = if args.interactive { Console::Interactive } else { Console::Watched };
    let options = Options {
        request: Request { system: args.system.clone(), set: args.choice.changes()?, console },
        machine: args.machine,
        toolchain: args.choice.toolchain,
        show: if args.headless { Show::Plain } else { Show::Terminal },
        timeout: args.timeout.map(Duration::from_secs),
        log: args.log.clone(),
        iso: args.iso.clone(),
    };
    let outcome = run_system(&options)?;
    print!("\n{}", summary::table(&outcome.facts(), &outcome.figures));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&outcome.json())?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(outcome.status)
}

/// Builds a system, boots it, and watches it to its end.
///
/// # Errors
/// What kept it from being started; how it ended is in the outcome.
pub fn run_system(options: &Options) -> anyhow::Result<Outcome> {
    let mut system = system::load(&options.request)?;
    let machine = Machine::choose(options.machine)?;
    std::fs::create_dir_all(paths::images())?;
    let dir = tempfile::Builder::new().prefix("run-").tempdir_in(paths::images())?;
    let iso = match &options.iso {
        Some(iso) => iso.canonicalize().with_context(|| format!("{}", iso.display()))?,
        None => {
            setup::packages(setup::need::IMAGE)?;
            let parts = build::parts(&mut system, options.toolchain)?;
            let iso = dir.path().join("image.iso");
            image::pack(&system, &parts, &iso)?;
            iso
        }
    };
    let keyboard = match options.request.console {
        Console::Watched => Keyboard::Absent,
        Console::Interactive => Keyboard::Person,
    };
    let memory = machine_memory(&system, &iso)?;
    say(&format!("booting {} on {machine}", system.manifest.name));
    let job = Job { iso: &iso, memory, keyboard, dir: dir.path() };
    let mut watch = Watch::new(options, &system, machine)?;
    watch.watch(machine.start(&job)?, keyboard)?;
    Ok(watch.outcome(dir.path()))
}

/// RAM for the machine: what the tasks get, the image's files where the loader and the kernel have them, and room
/// for kernel, tables and BIOS; in steps of 128 MiB.
fn machine_memory(system: &System, iso: &Path) -> anyhow::Result<u64> {
    let files = std::fs::metadata(iso)?.len();
    let bytes = system.memory() + 2 * files + (128 << 20);
    Ok((bytes >> 20).next_multiple_of(128).max(256))
}

/// Watches one run.
struct Watch {
    timeout: Option<Duration>,
    log: Option<File>,
    screen: Screen,
    splitter: Splitter,
    loader: Vec<u8>,
    ended: Option<Instant>,
    outcome: Outcome,
}

impl Watch {
    fn new(options: &Options, system: &System, machine: Machine) -> anyhow::Result<Self> {
        let create = |path: &PathBuf| File::create(path).with_context(|| format!("writing {}", path.display()));
        let outcome = Outcome {
            status: Status::Failed,
            reason: String::new(),
            end: None,
            qemu_status: None,
            system: system.manifest.name.as_str().to_owned(),
            machine,
            guest: Vec::new(),
            lines: Vec::new(),
            figures: Figures::default(),
            ticks: None,
            duration: Duration::ZERO,
        };
        Ok(Self {
            timeout: options.timeout,
            log: options.log.as_ref().map(create).transpose()?,
            screen: Screen::new(options.show),
            splitter: Splitter::default(),
            loader: Vec::new(),
            ended: None,
            outcome,
        })
    }

    /// Until the machine stops, time is up, or somebody wants to leave.
    fn watch(&mut self, mut running: Running, keyboard: Keyboard) -> anyhow::Result<()> {
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
                say("the system has ended, but the machine did not stop: stopping it");
                break None;
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
            Piece::Guest(bytes) => self.outcome.guest.extend(bytes),
            Piece::System(line) => self.line(line),
        }
    }

    fn line(&mut self, line: SystemLine) {
        self.outcome.figures.take(&line);
        if let Some((end, reason)) = line.end() {
            self.ended = Some(Instant::now());
            self.outcome.end = Some(end);
            self.outcome.reason = reason.to_owned();
            self.outcome.status = if end == End::Done { Status::Done } else { Status::Failed };
        }
        if line.kind == Kind::Machine {
            self.outcome.qemu_status = machine::qemu_status(&line.text).or(self.outcome.qemu_status);
        }
        if line.kind != Kind::Figure {
            self.outcome.lines.push(line);
        }
    }

    fn outcome(mut self, dir: &Path) -> Outcome {
        self.outcome.ticks = self.outcome.figures.kernel("ticks");
        if self.outcome.figures.kernel("ledger_matches_ept") == Some(0) && self.outcome.status == Status::Done {
            self.outcome.status = Status::Failed;
            self.outcome.reason.push_str(", but the EPT does not equal the frame table");
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
        let system = |line: &SystemLine| line.kind != Kind::Machine;
        if !self.outcome.lines.iter().any(system) && !self.loader.is_empty() {
            let loader = String::from_utf8_lossy(&self.loader);
            reason.push_str(&format!("; the loader said:\n{}", printable(&loader)));
        }
        for line in self.outcome.lines.iter().filter(|line| !system(line)) {
            reason.push_str(&format!("\n{}: {}", line.speaker, line.text));
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
