//! Faultline's tools: set up, build, pack, run and test a system.
//!
//! Read the modules in the order of `cargo xtask run`: `setup` installs what is missing, `system` reads the TOML
//! file, `build` compiles, `image` packs an ISO, `machine` boots it, `console` tells guest from system, `summary`
//! shows the figures; `run` is the thread through them.

mod bench;
mod build;
mod check;
mod conformance;
mod console;
mod ctl;
mod fuzz;
mod guests;
mod image;
mod machine;
mod mutant;
mod paths;
mod progress;
mod run;
mod setup;
mod status;
mod summary;
mod system;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Sets up, builds, packs, runs and tests a system")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set up, build and boot a system; show its console and a summary.
    Run(run::Args),
    /// Build a system and pack it as a bootable ISO; print its path.
    Image(image::Args),
    /// Ask a running system something, or tell it to do something.
    Ctl(ctl::Args),
    /// Run host tests and the scenarios in the machine.
    Test(test::Args),
    /// Hold a pager to the obligations of the protocol.
    Conformance(conformance::Args),
    /// Give every door through which bytes come in what a fuzzer thinks of.
    Fuzz(fuzz::Args),
    /// Measure what faults, exits and messages cost, beside their peers.
    Bench(bench::Args),
    /// Check formatting, lints, documentation and the house's own rules.
    Check(check::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Image(args) => image::run(&args).map(|()| status::Status::Done),
        Verb::Ctl(args) => ctl::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Conformance(args) => conformance::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Check(args) => check::run(&args),
    };
    let status = done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        status::Status::of(&error)
    });
    ExitCode::from(status as u8)
}
