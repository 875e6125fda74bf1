//! Tasks that die under a running guest, and go on.

use super::pipeline::{HERE, Puppet, hash_of};
use super::touch;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use anyhow::{Context, ensure};

/// The pager is killed again and again, at ticks that nobody chose, while a guest touches everything: it passes every check, and
/// after each kill EPT and frame table agree.
pub fn touched(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let kills = match bench.length {
        Length::Short => 100,
        Length::Full => 1000,
    };
    let seen = killed("touch", kills, (60, 200)).within(300).run(bench, name)?;
    let (checks, _) = touch::ends_well(&seen)?;
    was_killed(&seen, kills)?;
    Ok(format!("{checks} checks over {kills} lives of the pager, of seed {SEED}"))
}

/// The pager dies at each step of the protocol in turn, again and again: over a request, over a fault, with its answer made, half
/// written, sent.
pub fn steps(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let sets = ["task.vmm-mm.image=flawed", "task.vmm-mm.options={flaw=\"dies\", after=60}", "task.vmm-mm.restart=255"];
    let trial = sets.iter().fold(Trial::of("touch"), |trial, set| trial.set(set));
    let seen = trial.set("task.supervisor.options.check=true").within(300).run(bench, name)?;
    let (checks, _) = touch::ends_well(&seen)?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each death")?;
    let mut told = String::new();
    for step in ["Request", "Fault", "Answer", "HalfWritten", "Sent"] {
        let times = seen.told().matches(&format!("here is the flaw: {step}")).count();
        seen.holds(times >= if step == "Request" { 1 } else { 4 }, &format!("{step}: it died {times} times there"))?;
        told += &format!(", {step} {times}");
    }
    Ok(format!("{checks} checks over deaths at each step{told}"))
}

/// The pager dies with a page taken from the guest that is nowhere else yet, and with a part of a compressed page written, again and
/// again, while the guest has more pages than there are frames: what the guest reads is right.
pub fn reclaims(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const PAGES: u64 = 5000;
    let sets = [
        "task.vmm-mm.image=flawed",
        "task.vmm-mm.options={flaw=\"dies-reclaiming\", policy=\"clock\", after=800}",
        "task.vmm-mm.restart=255",
        "task.vmm-mm.memory=16 MiB",
        "vm.memory=8 MiB",
    ];
    let mut guest = Puppet::start(sets.iter().fold(Trial::of("swap"), |trial, set| trial.set(set)), bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    guest.fill(HERE, (PAGES, 1), (5, 3))?;
    let right = hash_of((0..PAGES).map(|page| 5 + page * 3));
    for _ in 0..2 {
        guest.done(&format!("type hash {HERE:#x} {PAGES} 1"))?;
        let hash = guest.hashed()?;
        ensure!(hash == right, "the guest should find what it has written");
    }
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each death")?;
    let [unmapped, packed] = ["Unmap", "Pack"].map(|step| seen.told().matches(&format!("flaw: {step}")).count());
    seen.holds(unmapped >= 3 && packed >= 3, &format!("it died {unmapped} and {packed} times"))?;
    Ok(format!("{unmapped} deaths over a page that was taken, {packed} over one that was half packed"))
}

/// The server of one VM dies in the middle of its guest: that VM is over, its pager has its frames again, and the other VM of the same
/// pager runs to its end.
pub fn server(bench: &Bench, name: &str) -> anyhow::Result<String> {
    // Of 24 MiB each VM has half, without its tables.
    const SHARE: u64 = (24 * 256 - 2 * 96) / 2;
    let trial = Trial::of("two-vms").set("task.supervisor.options.kill=vcpu-b");
    let seen = trial.set("task.supervisor.options.kill.after_ms=300").within(300).run(bench, name)?;
    seen.ends(Status::Failed)?.shows("work: fill pages=7168 ")?.tells("vcpu-a: the guest ended with 0 on port 0xf4")?;
    seen.tells("vcpu-b has stopped: it was killed; its VM is over, the others go on")?.ledger_matches()?;
    seen.holds(!seen.told().contains("vcpu-b: guest: work: fill"), "the guest should have been in the middle")?;
    let (_, free) = seen.told().split_once("vm 1 is over: its ").context("the pager should be told")?;
    let free: u64 = free.split(' ').next().unwrap_or_default().parse()?;
    let mapped = seen.figure("vm.1.frames_mapped")?;
    seen.holds(
        mapped == 0 && free + 32 > SHARE,
        &format!("{mapped} frames are mapped, and {free} of {SHARE} are free"),
    )?;
    Ok(format!("{free} frames came home; the other guest's memory was right"))
}

/// What the instants are drawn from.
const SEED: u64 = 20_261_127;

/// So many kills were as many lives, and after each EPT and frame table agreed.
pub fn was_killed(seen: &Seen, kills: u64) -> anyhow::Result<()> {
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each kill")?;
    let lives = seen.figure("task.vmm-mm.restarts")?;
    seen.holds(lives == kills, &format!("{kills} kills should be {kills} lives, not {lives}"))?;
    Ok(())
}

/// The system, with its pager killed so often, first after so many milliseconds, then after so many microseconds each.
pub fn killed(system: &str, kills: u64, (after_ms, within_us): (u64, u64)) -> Trial {
    let option = |key: &str, value: &dyn std::fmt::Display| format!("task.supervisor.options.{key}={value}");
    Trial::of(system)
        .set(&option("kill", &"vmm-mm"))
        .set(&option("kill.count", &kills))
        .set(&option("kill.seed", &SEED))
        .set(&option("kill.within_us", &within_us))
        .set(&option("kill.after_ms", &after_ms))
        .set(&option("check", &true))
}
