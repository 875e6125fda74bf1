//! `cargo xtask conformance`: holds a pager, or the kernel, to its obligations (`ipc-proto/SPEC.md`, section 13).
//!
//! Cases come from several sources: `host` speaks to the pager as an ordinary program, `machine` boots it under guests,
//! `kernel` boots the kernel under scripts, and `mutants` shows that those scripts find what is wrong. What they find goes
//! into one `report`: a table for people, JUnit for machines, and a status that is 0 only when every case passed.

mod host;
mod image;
mod kernel;
mod machine;
mod mutants;
mod report;

use crate::progress::say;
use crate::setup::ToolchainChoice;
use crate::status::{self, Status};
use anyhow::Context;
use report::{Report, Row};
use std::path::PathBuf;

/// What to hold to its obligations.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell's command that starts a pager for the host transport; without any pager our own is tried.
    #[arg(long, value_name = "COMMAND")]
    pager: Option<String>,
    /// The ELF file of a pager for the machine: it is booted under the guest `touch`, and then under Linux.
    #[arg(long, value_name = "FILE")]
    pager_elf: Option<PathBuf>,
    /// The kernel instead: a scripted pager and a scripted server hold it to its obligations.
    #[arg(long, conflicts_with_all = ["pager", "pager_elf", "set"])]
    kernel: bool,
    /// With --kernel: kernels that are broken on purpose, each of which a case must catch.
    #[arg(long, requires = "kernel")]
    mutants: bool,
    /// An option of the pager's task in the manifest, such as policy=huge.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// List the cases with the obligations that they check, and end.
    #[arg(long)]
    list: bool,
    /// Only the cases that have this in their names.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Write the results to this file, as JUnit has them.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Seconds within which each answer on the host is due.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    deadline: f64,
    /// The compiler for what runs in the machine.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    toolchain: ToolchainChoice,
}

/// A case, as every source knows its own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Case {
    /// What is promised: `noun::sentence`.
    pub name: String,
    /// The obligations that it checks.
    pub obligations: Vec<String>,
}

/// Where cases come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The kit plays the kernel to a program.
    Host,
    /// The real kernel, and guests.
    Machine,
    /// The real kernel, a scripted pager and a scripted server.
    Kernel,
    /// Broken kernels, under the same scripts.
    Mutants,
}

impl Source {
    /// Those that `args` ask for.
    fn wanted(args: &Args) -> Vec<Self> {
        let host = (args.pager.is_some() || args.pager_elf.is_none()) && !args.kernel;
        let machine = args.pager_elf.is_some() || args.list && !args.kernel;
        let kernel = (args.kernel || args.list && args.pager.is_none() && args.pager_elf.is_none()) && !args.mutants;
        let all = [(Self::Host, host), (Self::Machine, machine), (Self::Kernel, kernel), (Self::Mutants, args.mutants)];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(source, _)| source).collect()
    }

    /// Its cases.
    fn cases(self, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<Case>> {
        let mut cases = match self {
            Self::Host => host::cases()?,
            Self::Machine => machine::cases(),
            Self::Kernel => kernel::cases()?,
            // Beside those that are wanted the whole kernel is tried.
            Self::Mutants => return mutants::cases(wanted),
        };
        cases.retain(|case| wanted(&case.name));
        Ok(cases)
    }

    /// Tries the cases that are wanted, and tells of each.
    fn run(self, args: &Args, wanted: &dyn Fn(&str) -> bool, tell: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
        match self {
            Self::Host => host::run(args, tell),
            Self::Machine => machine::run(args, wanted, tell),
            Self::Kernel => kernel::run(args, wanted, tell),
            Self::Mutants => mutants::run(args, wanted, tell),
        }
    }
}

/// Runs the verb: [`Status::Done`] when every case passed.
///
/// # Errors
/// A name that no case has, a kit that cannot be built.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    if args.pager.is_none() && args.pager_elf.is_none() {
        host::check_options(&args.set)?;
    }
    let mut report = Report::default();
    for source in Source::wanted(args) {
        let mut cases = source.cases(&wanted)?;
        if args.list {
            cases.iter().for_each(|case| println!("{:<72} {}", case.name, case.obligations.join(" ")));
            report.listed(cases.len());
            continue;
        }
        let before = report.rows();
        source.run(args, &wanted, &mut |row| {
            println!("{row}");
            report.add(row);
        })?;
        // A source that ends early has not kept anything.
        cases.retain(|case| !report.has(before, &case.name));
        for case in cases {
            let row = Row { case, failure: Some("it was not tried to its end".to_owned()), seconds: 0.0 };
            println!("{row}");
            report.add(row);
        }
    }
    if report.is_empty() {
        let only = args.only.as_deref().unwrap_or_default();
        return Err(status::usage(format!("no case has `{only}` in its name; --list shows them")));
    }
    if args.list {
        return Ok(Status::Done);
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, report.junit()).with_context(|| format!("writing {}", path.display()))?;
        say(&format!("results are in {}", path.display()));
    }
    Ok(report.finish())
}
