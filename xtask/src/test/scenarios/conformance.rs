//! The kernel keeps its obligations, and the kit that says so has teeth.

use crate::test::promise::Bench;
use anyhow::{Context, ensure};

/// Every case of the kit of the kernel passes.
pub fn kernel(bench: &Bench, _: &str) -> anyhow::Result<String> {
    passed(bench, &["--kernel"])
}

/// Each broken kernel is caught by the case that should.
pub fn broken_kernels(bench: &Bench, _: &str) -> anyhow::Result<String> {
    passed(bench, &["--kernel", "--mutants"])
}

/// Runs the kit, all of which must pass, and says what its last line does.
fn passed(bench: &Bench, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = bench.xtask()?;
    let output = command.arg("conformance").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(text.lines().last().context("the kit says nothing")?.to_owned())
}
