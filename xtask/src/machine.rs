//! The machines a system runs on, and one that runs.

mod bochs;
mod nested;
mod process;
mod qemu;

pub use bochs::MODELS;
pub use process::{Event, Running};

use crate::progress::say;
use crate::status;
use clap::ValueEnum as _;
use std::fmt;
use std::path::Path;

/// What a person may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// QEMU where KVM can nest VMX, else Bochs.
    #[default]
    Auto,
    /// Bochs: an emulated CPU with VMX; one tick an instruction.
    Bochs,
    /// QEMU with KVM and nested VMX.
    Qemu,
    /// QEMU with KVM and nested VMX on a Linux inside of Bochs.
    QemuInBochs,
    /// QEMU in its software mode, which has no VMX: shows what a system says on such a machine.
    QemuTcg,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// See [`Choice::Bochs`].
    Bochs,
    /// See [`Choice::Qemu`].
    Qemu,
    /// See [`Choice::QemuInBochs`].
    QemuInBochs,
    /// See [`Choice::QemuTcg`].
    QemuTcg,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether somebody types into the guest's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyboard {
    /// Nobody: time may be skipped while the guest is idle.
    Absent,
    /// A person: the machine keeps to real time while the guest is idle.
    Person,
}

/// Whether the machine's second serial port is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondPort {
    /// It is not there.
    Absent,
    /// It leads to xtask.
    Connected,
}

/// What a machine is to boot.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The image.
    pub iso: &'a Path,
    /// RAM of the machine in MiB.
    pub memory: u64,
    /// The CPU, where the machine emulates one: a model of Bochs.
    pub cpu: &'a str,
    /// Whether somebody types.
    pub keyboard: Keyboard,
    /// The second serial port.
    pub second_port: SecondPort,
    /// Where the machine may put its files.
    pub dir: &'a Path,
}

impl Machine {
    /// Its name, as people choose it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bochs => "bochs",
            Self::Qemu => "qemu",
            Self::QemuInBochs => "qemu-in-bochs",
            Self::QemuTcg => "qemu-tcg",
        }
    }

    /// Takes what was asked for, or the best machine that there is, and installs what it needs.
    ///
    /// # Errors
    /// Status 3 when the machine cannot be had.
    pub fn choose(choice: Choice) -> anyhow::Result<Self> {
        let machine = match choice {
            Choice::Auto => best(),
            Choice::Bochs => Self::Bochs,
            Choice::Qemu => Self::Qemu,
            Choice::QemuInBochs => Self::QemuInBochs,
            Choice::QemuTcg => Self::QemuTcg,
        };
        machine.set_up()?;
        Ok(machine)
    }

    fn set_up(self) -> anyhow::Result<()> {
        match self {
            Self::Bochs => bochs::set_up(),
            Self::Qemu => qemu::set_up(qemu::Accelerator::Kvm),
            Self::QemuTcg => qemu::set_up(qemu::Accelerator::Tcg),
            Self::QemuInBochs => nested::set_up(),
        }
    }

    /// Boots the image on Bochs with a script for its debugger.
    ///
    /// # Errors
    /// A machine that does not start.
    pub fn debugged(iso: &Path, memory: u64, dir: &Path, script: &str) -> anyhow::Result<Running> {
        let job = Job {
            iso,
            memory,
            cpu: bochs::MODELS[0],
            keyboard: Keyboard::Absent,
            second_port: SecondPort::Absent,
            dir,
        };
        bochs::start_debugged(&job, script)
    }

    /// What Bochs's debugger said, and Bochs's log.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn debugger_said(dir: &Path) -> std::io::Result<(String, String)> {
        let text = |name: &str| -> std::io::Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(dir.join(name))?).into_owned())
        };
        Ok((text(bochs::DEBUGGER)?, text("bochs.log")?))
    }

    /// Boots the image.
    ///
    /// # Errors
    /// A machine that does not start.
    pub fn start(self, job: &Job<'_>) -> anyhow::Result<Running> {
        match self {
            Self::Bochs => bochs::start(job),
            Self::Qemu => qemu::start(job, qemu::Accelerator::Kvm),
            Self::QemuTcg => qemu::start(job, qemu::Accelerator::Tcg),
            Self::QemuInBochs => nested::start(job),
        }
    }

    /// What the machine itself recorded about its end, for people.
    #[must_use]
    pub fn last_words(self, dir: &Path) -> Option<String> {
        match self {
            Self::Bochs | Self::QemuInBochs => bochs::last_words(dir),
            Self::Qemu | Self::QemuTcg => None,
        }
    }
}

/// The best machine that is there or can be installed, saying which and why.
fn best() -> Machine {
    match qemu::nested_vmx() {
        Ok(()) => {
            say("machine: qemu, because KVM here can nest VMX");
            Machine::Qemu
        }
        Err(why_not) => {
            say(&format!("machine: bochs, because {why_not}"));
            Machine::Bochs
        }
    }
}

/// The exit status of a QEMU inside of another machine, from a line of that machine's.
#[must_use]
pub fn qemu_status(line: &str) -> Option<i32> {
    line.strip_prefix(nested::QEMU_STATUS)?.trim().parse().ok()
}

/// An unknown or unusable machine, with what there is.
fn unusable(machine: Machine, why: &str) -> anyhow::Error {
    let names: Vec<String> = Choice::value_variants()
        .iter()
        .filter_map(|choice| Some(choice.to_possible_value()?.get_name().to_owned()))
        .collect();
    status::missing(format!("machine {machine}: {why}. Machines: {}", names.join(", ")))
}
