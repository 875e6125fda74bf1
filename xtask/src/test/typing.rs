//! A person at the guest's console: `cargo xtask run --interactive` on a terminal, typed into and read.

use super::promise::Bench;
use crate::setup;
use crate::status;
use anyhow::{Context, ensure};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often the screen is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A terminal with a run on it. Ends with the value.
pub struct Typing {
    child: Child,
    keys: ChildStdin,
    screen: PathBuf,
    /// How much of the screen has been read.
    read: usize,
}

impl Typing {
    /// Starts `cargo xtask run ARGUMENTS --interactive`.
    ///
    /// # Errors
    /// No `script` (of bsdutils, which every Debian has) to make a terminal with; a process that does not start.
    pub fn start(arguments: &str, bench: &Bench, name: &str) -> anyhow::Result<Self> {
        if !setup::has_program("script") {
            return Err(status::missing("`script` is missing, which makes a terminal: on Debian, bsdutils has it"));
        }
        let screen = bench.logs.join(format!("{}.screen", name.replace("::", ".")));
        let xtask = std::env::current_exe()?;
        let run = format!("'{}' run {arguments} --interactive", xtask.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &run, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(File::create(&screen)?).stderr(Stdio::null());
        let mut child = command.spawn().context("starting script")?;
        let keys = child.stdin.take().context("no standard input")?;
        Ok(Self { child, keys, screen, read: 0 })
    }

    /// Waits until `text` is on the screen, after what was waited for last.
    ///
    /// # Errors
    /// It is not there in time.
    pub fn sees(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait()?.is_some();
            let screen = std::fs::read(&self.screen)?;
            let fresh = String::from_utf8_lossy(screen.get(self.read..).unwrap_or_default()).into_owned();
            if let Some(at) = fresh.find(text) {
                self.read += at + text.len();
                return Ok(());
            }
            ensure!(!ended, "`{text}` should be on the screen before it ends:\n{fresh}");
            ensure!(start.elapsed() < limit, "`{text}` should be on the screen after {} s:\n{fresh}", limit.as_secs());
            std::thread::sleep(POLL);
        }
    }

    /// Types.
    ///
    /// # Errors
    /// Nobody reads.
    pub fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn ends(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        anyhow::bail!("it should have ended after {} s", limit.as_secs())
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        // Either may fail only because the process has ended already. The terminal goes with it, and that ends the run.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
