//! The kernel's lines on the serial line: its own, its servers', and the figures of the summary.
//!
//! A line begins with the byte 0x1e, a letter and the speaker's name, so that it can be told from the guest's console,
//! which shares the serial line.

use crate::arch::serial::Serial;
use core::fmt::{Arguments, Write};
use ipc_proto::manifest::LogLevel;
use log::{Level, LevelFilter, Metadata, Record};
use spin::Mutex;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// A message of that level: its initial.
    Log(Level),
    /// A figure of the summary: key and value.
    Figure,
    /// The end of the system: its number and why.
    End,
}

impl Letter {
    /// What ends something.
    pub const ERROR: Self = Self::Log(Level::Error);

    /// That of a server's line, from its number for the level: 1 is an error.
    pub fn of_level(level: u64) -> Self {
        Self::Log(Level::iter().nth((level as usize).saturating_sub(1)).unwrap_or(Level::Trace))
    }

    fn initial(self) -> char {
        match self {
            Self::Log(level) => level.as_str().as_bytes()[0] as char,
            Self::Figure => 'S',
            Self::End => 'Z',
        }
    }
}

/// One writer at a time, so that lines stay whole.
static LINE: Mutex<Serial> = Mutex::new(Serial);

/// Prints a line. The serial line cannot fail; what it cannot print is lost.
pub fn line(letter: Letter, who: &str, text: Arguments<'_>) {
    let _ = writeln!(LINE.lock(), "\x1e{} {who}: {text}", letter.initial());
}

/// Prints a figure of the kernel.
pub fn figure(key: Arguments<'_>, value: u64) {
    line(Letter::Figure, "ukernel", format_args!("{key} {value}"));
}

struct Logger;

static LOGGER: Logger = Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        line(Letter::Log(record.level()), "ukernel", *record.args());
    }

    fn flush(&self) {}
}

/// Prepares the serial line, and lets `log` print everything until the manifest says how much.
pub fn start() {
    LINE.lock().start();
    // The only other outcome is that a logger is set already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// From now on only lines up to `level` are printed.
pub fn limit(level: LogLevel) {
    // Both begin with errors, but the crate's has a level before them: off.
    log::set_max_level(LevelFilter::iter().nth(level as usize + 1).unwrap_or(LevelFilter::Trace));
}
