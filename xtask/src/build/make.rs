//! Servers that are not written in Rust: their Makefile builds them.

use crate::progress::say;
use crate::{paths, setup};
use anyhow::Context;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds `servers/NAME` for the machine and says where its ELF file is.
///
/// # Errors
/// A missing C compiler, a build that fails.
pub fn in_the_machine(name: &str) -> anyhow::Result<PathBuf> {
    Ok(make(name, "machine")?.join("pager.elf"))
}

/// Builds one target of the Makefile of `servers/NAME` and says in which folder what it makes is.
fn make(name: &str, target: &str) -> anyhow::Result<PathBuf> {
    setup::packages(setup::need::C)?;
    say(&format!("building {name} ({target})"));
    let out = paths::target().join(name);
    let mut command = Command::new("make");
    command.arg("-C").arg(paths::root().join("servers").join(name)).arg(target).arg("--silent");
    command.arg("CC=gcc").arg(format!("OUT={}", out.display())).stdin(Stdio::null());
    let status = command.stdout(Stdio::null()).status().context("starting make")?;
    anyhow::ensure!(status.success(), "the build of {name} failed");
    Ok(out)
}
