//! `cargo xtask bench policies`: every policy on the same workloads, as the table of docs/policies.md.
//!
//! Each cell is one run on Bochs, where counts repeat exactly. What the guest's own instructions take is known from `eager`,
//! under which its work has no fault: what is more is the pager's and the kernel's, and the pager counts its own.

mod page;

use super::lap::{self, Built};
use crate::progress::{say, step};
use crate::setup::{self, ToolchainChoice};
use crate::summary::Figures;
use anyhow::Context;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vmm_mm::policy::Chosen;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the cells to this file as each is done: a list of workload, policy and figures.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the cells that the file of --json has already: go on where a run was left.
    #[arg(long, requires = "json")]
    resume: bool,
    /// Only these policies.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these workloads: boot, fill, random, shift, overcommitted.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    workload: Vec<String>,
    /// Write the table of docs/policies.md and its picture anew.
    #[arg(long, conflicts_with_all = ["only", "workload"])]
    write_docs: bool,
    /// Write both anew from cells that `--json` wrote, and measure nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "workload", "json", "write_docs"])]
    docs_from: Option<PathBuf>,
    /// The compiler for what runs in the machine.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    toolchain: ToolchainChoice,
}

/// Something to do for a guest.
struct Workload {
    name: &'static str,
    system: &'static str,
    set: &'static [&'static str],
    /// What the guest prints when all is as it should be.
    right: &'static str,
}

/// The policy under which a guest's work has no fault.
const WITHOUT_FAULTS: &str = "eager";
/// What one run may take.
const LIMIT: Duration = Duration::from_secs(1500);

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "boot",
        system: "linux",
        set: &["vm.memory=128 MiB", "log=warn"],
        right: "init: all checks passed",
    },
    Workload { name: "fill", system: "work", set: &["vm.kernel=work-fill"], right: "work: fill pages=" },
    Workload { name: "random", system: "work", set: &["vm.kernel=work-random"], right: "work: random pages=" },
    Workload { name: "shift", system: "work", set: &["vm.kernel=work-shift"], right: "work: shift pages=" },
    Workload {
        name: "overcommitted",
        system: "work",
        set: &["vm.kernel=work-fill", "task.vmm-mm.memory=16 MiB"],
        right: "work: fill pages=",
    },
];

/// Measures, and shows the table.
///
/// # Errors
/// What keeps a run from being made; a guest whose checks fail.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(path) = &args.docs_from {
        let cells = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut cells = serde_json::from_slice::<Vec<Value>>(&cells)?;
        finish(&mut cells);
        return page::write(&cells);
    }
    let policies = chosen(&args.only, Chosen::NAMES, "policy")?;
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    let workloads = chosen(&args.workload, &names, "workload")?;
    for packages in [setup::need::IMAGE, setup::need::BOCHS] {
        setup::packages(packages)?;
    }
    let known = if args.resume { kept(args.json.as_deref())? } else { Vec::new() };
    let mut jobs = VecDeque::new();
    for workload in WORKLOADS.iter().filter(|workload| workloads.contains(&workload.name)) {
        for policy in &policies {
            if known.iter().any(|cell| is(cell, workload.name, policy)) {
                continue;
            }
            let set = workload.set.iter().copied().map(str::to_owned);
            let set = set.chain([format!("policy={policy}"), "task.vmm-mm.measure=on".to_owned()]);
            jobs.push_back((workload, *policy, lap::build(workload.system, set.collect(), args.toolchain)?));
        }
    }
    say(&format!("{} cells to measure, {} are there", jobs.len(), known.len()));
    let mut cells = step("every policy on every workload", || all(jobs, known, args.json.as_deref()))?;
    finish(&mut cells);
    print!("\n{}", page::table(&cells));
    if args.write_docs {
        page::write(&cells)?;
    }
    Ok(())
}

/// Brings the cells into the table's order, and adds what follows from several of them.
fn finish(cells: &mut [Value]) {
    cells.sort_by_key(|cell| {
        let workload = WORKLOADS.iter().position(|workload| cell["workload"] == workload.name);
        (workload, Chosen::NAMES.iter().position(|name| cell["policy"] == **name))
    });
    kernel_ticks(cells);
}

/// Whether the cell is that one.
fn is(cell: &Value, workload: &str, policy: &str) -> bool {
    cell["workload"] == workload && cell["policy"] == policy
}

