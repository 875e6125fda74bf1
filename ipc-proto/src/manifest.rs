//! The manifest: a system as one page of data.
//!
//! `xtask` reads `boot/*.toml`, checks it and packs this type as postcard; the boot loader hands it to the kernel
//! as the module named [`MODULE`]; every task finds the same bytes mapped read-only at
//! [`crate::layout::MANIFEST`].

pub mod in_place;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// The command line of the boot module that holds the manifest.
pub const MODULE: &str = "manifest";
/// Most tasks in one system.
pub const MAX_TASKS: usize = 12;
/// Most VMs in one system.
pub const MAX_VMS: usize = 8;
/// Most vCPUs in one VM.
pub const MAX_VCPUS: usize = 4;
/// Most boot modules mapped into one task.
pub const MAX_MODULES: usize = 4;
/// Most I/O port ranges given to one task.
pub const MAX_PORTS: usize = 8;
/// Most options of one task.
pub const MAX_OPTIONS: usize = 16;

/// Most images that a task can be started with beside the first.
pub const MAX_SPARES: usize = 3;

/// Priorities: vCPUs run at 0, threads at 1 to this less one.
pub const PRIORITIES: usize = 8;

/// The name of a task, a VM, a boot module.
pub type Name = String<32>;
/// The value of an option.
pub type Value = String<64>;
/// A kernel's command line.
pub type Line = String<256>;

/// A whole system. Its words are its own, or lie elsewhere: [`in_place`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest<N = Name, V = Value, L = Line> {
    /// The protocol that packed it; the kernel refuses one it does not understand.
    pub version: crate::version::Version,
    /// The system's name, for people.
    pub name: N,
    /// The most detailed level that kernel and servers print.
    pub log: LogLevel,
    /// Whether the kernel proves EPT ⇔ frame table before it powers off.
    pub check: bool,
    /// The tasks, in the order they are started.
    pub tasks: Vec<Task<N, V>, MAX_TASKS>,
    /// The virtual machines.
    pub vms: Vec<Vm<N, L>, MAX_VMS>,
}

/// A user-mode program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task<N = Name, V = Value> {
    /// Its name.
    pub name: N,
    /// The boot module that holds its ELF image.
    pub image: N,
    /// Threads of a higher priority run first; vCPUs run at priority 0.
    pub priority: u8,
    /// Frames it owns from the start, in 4 KiB pages: one contiguous run.
    pub frames: u32,
    /// Whether it may power the machine off, and is told when a task or a VM ends.
    pub supervisor: bool,
    /// The I/O ports it may touch.
    pub ports: Vec<Ports, MAX_PORTS>,
    /// Boot modules that it sees read-only.
    pub modules: Vec<N, MAX_MODULES>,
    /// What the task itself reads: policy and its parameters, console settings.
    pub options: Vec<Setting<N, V>, MAX_OPTIONS>,
    /// Boot modules with other images that it can be started with in the place of `image`.
    pub spares: Vec<N, MAX_SPARES>,
    /// How long it may be busy with one message, in milliseconds; 0: as long as it likes.
    pub deadline_ms: u32,
    /// How often in a second it may stop by itself and be started again; 0: it stays stopped. For supervisors.
    pub restart: u8,
}

/// I/O ports `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port, included.
    pub last: u16,
}

/// One `key = value` for a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting<N = Name, V = Value> {
    /// The key, as in the TOML file.
    pub key: N,
    /// The value, as text.
    pub value: V,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm<N = Name, L = Line> {
    /// Its name.
    pub name: N,
    /// The task that serves its EPT violations. Without one the VM stops at its first fault.
    pub pager: Option<N>,
    /// The task that serves every other exit.
    pub server: N,
    /// How many vCPUs.
    pub vcpus: u8,
    /// RAM, in 4 KiB pages.
    pub memory: u32,
    /// Frames donated for its EPT and window tables before it starts, taken from the pager's share.
    pub tables: u16,
    /// What it runs.
    pub guest: Guest<N, L>,
    /// The task that is asked its faults after the pager, and whose answers are only compared.
    pub shadow: Option<N>,
}

/// What a VM runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest<N = Name, L = Line> {
    /// How it is started.
    pub protocol: BootProtocol,
    /// The boot module with the kernel.
    pub kernel: N,
    /// Further boot modules: the initrd of Linux, the modules of a multiboot kernel.
    pub modules: Vec<N, MAX_MODULES>,
    /// The kernel's command line.
    pub command_line: L,
}

/// How a guest kernel is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootProtocol {
    /// Linux x86 boot protocol, 64-bit entry (Documentation/arch/x86/boot.rst).
    Linux,
    /// Multiboot 1, ELF32 or a.out kludge, 32-bit protected mode entry.
    Multiboot,
    /// Raw bytes at [`crate::layout::FLAT_GUEST`], entered there in 64-bit mode.
    Flat,
}

/// The most detailed level that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Only what ends something.
    Error,
    /// And what is wrong but survived.
    Warn,
    /// And milestones.
    Info,
    /// And decisions.
    Debug,
    /// And every message.
    Trace,
}

impl<N: AsRef<str>, V, L> Manifest<N, V, L> {
    /// The task of that name, and its place in [`Manifest::tasks`].
    #[must_use]
    pub fn task(&self, name: &str) -> Option<(usize, &Task<N, V>)> {
        self.tasks.iter().enumerate().find(|(_, task)| task.name.as_ref() == name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Task<N, V> {
    /// The value of the option `key`, if the manifest has it.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|setting| setting.key.as_ref() == key).map(|setting| setting.value.as_ref())
    }
}
