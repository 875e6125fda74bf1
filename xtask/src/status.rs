//! How a verb ends: exit statuses, and the errors that carry one.

use std::fmt;

/// Exit statuses of `cargo xtask`, as scripts see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The system ended as its manifest says; for other verbs: done.
    Done = 0,
    /// Something else went wrong, for example a build.
    Error = 1,
    /// Wrong usage: arguments, names, a mistake in a TOML file.
    Usage = 2,
    /// A machine or package is missing.
    Missing = 3,
    /// The time given was not enough.
    Timeout = 4,
    /// The guest, a server or the kernel failed.
    Failed = 5,
    /// Somebody left: 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

impl Status {
    /// One word for summaries.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::Missing => "missing",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status that an error asks for.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref::<Stop>().map_or(Self::Error, |stop| stop.status)
    }
}

/// An error that says with which status to end.
#[derive(Debug)]
pub struct Stop {
    /// The status.
    pub status: Status,
    /// What to tell the person.
    pub message: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// A mistake in what was asked for.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Stop { status: Status::Usage, message: message.into() }.into()
}

/// A machine or package that is not there.
pub fn missing(message: impl Into<String>) -> anyhow::Error {
    Stop { status: Status::Missing, message: message.into() }.into()
}
