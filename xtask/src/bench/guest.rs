//! The rows that guests and servers time themselves in the machine.

use super::lap::{self, Built, Said};
use super::row::Measured;
use super::stage;
use super::trace::{self, Events, Trace};
use crate::build;
use crate::setup::ToolchainChoice;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmm_mm::policy::Chosen;

/// What a run may take; it takes a few seconds.
const LIMIT: Duration = Duration::from_secs(120);
/// What the guest `bench` does between marks, in its order.
const TRACED: [&str; 5] = ["first_touch_no_table", "first_touch", "cpuid", "out", "mmio_read"];
/// What servers of `tests/stopwatch` and their guest do between marks, in their order.
const RUNS_TRACED: [&str; 8] =
    ["call_reply", "single", "around", "retried", "map", "unmap", "write_protected", "large"];
/// Pages in the long run of `tests/stopwatch`.
const RUN: f64 = 512.0;
/// Answers that map nothing, for each page that is retried there.
const RETRIES: f64 = 32.0;
/// Pages around a fault there.
const AROUND: f64 = 16.0;

/// The policy of vmm-mm that maps pages around a fault; its window is 16 pages.
const FAULT_AROUND: &str = "fault-around";

/// Ticks by name: the median of what a guest timed, and what servers of `tests/stopwatch` report.
pub type Figures = BTreeMap<String, u64>;

/// The exact ticks of everything that is timed, for the promise that none rises.
///
/// # Errors
/// What keeps them from being measured.
pub fn figures(toolchain: ToolchainChoice) -> anyhow::Result<Figures> {
    let bench = lap::run(&lap::build("bench", Vec::new(), toolchain)?, lap::GO_ON, LIMIT)?;
    let mut figures = timed_by_guest(&bench)?;
    figures.insert("fault_exit_to_entry".into(), bench.figures.kernel("faults.ticks_p50").context("no faults")?);
    figures.extend(runs(toolchain, lap::GO_ON)?.0);
    Ok(figures)
}

/// The K and G rows but those of Linux.
///
/// # Errors
/// What keeps them from being measured.
pub fn measure(toolchain: ToolchainChoice, folder: Option<&Path>) -> anyhow::Result<Vec<(&'static str, Measured)>> {
    let built = lap::build("bench", Vec::new(), toolchain)?;
    let said = lap::run(&built, &trace::script(TRACED.len()), LIMIT)?;
    let times = timed_by_guest(&said)?;
    let traces = trace::read(&said.debugger);
    let around = fault_around(toolchain)?;
    let (runs, of_runs) = runs(toolchain, &trace::script(RUNS_TRACED.len()))?;
    let traces =
        name(&TRACED, traces)?.into_iter().chain(name(&RUNS_TRACED, trace::read(&of_runs.debugger))?).collect();
    if let Some(folder) = folder {
        write_traces(folder, &traces, &built.parts.kernel)?;
    }
    let facts = Facts { times, traces, around, runs, kernel: built.parts.kernel.clone(), said };
    facts.rows()
}

/// Traces by what was traced.
type Traces = BTreeMap<&'static str, Trace>;

