//! The `log` facade of a server: a line goes through the message page to the kernel, which adds the task's name.

use crate::memory::{PAGE, Task, write_message_at};
use core::fmt::{self, Write};
use ipc_proto::call::LINE_OFFSET;
use ipc_proto::manifest::LogLevel;
use log::{LevelFilter, Metadata, Record};

struct Logger;

static LOGGER: Logger = Logger;

/// Lets `log` print from now on, as detailed as the manifest says.
pub(crate) fn start(task: &Task) {
    log::set_max_level(match task.log {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
    // The only other outcome is that a logger is set already.
    let _ = log::set_logger(&LOGGER);
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let len = format(*record.args());
        crate::call::log(record.level() as u64, len);
    }

    fn flush(&self) {}
}

/// Bytes of a line.
const ROOM: usize = PAGE - LINE_OFFSET;

/// The upper end of the message page, where a line that is too long is cut: a request or a reply at its beginning survives a log line.
struct Tail(usize);

impl Write for Tail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let text = &text.as_bytes()[..text.len().min(ROOM - self.0)];
        write_message_at(LINE_OFFSET + self.0, text);
        self.0 += text.len();
        Ok(())
    }
}

/// Writes the text where [`ipc_proto::call::Call::Log`] takes it and says how long it is.
pub(crate) fn format(text: fmt::Arguments<'_>) -> usize {
    let mut tail = Tail(0);
    // `Tail` never fails: it cuts.
    let _ = tail.write_fmt(text);
    tail.0
}
