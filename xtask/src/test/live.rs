//! A trial while it runs: what the guest shows, and what the system answers over its control console.

use super::promise::Bench;
use super::trial::{Seen, guest, tail, text};
use anyhow::{Context, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often is looked whether something has happened.
const POLL: Duration = Duration::from_millis(100);

/// A trial that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Live {
    pub(super) child: Child,
    /// Its name in the register of runs.
    pub(super) run: String,
    pub(super) bench: Bench,
    pub(super) console: PathBuf,
    pub(super) json: PathBuf,
    pub(super) err: PathBuf,
    pub(super) limit: Duration,
    pub(super) until: Option<String>,
    /// How much of the guest's console has been waited for.
    pub(super) read: usize,
}

impl Live {
    /// Waits until the guest's console shows `text`, behind what was waited for last.
    ///
    /// # Errors
    /// It does not in time, or the run ends before.
    pub fn shows(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait()?.is_some();
            let shown = std::fs::read(&self.console).map_or_else(|_| String::new(), |bytes| guest(&bytes));
            if let Some(at) = shown.get(self.read..).and_then(|fresh| fresh.find(text)) {
                self.read += at + text.len();
                return Ok(());
            }
            let shown = tail(&shown);
            ensure!(!ended, "the guest should show `{text}` before it ends:\n{shown}\n---\n{}", tail(&self.told()?));
            ensure!(start.elapsed() < limit, "the guest should show `{text}` within {} s:\n{shown}", limit.as_secs());
            std::thread::sleep(POLL);
        }
    }

    /// What stands behind `text` in a line of the guest's, behind what was waited for last.
    ///
    /// # Errors
    /// It does not come in time, or the run ends before.
    pub fn line(&mut self, text: &str, limit: Duration) -> anyhow::Result<String> {
        self.shows(text, limit)?;
        let from = self.read;
        self.shows("\n", limit)?;
        let shown = guest(&std::fs::read(&self.console)?);
        Ok(shown.get(from..self.read).unwrap_or_default().trim().to_owned())
    }

    /// Waits until the guest's console shows `text` so many times from now on.
    ///
    /// # Errors
    /// It does not in time, or the run ends before.
    pub fn shows_anew(&mut self, text: &str, times: usize, limit: Duration) -> anyhow::Result<()> {
        self.read = std::fs::read(&self.console).map_or(0, |bytes| guest(&bytes).len());
        (0..times).try_for_each(|_| self.shows(text, limit))
    }

    /// Asks the system by `cargo xtask ctl REQUEST`: the exit status, and both streams.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ctl(&self, request: &str) -> anyhow::Result<Answer> {
        let mut command = self.bench.xtask()?;
        command.args(["ctl", "--run", &self.run]).args(request.split(' '));
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: output.status, lines: text(output.stdout), error: text(output.stderr) })
    }

    /// Asks for what is to be done, and gives the answer's lines.
    ///
    /// # Errors
    /// It is not done.
    pub fn done(&self, request: &str) -> anyhow::Result<String> {
        let Answer { status, lines, error } = self.ctl(request)?;
        ensure!(status.success(), "`{request}` should be done, not `{}`, {status}", error.trim());
        Ok(lines)
    }

    /// Asks for all of these, one after the other over one connection, and gives the answers' lines.
    ///
    /// # Errors
    /// One is not done.
    pub fn all_done(&self, requests: &[String]) -> anyhow::Result<String> {
        let mut command = self.bench.xtask()?;
        command.args(["ctl", "--run", &self.run]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().context("it has no standard input")?;
        let text = requests.join("\n") + "\n";
        let typing = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        let typed = typing.join().is_ok_and(|typed| typed.is_ok());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(typed && output.status.success(), "each of {} requests should be done:\n{error}", requests.len());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks for what is to be refused for a reason that has `why` in it.
    ///
    /// # Errors
    /// It is done, or refused for another reason.
    pub fn refuses(&self, request: &str, why: &str) -> anyhow::Result<()> {
        let Answer { status, lines, error } = self.ctl(request)?;
        ensure!(!status.success(), "`{request}` should be refused, not done:\n{lines}");
        ensure!(error.contains(why), "`{request}` should be refused because of `{why}`, not `{}`", error.trim());
        Ok(())
    }

    /// Waits for the end, and interrupts what has shown what it was run for.
    ///
    /// # Errors
    /// What keeps it from ending.
    pub fn end(mut self) -> anyhow::Result<Seen> {
        let start = Instant::now();
        let mut awaited = self.until.take();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            let shown = |text: &String| std::fs::read(&self.console).is_ok_and(|bytes| guest(&bytes).contains(text));
            if awaited.as_ref().is_some_and(shown) {
                interrupt(&self.child)?;
                awaited = None;
            }
            let limit = self.limit.as_secs();
            ensure!(
                start.elapsed() < self.limit,
                "it did not end within {limit} s, although its machine was to be stopped"
            );
            std::thread::sleep(POLL);
        };
        Ok(Seen {
            status,
            shown: std::fs::read(&self.console).map_or_else(|_| String::new(), |bytes| guest(&bytes)),
            told: self.told()?,
            summary: std::fs::read(&self.json).ok().map(|bytes| serde_json::from_slice(&bytes)).transpose()?,
        })
    }

    pub fn told(&self) -> anyhow::Result<String> {
        text(&self.err)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Either may fail only because the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a system answered over its control console.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How `cargo xtask ctl` ended.
    pub status: ExitStatus,
    /// The answer's lines.
    pub lines: String,
    /// Why it was not done.
    pub error: String,
}

/// Interrupts a process, as Ctrl-C does.
fn interrupt(child: &Child) -> anyhow::Result<()> {
    Ok(rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT)?)
}
