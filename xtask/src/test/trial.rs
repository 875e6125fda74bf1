//! A trial: `cargo xtask run` as a person types it, and what that person sees.

use super::live::Live;
use super::promise::Bench;
use crate::console::{Piece, Splitter};
use crate::status::Status;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// What a trial may take beyond its machine's time: building, packing, and a machine that is slow to stop.
const BEYOND: Duration = Duration::from_secs(240);
/// How many lines of each stream are shown when something was not as promised.
const TAIL: usize = 25;

/// A command line to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    arguments: Vec<String>,
    limit: Duration,
    until: Option<String>,
}

impl Trial {
    /// `cargo xtask run SYSTEM`, on the machine that suits tests: Bochs, where counts repeat exactly.
    #[must_use]
    pub fn of(system: &str) -> Self {
        Self { arguments: vec![system.to_owned()], limit: Duration::from_secs(120), until: None }.on("bochs")
    }

    /// On this machine; the last one counts.
    #[must_use]
    pub fn on(mut self, machine: &str) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == "--machine") {
            self.arguments.drain(at..at + 2);
        }
        self.with(&["--machine", machine])
    }

    /// With a key of the manifest changed.
    #[must_use]
    pub fn set(self, assignment: &str) -> Self {
        self.with(&["--set", assignment])
    }

    /// With more arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The machine gets so many seconds.
    #[must_use]
    pub fn within(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Until the guest's console has `text`; then it is interrupted, as by Ctrl-C.
    #[must_use]
    pub fn until(mut self, text: &str) -> Self {
        self.until = Some(text.to_owned());
        self
    }

    /// Runs it. How it ends is for [`Seen`]'s methods to judge.
    ///
    /// # Errors
    /// What keeps it from running, or from ending.
    pub fn run(&self, bench: &Bench, name: &str) -> anyhow::Result<Seen> {
        self.start(bench, name)?.end()
    }

    /// Starts it, to be watched and asked while it runs.
    ///
    /// # Errors
    /// What keeps it from running.
    pub fn start(&self, bench: &Bench, name: &str) -> anyhow::Result<Live> {
        let file = |kind: &str| bench.logs.join(format!("{}.{kind}", name.replace("::", ".")));
        let (console, json) = (file("console"), file("json"));
        for old in [&console, &json] {
            if let Err(error) = std::fs::remove_file(old) {
                ensure!(error.kind() == std::io::ErrorKind::NotFound, "{}: {error}", old.display());
            }
        }
        let mut command = bench.xtask()?;
        command.arg("run").args(&self.arguments).arg("--headless");
        command.arg("--timeout").arg(self.limit.as_secs().to_string());
        command.arg("--log").arg(&console).arg("--json").arg(&json);
        let (out, err) = (file("out"), file("err"));
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let child = command.spawn()?;
        let limit = self.limit + BEYOND;
        let run = format!("{}-{}", self.arguments[0], child.id());
        let until = self.until.clone();
        Ok(Live { child, run, bench: bench.clone(), console, json, err, limit, until, read: 0 })
    }
}

/// What the guest wrote of the whole console.
pub(super) fn guest(console: &[u8]) -> String {
    let mut splitter = Splitter::default();
    let mut pieces = splitter.push(console);
    pieces.extend(splitter.finish());
    let guest = pieces.into_iter().flat_map(|piece| match piece {
        Piece::Guest(bytes) => bytes,
        Piece::Loader(_) | Piece::System(_) => Vec::new(),
    });
    String::from_utf8_lossy(&guest.collect::<Vec<u8>>()).into_owned()
}

pub(super) fn text(path: &PathBuf) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a person saw of a trial.
#[derive(Clone, Debug)]
pub struct Seen {
    pub(super) status: ExitStatus,
    pub(super) shown: String,
    pub(super) told: String,
    pub(super) summary: Option<Value>,
}

impl Seen {
    /// It ended with that status.
    ///
    /// # Errors
    /// With another one.
    pub fn ends(&self, status: Status) -> anyhow::Result<&Self> {
        let wanted = status as i32;
        self.holds(
            self.status.code() == Some(wanted),
            &format!("it should end with status {wanted}, not {}", self.status),
        )
    }

    /// The guest's console has `text`.
    ///
    /// # Errors
    /// It has not.
    pub fn shows(&self, text: &str) -> anyhow::Result<&Self> {
        self.holds(self.shown.contains(text), &format!("the guest's console should show `{text}`"))
    }

