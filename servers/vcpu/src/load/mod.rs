//! Loading a guest: each boot protocol puts the kernel and what it needs into guest memory and says in which state
//! the vCPU starts.

pub mod flat;
pub mod linux;
pub mod multiboot;

use crate::memory::{GuestMemory, NotRam, RamMap};
use core::fmt;

/// A guest as the manifest names it.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The kernel's name.
    pub name: &'a str,
    /// The kernel's bytes.
    pub kernel: &'a [u8],
    /// The bytes of its modules, each with its name: the initrd of Linux, the modules of a multiboot kernel.
    pub modules: &'a [(&'a str, &'a [u8])],
    /// Its command line.
    pub command_line: &'a str,
    /// Where its RAM is.
    pub ram: RamMap,
}

/// Why a guest cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file ends before this part of it.
    Truncated(&'static str),
    /// The file is not what the protocol wants: what is wrong.
    Malformed(&'static str),
    /// A part does not fit into the machine's RAM: which, its first byte and its length.
    NoRoom(&'static str, u64, u64),
    /// The command line is longer than the kernel takes: its length, the most.
    CommandLine(usize, usize),
    /// More modules than the protocol, or this loader, takes: how many, the most.
    Modules(usize, usize),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(part) => write!(f, "the file ends before the end of {part}"),
            Self::Malformed(what) => f.write_str(what),
            Self::NoRoom(part, start, len) => {
                write!(f, "{part} needs {len:#x} bytes at {start:#x}, and there is no RAM for that")
            }
            Self::CommandLine(len, most) => {
                write!(f, "a command line of {len} bytes; the kernel takes {most}")
            }
            Self::Modules(count, most) => write!(f, "{count} modules; there can be {most}"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<NotRam> for LoadError {
    fn from(_: NotRam) -> Self {
        Self::NoRoom("a table of the boot protocol", 0, 0)
    }
}

/// Copies `bytes` of `part` to `gpa`.
fn place(memory: &mut dyn GuestMemory, part: &'static str, gpa: u64, bytes: &[u8]) -> Result<(), LoadError> {
    memory.write(gpa, bytes).map_err(|NotRam| LoadError::NoRoom(part, gpa, bytes.len() as u64))
}

/// `N` bytes of `bytes` from `offset` on.
fn field<const N: usize>(bytes: &[u8], offset: usize, part: &'static str) -> Result<[u8; N], LoadError> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(LoadError::Truncated(part))
}
