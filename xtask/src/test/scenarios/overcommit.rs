//! Guests that are larger than their frames.

use super::lives;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;

/// Ticks that taking a page back and bringing it again may take, with all that the fault needs besides.
const TICKS_A_PAGE: u64 = 12_000;

/// Linux fills and verifies its pattern in fewer frames than it has pages, and powers off; the summary says what it cost. All
/// the while its pager is killed at ticks that nobody chose, mostly over a page that goes or comes back: what a life has found
/// out the next one knows, and no fault waits until the killing ends.
pub fn linux(bench: &Bench, name: &str) -> anyhow::Result<String> {
    // And the ticks that a fault may take: with two deaths of the pager within it and the proof of the ledger after each. With 80,000
    // pages in the store most lives end before they have adopted it, and a fault may wait until the killing ends.
    let (kills, within_us, most) = match bench.length {
        Length::Short => (100, 200_000, 50_000_000),
        Length::Full => (1000, 100_000, u64::MAX),
    };
    let trial = lives::killed("linux-overcommit", kills, (3000, within_us)).within(3600);
    let trial = match bench.length {
        Length::Short => trial.set("vm.memory=128 MiB").set("task.vmm-mm.memory=64 MiB"),
        Length::Full => trial,
    };
    let seen = trial.run(bench, name)?;
    lives::was_killed(&seen, kills)?;
    seen.ends(Status::Done)?.shows("checksum pass 1 ok ")?.shows("checksum pass 2 ok ")?;
    seen.shows("init: all checks passed")?.ledger_matches()?;
    let figure = |key: &str| seen.figure(&format!("servers.vmm-mm.{key}"));
    let (evictions, refaults, bytes) = (figure("evictions")?, figure("decompressions")?, figure("compressed_bytes")?);
    seen.holds(evictions > 1000 && refaults > 1000, "a guest larger than its frames has pages taken back, and again")?;
    let packed = figure("compressions")?;
    seen.holds(bytes * 2 < packed * 4096, &format!("{packed} pages should need less than half, not {bytes} bytes"))?;
    let (ticks, longest) = (seen.figure("ticks")?, seen.figure("faults.ticks_max")?);
    seen.holds(longest <= most, &format!("no fault should take {longest} ticks"))?;
    Ok(format!(
        "{kills} lives, the last of {evictions} evictions, {refaults} refaults, {packed} pages packed; {ticks} ticks, \
         {longest} for the longest fault"
    ))
}

/// What it costs to take a page back and to bring it again: a guest that does nothing else, beside one with frames enough.
pub fn cost(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let run = |set: &[&str], kind: &str| {
        let trial = Trial::of("work").set("policy=clock").within(300);
        let seen = set.iter().fold(trial, |trial, set| trial.set(set)).run(bench, &format!("{name}.{kind}"))?;
        seen.ends(Status::Done)?.ledger_matches()?;
        anyhow::Ok((seen.number_after("ticks=")?, seen))
    };
    let (enough, _) = run(&[], "enough")?;
    let (few, seen) = run(&["task.vmm-mm.memory=12 MiB"], "few")?;
    let evictions = seen.figure("servers.vmm-mm.evictions")?;
    seen.holds(evictions > 20_000, &format!("every pass should take everything back, not {evictions} pages"))?;
    let each = (few - enough) / evictions;
    seen.holds(each <= TICKS_A_PAGE, &format!("a page should cost {TICKS_A_PAGE} ticks at most, not {each}"))?;
    Ok(format!("{each} ticks for each of {evictions} pages that went and came again"))
}

/// Two VMs of one pager: the one whose pages do not compress ends, and says why; the other has all its frames and ends well.
pub fn alone(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("shared-pager").within(300).run(bench, name)?;
    seen.ends(Status::Failed)?.tells("vmm-mm: error: vm 1: out of memory at gpa ")?;
    seen.tells("vcpu-b: error: the pager denied an access to ")?;
    seen.holds(!seen.told().contains("vm 0: out of memory"), "the first VM has frames of its own")?;
    seen.shows("work: fill pages=7168 ")?.tells("vcpu-a: the guest ended with 0 on port 0xf4")?.ledger_matches()?;
    let figure = |key: &str| seen.figure(&format!("servers.vmm-mm.{key}"));
    let (tried, first) = (figure("vm1.incompressible")?, figure("evictions")?);
    seen.holds(tried < 12_000, &format!("each page is tried a few times, not {tried} times in all"))?;
    Ok(format!("the other VM had {first} pages taken back, and again"))
}