    /// Standard error, where kernel, servers and xtask speak, has `text`.
    ///
    /// # Errors
    /// It has not.
    pub fn tells(&self, text: &str) -> anyhow::Result<&Self> {
        self.holds(self.told.contains(text), &format!("standard error should tell `{text}`"))
    }

    /// `what` holds.
    ///
    /// # Errors
    /// It does not: then with the end of both streams.
    pub fn holds(&self, holds: bool, what: &str) -> anyhow::Result<&Self> {
        ensure!(
            holds,
            "{what}\n--- the guest's console ends with\n{}\n--- standard error ends with\n{}\n---",
            tail(&self.shown),
            tail(&self.told)
        );
        Ok(self)
    }

    /// A value of the summary, by dotted path.
    ///
    /// # Errors
    /// There is no summary, or no such value.
    pub fn value(&self, path: &str) -> anyhow::Result<&Value> {
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = self.summary.as_ref().and_then(|summary| summary.pointer(&pointer));
        self.holds(value.is_some(), &format!("the summary should have `{path}`"))?;
        value.with_context(|| format!("no `{path}`"))
    }

    /// A figure of the summary, by dotted path.
    ///
    /// # Errors
    /// There is none.
    pub fn figure(&self, path: &str) -> anyhow::Result<u64> {
        let figure = self.value(path)?.as_u64();
        self.holds(figure.is_some(), &format!("`{path}` of the summary should be a number"))?;
        figure.with_context(|| format!("no figure `{path}`"))
    }

    /// The kernel's checker found that EPT and frame table agree.
    ///
    /// # Errors
    /// It did not, or was not asked.
    pub fn ledger_matches(&self) -> anyhow::Result<&Self> {
        let matches = self.value("ledger_matches_ept")?;
        self.holds(*matches == Value::Bool(true), &format!("ledger_matches_ept should be true, not {matches}"))
    }

    /// The number that follows `before` on the guest's console.
    ///
    /// # Errors
    /// There is none.
    pub fn number_after(&self, before: &str) -> anyhow::Result<u64> {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let number = self.shown.split_once(before).and_then(|(_, after)| digits(after).parse().ok());
        self.holds(number.is_some(), &format!("the guest's console should show a number after `{before}`"))?;
        number.with_context(|| format!("no number after `{before}`"))
    }

    /// The number that precedes `after` on the guest's console.
    ///
    /// # Errors
    /// There is none.
    pub fn number_before(&self, after: &str) -> anyhow::Result<u64> {
        let word = self.shown.split_once(after).and_then(|(before, _)| before.rsplit(' ').next());
        let number = word.and_then(|word| word.parse().ok());
        self.holds(number.is_some(), &format!("the guest's console should show a number before `{after}`"))?;
        number.with_context(|| format!("no number before `{after}`"))
    }

    /// The exit status.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What the guest's console showed.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What kernel, servers and xtask said.
    #[must_use]
    pub fn told(&self) -> &str {
        &self.told
    }
}

pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::process::ExitStatusExt;

    fn seen() -> Seen {
        Seen {
            status: ExitStatus::from_raw(5 << 8),
            shown: "checksum pass 1 ok 00 pages=94278\n".to_owned(),
            told: "| ukernel: error: nothing maps\n".to_owned(),
            summary: Some(json!({"faults": {"count": 3}, "ledger_matches_ept": false})),
        }
    }

    #[test]
    fn what_was_seen_is_judged_both_ways() {
        let seen = seen();
        assert!(seen.ends(Status::Failed).is_ok() && seen.ends(Status::Done).is_err());
        assert!(seen.shows("pass 1 ok").is_ok() && seen.shows("pass 2 ok").is_err());
        assert!(seen.tells("nothing maps").is_ok() && seen.tells("registers").is_err());
        assert!(seen.figure("faults.count").is_ok_and(|count| count == 3) && seen.figure("faults.grants").is_err());
        assert!(seen.number_after("pages=").is_ok_and(|pages| pages == 94278) && seen.number_after("ok ok").is_err());
        assert!(seen.number_before(" ok 00").is_ok_and(|pass| pass == 1) && seen.number_before("nothing").is_err());
        assert!(seen.ledger_matches().is_err());
    }

    #[test]
    fn a_failure_shows_both_streams() {
        let error = seen().shows("pass 2 ok").expect_err("not shown").to_string();
        for part in ["pass 2 ok", "pass 1 ok", "nothing maps"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_last_machine_counts() {
        let trial = Trial::of("touch").on("qemu-tcg");
        assert_eq!(trial.arguments, ["touch", "--machine", "qemu-tcg"]);
    }
}
