//! Tasks that die under a running guest, and go on.

use super::touch;
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;

/// The pager is killed again and again, at ticks that nobody chose, while a guest touches everything: it passes every check, and
/// after each kill EPT and frame table agree.
pub fn touched(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let kills = match bench.length {
        Length::Short => 100,
        Length::Full => 1000,
    };
    let seen = killed("touch", kills, 60).within(300).run(bench, name)?;
    let (checks, _) = touch::ends_well(&seen)?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each kill")?;
    let lives = seen.figure("task.vmm-mm.restarts")?;
    seen.holds(lives == kills, &format!("{kills} kills should be {kills} lives, not {lives}"))?;
    Ok(format!("{checks} checks over {lives} lives of the pager, of seed {SEED}"))
}

/// What the instants are drawn from.
const SEED: u64 = 20_261_127;

/// The system, with its pager killed so often, first after so many milliseconds.
fn killed(system: &str, kills: u64, after_ms: u64) -> Trial {
    let option = |key: &str, value: &dyn std::fmt::Display| format!("task.supervisor.options.{key}={value}");
    Trial::of(system)
        .set(&option("kill", &"vmm-mm"))
        .set(&option("kill.count", &kills))
        .set(&option("kill.seed", &SEED))
        .set(&option("kill.within_us", &200))
        .set(&option("kill.after_ms", &after_ms))
        .set(&option("check", &true))
}
