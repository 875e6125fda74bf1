//! Promises that need no machine: the libraries' own tests and the house's rules.

use super::pagers;
use super::promise::{Length, Promise};
use super::report::Report;
use crate::{check, fuzz, paths};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The name under which the libraries' tests are asked for; each counts by itself.
pub const NAME: &str = "host";

/// What needs no machine.
pub const RULES: &[Promise] = &[
    Promise { name: "house::rules_are_kept", check: |_, _| check::rules() },
    Promise { name: "pagers::broken_ones_are_caught", check: pagers::caught },
    Promise { name: "fuzz::no_input_breaks_a_promise", check: |_, _| fuzz::short() },
];

/// The steps of vmm-mm's model test at full length; `cargo test` makes some thousands.
const MODEL_STEPS: (&str, &str) = ("FAULTLINE_MODEL_STEPS", "1000000");

/// Runs the tests of every crate that has a host side; the guests have none. At full length also vmm-mm's model test with
/// a million steps, which takes a minute or two when it is optimized.
pub fn tests(length: Length, report: &mut Report) {
    cargo_test(&["--workspace", "--exclude", "guests"], None, report);
    match length {
        Length::Short => {}
        Length::Full => {
            cargo_test(&["--release", "--package", "vmm-mm", "--lib", "model::"], Some(MODEL_STEPS), report);
        }
    }
}

/// Runs `cargo test` with these arguments; `variable` is set for the tests.
fn cargo_test(arguments: &[&str], variable: Option<(&str, &str)>, report: &mut Report) {
    println!("test {NAME}: cargo test {}", arguments.join(" "));
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(paths::root())
        .args(["test", "--no-fail-fast"])
        .args(arguments)
        .envs(variable)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return report.failed(NAME, &format!("cargo does not start: {error}")),
    };
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            tally.line(&line, report);
        }
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    if !succeeded && tally.failed == 0 {
        report.failed(NAME, "cargo test failed before any test did: see above");
    }
}

/// Reads what test programs print.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
}

impl Tally {
    fn line(&mut self, line: &str, report: &mut Report) {
        if let Some((name, "FAILED")) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
            self.failed += 1;
            report.failed(&format!("{NAME}::{name}"), "see above or below");
        } else if let Some((passed, ignored)) = result(line) {
            report.counted(passed, ignored);
            if passed + ignored > 0 {
                println!("  {line}");
            }
        } else if !(line.ends_with(" ... ok") || line.starts_with("running ") || line.is_empty()) {
            println!("  {line}");
        }
    }
}

/// Passed and ignored, of `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
fn result(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<usize>().ok());
    Some((count(" passed")?, count(" ignored")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_test_program_are_counted() {
        let mut report = Report::default();
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test grant::tests::a_server_cannot_grant_outside_its_frames ... FAILED",
            "test wire::tests::trailing_bytes_are_refused ... ok",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            tally.line(line, &mut report);
        }
        assert_eq!(tally.failed, 1);
        assert_eq!(report.closing_line(), "1 passed, 1 failed, 1 skipped");
    }
}
