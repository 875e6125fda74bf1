//! On the host: the kit (`tests/conformance`) plays the kernel to the pager, which is a program of its own.

use super::report::Row;
use super::{Args, Case};
use crate::paths;
use crate::progress::step;
use crate::system::{self, Console, Request};
use anyhow::Context;
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the kit prints of a case.
#[derive(Debug, Deserialize)]
struct Outcome {
    #[serde(flatten)]
    case: Case,
    failure: Option<String>,
    seconds: f64,
}

/// Builds the kit and our own pager beside it.
fn built() -> anyhow::Result<PathBuf> {
    step("building the conformance kit", || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(paths::root()).args(["build", "--quiet", "-p", "conformance", "--bins"]);
        let status = cargo.stdin(Stdio::null()).status().context("starting cargo")?;
        anyhow::ensure!(status.success(), "the build of the conformance kit failed");
        Ok(paths::target().join("debug/conformance"))
    })
}

/// Its cases.
///
/// # Errors
/// A kit that cannot be built.
pub fn cases() -> anyhow::Result<Vec<Case>> {
    let output = Command::new(built()?).arg("--list").stdin(Stdio::null()).output().context("starting the kit")?;
    anyhow::ensure!(output.status.success(), "the kit does not list its cases");
    String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Refuses options that our own pager does not have, with what is allowed: it would fail every case.
///
/// # Errors
/// The first mistake.
pub fn check_options(set: &[String]) -> anyhow::Result<()> {
    let set = set.iter().map(|option| format!("task.vmm-mm.{option}")).collect();
    system::load(&Request { system: "touch".to_owned(), set, console: Console::Watched }).map(|_| ())
}

/// Tries the pager, and tells of each case as it is done.
///
/// # Errors
/// A kit that does not start, or prints something else.
pub fn run(args: &Args, tell: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let mut kit = Command::new(paths::target().join("debug/conformance"));
    kit.arg("--deadline").arg(args.deadline.to_string());
    if let Some(command) = &args.pager {
        kit.arg("--pager").arg(command);
    }
    if let Some(only) = &args.only {
        kit.arg("--only").arg(only);
    }
    kit.args(args.set.iter().flat_map(|option| ["--option", option]));
    let mut child = kit.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting the kit")?;
    let output = child.stdout.take().context("the kit has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        let Outcome { case, failure, seconds } =
            serde_json::from_str(&line).with_context(|| format!("the kit prints: {line}"))?;
        tell(Row { case, failure, seconds });
    }
    // Its status says no more than its rows.
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_options;

    #[test]
    fn an_option_that_our_own_pager_does_not_have_is_refused_before_any_case() {
        let why = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|&option| option.to_owned()).collect();
            check_options(&set).map_err(|why| format!("{why:#}")).err().unwrap_or_default()
        };
        assert_eq!(why(&["policy=fault-around", "policy.window=16"]), "");
        assert!(why(&["policy=fault-aruond"]).contains("allowed: demand, fault-around"), "a name");
        assert!(why(&["policy=fault-around", "policy.window=513"]).contains("a whole number from 1 to 512"), "a range");
        assert!(why(&["policy.window=5"]).contains("demand has no such option"), "another policy's");
        assert!(why(&["policy"]).contains("KEY=VALUE"), "no value");
    }
}
