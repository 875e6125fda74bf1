//! Progress of long steps: a spinner on a terminal, one line in a log.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static PLAIN: AtomicBool = AtomicBool::new(false);

/// From now on lines only, also on a terminal.
pub fn plain() {
    PLAIN.store(true, Ordering::Relaxed);
}

/// Runs `work` and shows that it is under way, and how long it took when it is done.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let spinner = spinner(what);
    let done = work();
    spinner.finish_and_clear();
    match &done {
        Ok(_) => say(&format!("{what} ({:.1} s)", start.elapsed().as_secs_f32())),
        Err(_) => say(&format!("{what}: failed after {:.1} s", start.elapsed().as_secs_f32())),
    }
    done
}

/// One line about what xtask does, on standard error: standard output is for results.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

fn spinner(what: &str) -> ProgressBar {
    if PLAIN.load(Ordering::Relaxed) || !std::io::stderr().is_terminal() {
        say(&format!("{what} ..."));
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("xtask: {spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
