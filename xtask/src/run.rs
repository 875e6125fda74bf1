//! `cargo xtask run`: set up, build, boot, show, and say how it went.

mod screen;
mod terminal;
mod watch;

use crate::ctl::Relay;
use crate::image::{self, Choice};
use crate::machine::{self, Job, Keyboard, Machine, SecondPort};
use crate::progress::{self, say};
use crate::status::Status;
use crate::summary::{self, Facts, Figures};
use crate::system::{self, Console, Request, System};
use crate::{build, paths, setup};
use anyhow::Context;
use ipc_proto::call::End;
use screen::Show;
use std::path::{Path, PathBuf};
use std::time::Duration;
use watch::Watch;

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
    /// The CPU that Bochs emulates.
    #[arg(long, value_name = "MODEL", value_parser = machine::MODELS, default_value = machine::MODELS[0])]
    cpu: String,
    /// Boot this image instead of packing one.
    #[arg(long, value_name = "FILE", hide = true)]
    iso: Option<PathBuf>,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The system, with changes.
    pub request: Request,
    /// The machine.
    pub machine: machine::Choice,
    /// The compiler for kernel and servers.
    pub toolchain: setup::ToolchainChoice,
    /// How it is shown while it runs.
    pub show: Show,
    /// When to give up.
    pub timeout: Option<Duration>,
    /// Where the whole console goes.
    pub log: Option<PathBuf>,
    /// The CPU of a machine that emulates one.
    pub cpu: String,
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
    /// The machine.
    pub machine: Machine,
    /// What kernel and servers called an error.
    pub errors: Vec<String>,
    /// What kernel and servers counted.
    pub figures: Figures,
    /// Time by the clock on the wall, from the machine's start.
    pub duration: Duration,
}

impl Outcome {
    /// The summary's facts.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            system: &self.system,
            status: self.status.word(),
            exit_status: self.status as u8,
            reason: &self.reason,
            errors: &self.errors,
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
    if args.headless {
        progress::plain();
    }
    let console = if args.interactive { Console::Interactive } else { Console::Watched };
    let options = Options {
        request: Request { system: args.system.clone(), set: args.choice.changes()?, console },
        machine: args.machine,
        toolchain: args.choice.toolchain,
        show: if args.headless { Show::Plain } else { Show::Terminal },
        timeout: args.timeout.map(Duration::from_secs),
        log: args.log.clone(),
        cpu: args.cpu.clone(),
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
    say(&format!("booting {} on {machine}: {}", system.manifest.name, system.about));
    let second_port = if system.has_control_console() { SecondPort::Connected } else { SecondPort::Absent };
    let job = Job { iso: &iso, memory, cpu: &options.cpu, keyboard, second_port, dir: dir.path() };
    let mut watch = Watch::new(options, &system, machine)?;
    let mut running = machine.start(&job)?;
    let port = running.second_port();
    let relay = port.map(|port| Relay::start(&system.manifest.name, &format!("on {machine}: {}", system.about), port));
    let _relay = relay.transpose()?;
    watch.watch(running, keyboard)?;
    Ok(watch.outcome(dir.path()))
}

/// RAM for the machine: what the tasks get, the image's files where the loader and the kernel have them, and room
/// for kernel, tables and BIOS; in steps of 128 MiB.
fn machine_memory(system: &System, iso: &Path) -> anyhow::Result<u64> {
    let files = std::fs::metadata(iso)?.len();
    let bytes = system.memory() + 2 * files + (128 << 20);
    Ok((bytes >> 20).next_multiple_of(128).max(256))
}
