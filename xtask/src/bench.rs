//! `cargo xtask bench`: what a page fault served by another process costs, beside its peers.
//!
//! Read the modules in the order of a run: `row` says what there is to measure and what is promised; `lap` boots a
//! system on Bochs, where counts repeat exactly; `trace` reads what Bochs's debugger wrote down of one fault, and
//! `stage` says whose each instruction is; `guest` makes the K rows of that, `growth` the N rows, `linux` K11 and K11f,
//! `size` the kernel's size, `host` the L rows; `table` and `page` show them to people. `record` keeps exact counts in the
//! tree. `policies` is a table of its own.

mod growth;
mod guest;
mod host;
mod lap;
mod linux;
mod page;
mod policies;
mod record;
mod row;
mod size;
mod stage;
mod table;
mod trace;

pub use record::check as check_ticks;

use crate::progress::step;
use crate::setup::{self, ToolchainChoice};
use crate::status::{self, Status};
use anyhow::Context;
use row::{Measured, Row};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    table: Option<Table>,
    /// Write the rows to this file: a list of id, value, unit, commit, goal, events, peers.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these rows, or those whose id begins so: K3,K5 or L.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Write docs/performance.md, docs/performance.svg and docs/growth.svg anew.
    #[arg(long, conflicts_with = "only")]
    write_docs: bool,
    /// Write these documents anew from rows that `--json` wrote, and measure nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "json", "write_docs"])]
    docs_from: Option<PathBuf>,
    /// Write tests/ticks.toml anew: the counts that must not rise.
    #[arg(long)]
    write_ticks: bool,
    /// Write every instruction of each traced event to a file of this folder.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// The compiler for what runs in the machine.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    toolchain: ToolchainChoice,
}

/// Other tables than the one of docs/performance.md.
#[derive(Debug, clap::Subcommand)]
enum Table {
    /// Every policy of the pager on the same workloads: docs/policies.md.
    Policies(policies::Args),
}

/// Measures and shows.
///
/// # Errors
/// What keeps something from being measured. A promise that does not hold is no error: the table says so.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    if let Some(Table::Policies(args)) = &args.table {
        policies::run(args)?;
        return Ok(Status::Done);
    }
    if let Some(path) = &args.docs_from {
        let rows = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        page::write(&serde_json::from_slice(&rows)?)?;
        return Ok(Status::Done);
    }
    let wanted = |id: &str| args.only.is_empty() || args.only.iter().any(|only| is_meant(only, id));
    if !row::ALL.iter().any(|promise| wanted(promise.id)) {
        let ids: Vec<&str> = row::ALL.iter().map(|promise| promise.id).collect();
        return Err(status::usage(format!("no row begins with that; there are: {}", ids.join(", "))));
    }
    if args.write_ticks {
        record::write(args.toolchain)?;
    }
    let group = |make: Group| row::ALL.iter().any(|promise| wanted(promise.id) && promise.group == make);
    let mut measured = Vec::new();
    if group(Group::Guest) || group(Group::Growth) {
        for packages in [setup::need::IMAGE, setup::need::BOCHS] {
            setup::packages(packages)?;
        }
    }
    if group(Group::Guest) {
        measured.extend(step("K rows, in the machine", || guest::measure(args.toolchain, args.traces.as_deref()))?);
    }
    if group(Group::Growth) {
        measured.extend(step("N rows, how cost grows", || growth::measure(args.toolchain))?);
    }
    if group(Group::Linux) {
        measured.extend(step("K11 and K11f, Linux with and without", || linux::measure(args.toolchain))?);
    }
    if group(Group::Size) {
        measured.extend(step("the kernel's size", || size::measure(args.toolchain))?);
    }
    if group(Group::Host) {
        measured.extend(step("L rows, on the host", host::measure)?);
    }
    let rows: Vec<Row> = row::ALL
        .iter()
        .filter(|promise| wanted(promise.id))
        .map(|promise| {
            let found = measured.iter().position(|(id, _)| *id == promise.id);
            let measured = found.map_or_else(|| Measured::not("nothing measured it"), |at| measured.swap_remove(at).1);
            Row { promise, measured }
        })
        .collect();
    print!("\n{}", table::text(&rows));
    let json = row::json(&rows);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&json)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.write_docs {
        page::write(&json)?;
    }
    Ok(Status::Done)
}

/// Whether `only` means the row `id`: a row of just that name, or else all whose names begin so.
fn is_meant(only: &str, id: &str) -> bool {
    let is_row = row::ALL.iter().any(|promise| promise.id.eq_ignore_ascii_case(only));
    let only = only.to_lowercase();
    if is_row { id.eq_ignore_ascii_case(&only) } else { id.to_lowercase().starts_with(&only) }
}

/// What has to run for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The guests that time themselves.
    Guest,
    /// A guest on systems of more and more.
    Growth,
    /// Linux, with and without Faultline.
    Linux,
    /// Nothing: the kernel's file and its sources are looked at.
    Size,
    /// Libraries beside their peers, on the host.
    Host,
}
