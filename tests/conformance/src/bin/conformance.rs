//! Tries a pager, and prints what came of each case: one JSON object a line.

use anyhow::Context;
use clap::Parser;
use conformance::case::Trial;
use conformance::cases;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Holds a pager to the obligations of ipc-proto/SPEC.md, section 13.2")]
struct Args {
    /// The shell's command that starts the pager; our own if there is none.
    #[arg(long, value_name = "COMMAND")]
    pager: Option<String>,
    /// Only cases with this in their names.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
    /// An option of the pager's task in the manifest.
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Seconds within which each answer is due.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    deadline: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let own = || -> anyhow::Result<String> {
        let mut path = std::env::current_exe()?;
        path.set_file_name("hosted");
        Ok(format!("'{}'", path.display()))
    };
    let split = |option: &String| -> anyhow::Result<(String, String)> {
        let (key, value) = option.split_once('=').with_context(|| format!("{option} is not KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    let trial = Trial {
        command: args.pager.map_or_else(own, Ok)?,
        options: args.option.iter().map(split).collect::<anyhow::Result<_>>()?,
        deadline: Duration::from_secs_f64(args.deadline),
    };
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut all_passed = true;
    for case in cases::all().iter().filter(|case| wanted(case.name)) {
        if args.list {
            println!("{}", serde_json::json!({ "name": case.name, "obligations": case.checks }));
            continue;
        }
        let outcome = case.outcome(&trial);
        all_passed &= outcome.failure.is_none();
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