/// The cells of an earlier run; none when there is no such file.
fn kept(path: Option<&Path>) -> anyhow::Result<Vec<Value>> {
    match path.filter(|path| path.exists()) {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{} has no cells", path.display()))
        }
        None => Ok(Vec::new()),
    }
}

/// Those of `all` that are wanted: every one when none is named.
fn chosen<'a>(wanted: &[String], all: &[&'a str], what: &str) -> anyhow::Result<Vec<&'a str>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(crate::status::usage(format!("there is no {what} `{unknown}`; there are: {}", all.join(", "))));
    }
    Ok(all.iter().copied().filter(|name| wanted.is_empty() || wanted.iter().any(|one| one == name)).collect())
}

type Job = (&'static Workload, &'static str, Built);

/// Runs the jobs side by side, one on each CPU; the cells with those that are known, which `path` keeps as they come.
fn all(jobs: VecDeque<Job>, known: Vec<Value>, path: Option<&Path>) -> anyhow::Result<Vec<Value>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (queue, cells) = (Mutex::new(jobs), Mutex::new(known));
    let work = || -> anyhow::Result<()> {
        loop {
            let next = locked(&queue).pop_front();
            let Some((workload, policy, built)) = next else { return Ok(()) };
            let start = Instant::now();
            let cell = cell(workload, policy, &built).with_context(|| format!("{} under {policy}", workload.name))?;
            let (took, left) = (start.elapsed().as_secs(), locked(&queue).len());
            say(&format!("{} under {policy}: {} ({took} s), {left} to begin", workload.name, page::short(&cell)));
            let mut cells = locked(&cells);
            cells.push(cell);
            if let Some(path) = path {
                let text = serde_json::to_string_pretty(&*cells)? + "\n";
                std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(_) => anyhow::bail!("a worker panicked"),
        })
    })?;
    Ok(cells.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cell(workload: &Workload, policy: &str, built: &Built) -> anyhow::Result<Value> {
    let said = lap::run(built, lap::GO_ON, LIMIT)?;
    let mut cell = json!({"workload": workload.name, "policy": policy});
    if !said.guest.contains(workload.right) {
        // Only a policy that takes frames back has more memory than frames.
        anyhow::ensure!(workload.name == "overcommitted", "the guest did not do its work:\n{}", said.guest);
        cell["refused"] = json!(true);
        return Ok(cell);
    }
    let own = said.guest.lines().find_map(|line| number(line.strip_prefix("work: ")?, "ticks="));
    let kernel = |key: &str| said.figures.kernel(key).with_context(|| format!("the kernel did not say {key}"));
    cell["ticks"] = json!(own.map_or_else(|| kernel("ticks"), Ok)?);
    for (name, key) in
        [("faults", "faults.count"), ("granted", "faults.pages_granted"), ("fault_p50", "faults.ticks_p50")]
    {
        cell[name] = json!(kernel(key)?);
    }
    for (name, key) in [
        ("peak_frames", "frames_peak"),
        ("ticks_pager", "ticks_pager"),
        ("evictions", "evictions"),
        ("refaults", "decompressions"),
    ] {
        cell[name] = json!(pager(&said.figures, key)?);
    }
    Ok(cell)
}

fn pager(figures: &Figures, key: &str) -> anyhow::Result<u64> {
    figures.of("vmm-mm", key).with_context(|| format!("the pager did not say {key}"))
}

fn number(text: &str, before: &str) -> Option<u64> {
    let (_, after) = text.split_once(before)?;
    after.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Where the guest's own ticks are known, what is neither its nor the pager's is the kernel's. Pages that were used are those
/// that `demand` granted.
fn kernel_ticks(cells: &mut [Value]) {
    let of = |cells: &[Value], workload: &Value, policy: &str, key: &str| {
        let cell = cells.iter().find(|cell| cell["workload"] == *workload && cell["policy"] == policy)?;
        cell[key].as_u64()
    };
    for place in 0..cells.len() {
        let workload = cells[place]["workload"].clone();
        // The same work, with enough frames.
        let source = if workload == "overcommitted" { json!("fill") } else { workload.clone() };
        let guest = of(cells, &source, WITHOUT_FAULTS, "ticks").filter(|_| workload != "boot");
        let used = of(cells, &source, "demand", "granted");
        let cell = &mut cells[place];
        cell["used"] = json!(used);
        if let Some(((ticks, pager), guest)) = cell["ticks"].as_u64().zip(cell["ticks_pager"].as_u64()).zip(guest) {
            cell["ticks_kernel"] = json!(ticks.saturating_sub(guest).saturating_sub(pager));
        }
    }
}
