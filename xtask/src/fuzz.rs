//! `cargo xtask fuzz`: libFuzzer at every door through which bytes come in.
//!
//! The doors and what they promise are in `tests/fuzz`, the programs around them in its `libfuzzer/`, as cargo-fuzz lays them out.
//! What cargo-fuzz asks a nightly compiler for is coverage and an address sanitizer; the first is a pass of LLVM that every
//! compiler has, and the second finds nothing where there is no unsafe code. So this needs neither.

use crate::progress::say;
use crate::status::{self, Status};
use crate::{paths, setup};
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A door, and how many inputs a short run tries there.
const DOORS: &[(&str, u32)] = &[("words", 400_000), ("postcard", 400_000), ("grant", 20_000), ("pager", 20_000)];

/// The instrumentation that libFuzzer goes by.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// The longest input, in bytes.
const LONGEST: &str = "-max_len=1024";

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this door: words, postcard, grant or pager.
    door: Option<String>,
    /// Minutes in all, shared by the doors.
    #[arg(long, value_name = "N", default_value_t = 1)]
    minutes: u32,
    /// Try this one input, and nothing else.
    #[arg(long, value_name = "FILE", requires = "door")]
    input: Option<PathBuf>,
    /// Keep in tests/fuzz/libfuzzer/corpus the fewest inputs that reach all that was reached.
    #[arg(long, conflicts_with = "input")]
    keep: bool,
}

/// Runs the fuzzers: [`Status::Failed`] when an input broke a promise.
///
/// # Errors
/// An unknown door; what keeps the fuzzers from being built.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let chosen = |name: &str| args.door.as_deref().is_none_or(|door| door == name);
    let doors: Vec<&str> = DOORS.iter().map(|(name, _)| *name).filter(|name| chosen(name)).collect();
    if doors.is_empty() {
        let all: Vec<&str> = DOORS.iter().map(|(name, _)| *name).collect();
        return Err(status::usage(format!("there is no such door; there are: {}", all.join(", "))));
    }
    let fuzzers = Fuzzers::build()?;
    if let Some(input) = &args.input {
        let input = input.canonicalize().with_context(|| format!("{}", input.display()))?;
        return Ok(if fuzzers.start(doors[0])?.arg(input).status()?.success() { Status::Done } else { Status::Failed });
    }
    let seconds = (u64::from(args.minutes) * 60 / doors.len() as u64).max(1);
    let mut broken = Vec::new();
    for door in doors {
        say(&format!("fuzzing {door} for {seconds} s"));
        let found = fuzzers.folder("found", door)?;
        if let Err(why) = fuzzers.fuzz(door, &found, &format!("-max_total_time={seconds}")) {
            eprintln!("{why:#}");
            broken.push(door);
        } else if args.keep {
            fuzzers.keep(door, &found)?;
        }
    }
    if broken.is_empty() {
        return Ok(Status::Done);
    }
    say(&format!("broken: {}", broken.join(", ")));
    Ok(Status::Failed)
}

/// A fixed number of inputs at every door, always the same ones for the same programs: a part of `cargo xtask test`.
///
/// # Errors
/// An input that breaks a promise, or what keeps the fuzzers from being built.
pub fn short() -> anyhow::Result<String> {
    let fuzzers = Fuzzers::build()?;
    let mut told = Vec::new();
    for (door, runs) in DOORS {
        let found = fuzzers.folder("short", door)?;
        std::fs::remove_dir_all(&found)?;
        std::fs::create_dir_all(&found)?;
        let reached = fuzzers.fuzz(door, &found, &format!("-runs={runs}"))?;
        told.push(format!("{door} {runs} inputs, {reached} edges"));
    }
    Ok(told.join("; "))
}

/// The programs, built.
struct Fuzzers {
    programs: PathBuf,
    seeds: PathBuf,
}

