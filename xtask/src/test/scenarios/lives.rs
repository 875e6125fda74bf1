//! Tasks that die under a running guest, and go on.

use super::touch;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};

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
