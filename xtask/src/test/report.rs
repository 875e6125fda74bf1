//! What is told of a test run: a line as each promise is checked, what failed once more, and the closing line.

use crate::status::Status;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The tally so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    skipped: usize,
    failures: Vec<String>,
}

impl Report {
    /// Counts what was not asked for.
    pub fn skip(&mut self, count: usize) {
        self.skipped += count;
    }

    /// A check begins.
    pub fn begun(&self, name: &str) {
        println!("test {name} ...");
    }

    /// A check is done.
    pub fn done(&mut self, name: &str, took: Duration, outcome: anyhow::Result<String>) {
        let seconds = took.as_secs_f32();
        match outcome {
            Ok(seen) => {
                self.passed += 1;
                println!("test {name} ... ok ({seconds:.1} s) {seen}");
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                self.failed(name, &format!("{error:#}"));
            }
        }
    }

    /// Tests of a test program of cargo's.
    pub fn counted(&mut self, passed: usize, skipped: usize) {
        self.passed += passed;
        self.skipped += skipped;
    }

    /// A failure, and why.
    pub fn failed(&mut self, name: &str, why: &str) {
        println!("{name}: {why}");
        self.failures.push(name.to_owned());
    }

    /// Says what is still under way.
    pub fn still_running(&self, running: &BTreeMap<&str, Instant>) {
        let names: Vec<String> =
            running.iter().map(|(name, start)| format!("{name} ({} s)", start.elapsed().as_secs())).collect();
        if !names.is_empty() {
            println!("  still running: {}", names.join(", "));
        }
    }

    /// The tally in one line.
    #[must_use]
    pub fn closing_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failures.len(), self.skipped)
    }

    /// Says what failed and closes. A run that checked nothing is no success.
    #[must_use]
    pub fn finish(self) -> Status {
        println!();
        for name in &self.failures {
            println!("FAILED: {name}");
        }
        println!("{}", self.closing_line());
        if self.failures.is_empty() && self.passed > 0 { Status::Done } else { Status::Error }
    }
}