impl Fuzzers {
    fn build() -> anyhow::Result<Self> {
        setup::packages(setup::need::FUZZ)?;
        say("building the fuzzers");
        let target = paths::target().join("fuzz");
        let host = Command::new("rustc").args(["--print", "host-tuple"]).output().context("starting rustc")?;
        let host = String::from_utf8(host.stdout)?.trim().to_owned();
        let mut build = cargo();
        build
            .args(["build", "--release", "--manifest-path"])
            .arg(paths::root().join("tests/fuzz/libfuzzer/Cargo.toml"));
        build.args(["--target", &host, "--target-dir"]).arg(&target);
        // For the programs only: what cargo builds for itself goes without.
        build.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
        ensure!(build.stdin(Stdio::null()).status().context("starting cargo")?.success(), "the fuzzers do not build");
        let seeds = target.join("seeds");
        if seeds.exists() {
            std::fs::remove_dir_all(&seeds)?;
        }
        let mut write = cargo();
        write.args(["run", "--quiet", "--package", "fuzz-checks", "--bin", "seeds", "--"]).arg(&seeds);
        ensure!(write.current_dir(paths::root()).status()?.success(), "the seeds cannot be written");
        Ok(Self { programs: target.join(host).join("release"), seeds })
    }

    fn start(&self, door: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.join(door));
        let broken = self.folder("broken", door)?;
        command.arg(LONGEST).arg(format!("-artifact_prefix={}/", broken.display())).stdin(Stdio::null());
        Ok(command)
    }

    /// A folder of ours for a door.
    fn folder(&self, what: &str, door: &str) -> anyhow::Result<PathBuf> {
        let folder = paths::target().join("fuzz").join(what).join(door);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Runs one fuzzer from the seeds, with what it `found` before; says how many edges it reached.
    fn fuzz(&self, door: &str, found: &Path, limit: &str) -> anyhow::Result<u64> {
        let mut command = self.start(door)?;
        command.args(["-seed=1", limit, "-print_final_stats=1"]).args([found, &self.seeds.join(door)]);
        let output = command.output().with_context(|| format!("starting {door}"))?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let lines: Vec<&str> = told.lines().collect();
            let at =
                lines.iter().position(|line| line.contains("panicked at")).unwrap_or(lines.len().saturating_sub(20));
            anyhow::bail!(
                "{door}: an input breaks a promise. To see it again: cargo xtask fuzz {door} --input FILE\n{}",
                lines[at..].join("\n")
            );
        }
        let done = told.lines().find(|line| line.contains("DONE")).with_context(|| format!("{door} says no DONE"))?;
        say(&format!("{door}: {}", done.trim()));
        let reached = done.split_once("cov: ").and_then(|(_, cov)| cov.split_whitespace().next()?.parse().ok());
        reached.filter(|edges| *edges > 100).with_context(|| format!("{door} is not instrumented: {done}"))
    }

    /// Puts the fewest inputs into the corpus that reach what it, `found` and the other seeds reach.
    fn keep(&self, door: &str, found: &Path) -> anyhow::Result<()> {
        let fewest = self.folder("fewest", door)?;
        std::fs::remove_dir_all(&fewest)?;
        std::fs::create_dir_all(&fewest)?;
        let mut merge = self.start(door)?;
        // Edges, not how often each is taken: else every loop would have its inputs.
        merge.args(["-set_cover_merge=1", "-use_counters=0"]).args([&fewest, found, &self.seeds.join(door)]);
        ensure!(merge.output()?.status.success(), "{door}: the inputs cannot be merged");
        let (_, others): (Vec<_>, Vec<_>) =
            contents(&self.seeds.join(door))?.into_iter().partition(|(name, _)| name.starts_with(FOUND));
        let mut lines: Vec<String> = contents(&fewest)?
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty() && others.iter().all(|(_, other)| other != bytes))
            .map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        lines.sort_by_key(|line| (line.len(), line.clone()));
        let corpus = paths::root().join("tests/fuzz/libfuzzer/corpus").join(door).with_extension("hex");
        std::fs::write(&corpus, lines.join("\n") + "\n").with_context(|| format!("writing {}", corpus.display()))
    }
}

/// How the names of seeds begin that are from the corpus.
const FOUND: &str = "found-";

/// The files of a folder, with their names.
fn contents(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let read =
        |entry: std::fs::DirEntry| Ok((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    entries.into_iter().map(read).collect()
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
