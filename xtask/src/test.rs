//! `cargo xtask test`: host tests, the house's rules, and the scenarios in the machine.
//!
//! Everything that can be promised on one host is one [`Promise`]; `host` keeps those that need no machine, `scenarios`
//! those that do. A promise that cannot be checked is broken: nothing is left out in silence.

mod host;
mod live;
mod pagers;
pub mod promise;
mod report;
mod scenarios;
pub mod trial;
mod typing;

use crate::progress::say;
use crate::setup::{self, ToolchainChoice};
use crate::status::{self, Status};
use crate::{build, paths};
use promise::{Bench, Length, Promise};
use report::Report;
use std::path::PathBuf;

/// What to test.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the promises that have this in their name.
    filter: Option<String>,
    /// Run what is too long for every change at full length.
    #[arg(long)]
    long: bool,
    /// Print the names of all promises and end.
    #[arg(long)]
    list: bool,
    /// The compiler for what runs in the machine.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    toolchain: ToolchainChoice,
}

/// Runs the tests: [`Status::Done`] when none failed.
///
/// # Errors
/// A filter that no promise has in its name.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let names: Vec<&str> = std::iter::once(host::NAME)
        .chain(host::RULES.iter().chain(scenarios::ALL).map(|promise| promise.name))
        .collect();
    if args.list {
        println!("{}", names.join("\n"));
        return Ok(Status::Done);
    }
    if !names.iter().any(|name| wanted(name)) {
        let filter = args.filter.as_deref().unwrap_or_default();
        return Err(status::usage(format!(
            "no promise has `{filter}` in its name; there are:\n  {}",
            names.join("\n  ")
        )));
    }
    let mut report = Report::default();
    report.skip(names.iter().filter(|name| !wanted(name)).count());
    let chosen = |all: &'static [Promise]| all.iter().filter(|promise| wanted(promise.name)).collect::<Vec<_>>();
    let bench = Bench {
        length: if args.long { Length::Full } else { Length::Short },
        toolchain: args.toolchain,
        logs: logs()?,
    };
    promise::keep(&chosen(host::RULES), &bench, 1, &mut report);
    if wanted(host::NAME) {
        host::tests(bench.length, &mut report);
    }
    in_the_machine(&chosen(scenarios::ALL), &bench, &mut report);
    Ok(report.finish())
}

/// Builds once what all scenarios need, then lets them run side by side, one on each CPU.
fn in_the_machine(scenarios: &[&Promise], bench: &Bench, report: &mut Report) {
    if scenarios.is_empty() {
        return;
    }
    if let Err(error) = prepare(bench.toolchain) {
        for scenario in scenarios {
            report.failed(scenario.name, &format!("cannot run: {error:#}"));
        }
        return;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    promise::keep(scenarios, bench, cpus, report);
}

fn prepare(toolchain: ToolchainChoice) -> anyhow::Result<()> {
    for packages in [setup::need::IMAGE, setup::need::BOCHS, setup::need::QEMU] {
        setup::packages(packages)?;
    }
    build::everything(toolchain).map(|_| ())
}

/// The folder for what each scenario's machine said.
fn logs() -> anyhow::Result<PathBuf> {
    let logs = paths::target().join("scenarios");
    std::fs::create_dir_all(&logs)?;
    say(&format!("what each scenario shows goes to {}", logs.display()));
    Ok(logs)
}
