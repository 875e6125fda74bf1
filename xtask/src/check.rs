//! `cargo xtask check`: formatting, clippy and rustdoc with warnings denied, and the house's own rules.

mod rules;
mod second_pager;
mod source;

use crate::progress::{say, step};
use crate::setup::{self, TARGET, ToolchainChoice};
use crate::status::{self, Status};
use crate::{build, paths};
use anyhow::Context;
use std::process::{Command, Stdio};

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The compiler for what runs in the machine.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    toolchain: ToolchainChoice,
}

/// Runs every check, also after one has failed: [`Status::Done`] when none has.
///
/// # Errors
/// None: what fails is told.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let checks: [(&str, Check); 5] = [
        ("house rules", |_| rules().map(|seen| say(&seen))),
        ("formatting", |_| formatting()),
        ("clippy on the host", |_| clippy_on_host()),
        ("clippy in the machine", clippy_in_machine),
        ("rustdoc", |_| documentation()),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = step(name, || check(args)) {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("{} checks passed", checks.len());
        return Ok(Status::Done);
    }
    println!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "));
    Ok(Status::Error)
}

/// One check.
type Check = fn(&Args) -> anyhow::Result<()>;

/// The house's own rules, over every file of the repository. Says how large the kernel is.
///
/// # Errors
/// Every violation, as `file:line: rule: what`.
pub fn rules() -> anyhow::Result<String> {
    let files = source::files(paths::root())?;
    let violations = rules::violations(&files);
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    anyhow::ensure!(lines.is_empty(), "the house's rules are broken:\n{}", lines.join("\n"));
    let second = second_pager::lines(&paths::root().join(second_pager::FOLDER))?;
    Ok(format!(
        "{} files; the kernel has {} of {} lines of code, the pager in C {second} of {} lines",
        files.len(),
        rules::kernel_lines(&files),
        rules::KERNEL_LINES,
        second_pager::LINES
    ))
}

/// How many lines the kernel has, without tests.
///
/// # Errors
/// Files that cannot be read.
pub fn kernel_lines() -> anyhow::Result<usize> {
    Ok(rules::kernel_lines(&source::files(paths::root())?))
}

/// rustfmt has nothing to change.
fn formatting() -> anyhow::Result<()> {
    component("fmt", "rustfmt")?;
    let unformatted = "these files are not formatted; `cargo fmt --all` formats them, and `rustfmt` those of a policy";
    // rustfmt does not see modules that a macro declares: the table of policies does.
    let policies = std::fs::read_dir(paths::root().join("servers/vmm-mm/src/policy")).context("the policies")?;
    let policies: Vec<String> =
        policies.map(|file| Ok(file?.path().display().to_string())).collect::<std::io::Result<_>>()?;
    let mut arguments = vec!["fmt", "--all", "--check", "--", "-l"];
    arguments.extend(policies.iter().map(String::as_str));
    cargo(&arguments).context(unformatted)
}

fn clippy_on_host() -> anyhow::Result<()> {
    component("clippy", "clippy")?;
    cargo(&["clippy", "--quiet", "--workspace", "--exclude", "guests", "--all-targets", "--", "-D", "warnings"])
}

/// Only the compiler that clippy belongs to will do: where rustup cannot add the target, this check fails and says so.
fn clippy_in_machine(args: &Args) -> anyhow::Result<()> {
    component("clippy", "clippy")?;
    let toolchain = setup::toolchain(args.toolchain)?;
    anyhow::ensure!(
        toolchain == setup::Toolchain::Rustup,
        "clippy belongs to rustup's compiler: rustup target add {TARGET}"
    );
    let packages = build::packages()?;
    let mut arguments = vec!["clippy", "--quiet", "--release", "--target", TARGET];
    arguments.extend(packages.iter().flat_map(|package| ["-p", package]));
    arguments.extend(["--", "-D", "warnings"]);
    cargo(&arguments)
}

/// Makes sure that cargo has `subcommand`, which rustup's `component` brings.
fn component(subcommand: &str, component: &str) -> anyhow::Result<()> {
    if cargo(&[subcommand, "--version"]).is_ok() {
        return Ok(());
    }
    let add = format!("rustup component add {component}");
    step(&add, || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(paths::root()).args(["component", "add", component]).stdin(Stdio::null());
        succeeds(rustup)
    })
    .map_err(|error| status::missing(format!("{component} is missing. Run:\n  {add}\n{error:#}")))
}

fn documentation() -> anyhow::Result<()> {
    let mut command = command(&["doc", "--quiet", "--workspace", "--exclude", "guests", "--no-deps"]);
    // Private items are documented too, so links to them lead somewhere.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    command.env("RUSTDOCFLAGS", flags).arg("--document-private-items");
    succeeds(command)
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    succeeds(command(arguments))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root()).args(arguments).stdin(Stdio::null());
    command
}

/// Runs `command` and gives what it printed if it fails.
fn succeeds(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().context("starting cargo")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{command:?} failed:\n{out}{err}");
    Ok(())
}