fn name(names: &[&'static str], traces: Vec<Trace>) -> anyhow::Result<Traces> {
    anyhow::ensure!(traces.len() == names.len(), "{} traces, not {}", traces.len(), names.len());
    Ok(names.iter().copied().zip(traces).collect())
}

/// Each trace as text, in a file named for what was traced.
fn write_traces(folder: &Path, traces: &Traces, kernel: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, trace) in traces {
        let path = folder.join(format!("{name}.txt"));
        std::fs::write(&path, stage::listing(trace, kernel)?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// What the rows are made of.
struct Facts {
    times: Figures,
    traces: Traces,
    /// What the guest timed with [`FAULT_AROUND`], if vmm-mm has it.
    around: Option<Figures>,
    runs: Figures,
    kernel: PathBuf,
    said: Said,
}

impl Facts {
    fn rows(&self) -> anyhow::Result<Vec<(&'static str, Measured)>> {
        let mut rows = self.faults()?;
        rows.extend(self.kernel_alone()?);
        rows.extend(self.exits()?);
        Ok(rows)
    }

    /// The fault and its stages.
    fn faults(&self) -> anyhow::Result<Vec<(&'static str, Measured)>> {
        let fault = self.time("first_touch")?;
        let stages = stage::split(self.trace("first_touch")?, &self.kernel)?;
        let exit_to_entry = self.said.figures.kernel("faults.ticks_p50").unwrap_or_default();
        let k3 = Measured {
            stages: Some(stages),
            ..self
                .guest("first_touch", &format!("1,533 pages; the kernel counts {exit_to_entry} from exit to entry"))?
        };
        let k4 = Measured::of(
            (stages.of("decode") + stages.of("install")) as f64,
            format!("of the trace of one fault, by function: {}", stages.text()),
        );
        let missing = self.guest("first_touch_no_table", "the first page of a table that is not there yet")?;
        let (ticks, how) = (self.time("first_touch_no_table")?, missing.how.clone());
        let k10 = Measured { value: Some(ticks / fault), how: format!("{ticks} ticks; {how}"), ..missing };
        let most = self.said.figures.kernel("faults.ticks_max").context("no faults")?;
        let k10z = Measured::of(
            most as f64 / fault,
            format!("{most} ticks, the kernel's faults.ticks_max: the worst of all faults of the run"),
        );
        Ok(vec![("K3", k3), ("K4", k4), ("K10", k10), ("K10z", k10z)])
    }

    /// What the kernel does for the servers of `tests/stopwatch`.
    fn kernel_alone(&self) -> anyhow::Result<Vec<(&'static str, Measured)>> {
        let (single, fault) = (self.run("single")?, self.time("first_touch")?);
        let retried = (self.run("retried")? - single) / RETRIES;
        let (map, unmap, harvest) = (self.run("map")?, self.run("unmap")?, self.run("harvest")?);
        let (fixed, large) = (self.run("write_protected")?, self.run("large")?);
        let by_pager = "timed by the pager around one system call on 512 pages";
        let protect = format!(
            "{fixed} ticks, p50 of 511 writes to pages whose right to write `Harvest` took, timed by the guest; taking it \
             from 512 pages takes {harvest}"
        );
        let beside =
            format!("{large} ticks of a fault that maps 2 MiB, {single} of one that maps a page, timed by the guest");
        let (whole, one) = (self.events("retried")?, self.events("single")?);
        let with = |measured: Measured, events: Events| Measured { events: Some(events), ..measured };
        let calls = Measured::of(self.run("call_reply")?, "p50 of 256 calls of nothing, timed by the caller");
        let retries =
            Measured::of(retried, "32 replies `Retry` to one fault, timed by the guest, less one that maps, for each");
        Ok(vec![
            ("K1", with(calls, self.events("call_reply")?)),
            ("K2", with(retries, whole.less(&one).each(RETRIES as u64))),
            ("K5", self.around()?),
            ("K6", with(Measured::of(map / RUN, format!("{map} ticks: {by_pager}")), self.events("map")?)),
            ("K7", with(Measured::of(fixed / fault, protect), self.events("write_protected")?)),
            ("K8", with(Measured::of(unmap / RUN, format!("{unmap} ticks: {by_pager}")), self.events("unmap")?)),
            ("K12", with(Measured::of(large / single, beside), self.events("large")?)),
        ])
    }

    fn events(&self, name: &str) -> anyhow::Result<Events> {
        stage::events(self.trace(name)?, &self.kernel)
    }

    /// A fault that maps sixteen pages, for each of them, in faults that map one.
    fn around(&self) -> anyhow::Result<Measured> {
        let (alone, kernel) = (self.run("single")?, self.run("around")?);
        let beside = format!(
            "a pager of the tests that only grants runs of 16 takes {kernel} a fault, against {alone} for one page: {:.3}",
            kernel / AROUND / alone
        );
        let Some(figures) = &self.around else {
            return Ok(Measured::not(format!("vmm-mm has no policy {FAULT_AROUND} yet; {beside}")));
        };
        let figure = |name: &str| figures.get(name).map(|ticks| *ticks as f64).with_context(|| format!("no {name}"));
        let (fault, mapped) = (figure("every_sixteenth")?, figure("first_touch")?);
        anyhow::ensure!(mapped < 10.0, "with {FAULT_AROUND} most pages should be there, but take {mapped} ticks");
        let how = format!("{fault} ticks, p50 of the pages that fault, under vmm-mm's policy {FAULT_AROUND}; {beside}");
        Ok(Measured::of(fault / AROUND / self.time("first_touch")?, how))
    }

    /// What leaves the guest whenever it is done.
    fn exits(&self) -> anyhow::Result<Vec<(&'static str, Measured)>> {
        let mmio = format!("256 reads where no memory is; a write takes {}", self.time("mmio_write")?);
        Ok(vec![
            ("K9", self.guest("out", "256 OUT to the scratch register of COM1")?),
            ("G1", self.guest("cpuid", "256 CPUID of leaf 0")?),
            ("G2", self.guest("first_touch", "1,533 pages, half of them read and half written")?),
            ("G3", self.guest("out", "256 OUT to the scratch register of COM1")?),
            ("G4", self.guest("mmio_read", &mmio)?),
        ])
    }

    /// A figure that the guest timed, with the events of its trace.
    fn guest(&self, name: &str, how: &str) -> anyhow::Result<Measured> {
        let trace = self.trace(name)?;
        let traced = trace.ticks();
        let how = format!("p50, timed by the guest with RDTSC, less RDTSC itself ({traced} in the trace): {how}");
        Ok(Measured { events: Some(self.events(name)?), ..Measured::of(self.time(name)?, how) })
    }

    fn time(&self, name: &str) -> anyhow::Result<f64> {
        self.times.get(name).map(|ticks| *ticks as f64).with_context(|| format!("the guest did not time {name}"))
    }

    fn run(&self, name: &str) -> anyhow::Result<f64> {
        self.runs.get(name).map(|ticks| *ticks as f64).with_context(|| format!("nobody timed {name}"))
    }

    fn trace(&self, name: &str) -> anyhow::Result<&Trace> {
        self.traces.get(name).with_context(|| format!("there is no trace of {name}"))
    }
}

/// Boots the system `bench` with [`FAULT_AROUND`].
fn fault_around(toolchain: ToolchainChoice) -> anyhow::Result<Option<Figures>> {
    if !Chosen::NAMES.contains(&FAULT_AROUND) {
        return Ok(None);
    }
    let set = vec![format!("policy={FAULT_AROUND}")];
    timed_by_guest(&lap::run(&lap::build("bench", set, toolchain)?, lap::GO_ON, LIMIT)?).map(Some)
}

/// Boots the system `bench-runs` with the servers of `tests/stopwatch`.
fn runs(toolchain: ToolchainChoice, script: &str) -> anyhow::Result<(Figures, Said)> {
    let image = build::programs(&["stopwatch"], toolchain)?.join("stopwatch");
    let image = toml::Value::from(image.to_str().context("a path that is text")?);
    let set = ["pager", "caller"].map(|task| format!("task.{task}.image={image}"));
    let built: Built = lap::build("bench-runs", set.to_vec(), toolchain)?;
    let said = lap::run(&built, script, LIMIT)?;
    let mut figures = timed_by_guest(&said)?;
    for (speaker, key, name) in [
        ("caller", "call_reply.p50", "call_reply"),
        ("pager", "map.run", "map"),
        ("pager", "unmap.run", "unmap"),
        ("pager", "harvest.run", "harvest"),
    ] {
        let ticks = said.figures.of(speaker, key).with_context(|| format!("{speaker} did not time {key}"))?;
        figures.insert(name.into(), ticks);
    }
    Ok((figures, said))
}

/// The medians that a guest printed: `bench: NAME min 1 p50 2 max 3 of 4`.
fn timed_by_guest(said: &Said) -> anyhow::Result<Figures> {
    anyhow::ensure!(said.guest.contains("bench: done"), "the guest did not come to its end:\n{}", said.guest);
    Ok(said.guest.lines().filter_map(median).collect())
}

fn median(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.strip_prefix("bench: ")?.split_once(" min ")?;
    let ticks = rest.split_once(" p50 ")?.1.split(' ').next()?;
    Some((name.to_owned(), ticks.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_guests_is_a_figure_and_others_are_none() {
        let line = "bench: first_touch min 820 p50 821 max 70521 of 1533";
        assert_eq!(median(line), Some(("first_touch".to_owned(), 821)));
        assert_eq!(median("bench: traced first_touch"), None);
        assert_eq!(median("bench: two RDTSC take 5 ticks, which is taken off every figure"), None);
    }
}
