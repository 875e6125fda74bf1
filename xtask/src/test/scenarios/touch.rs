//! The guest that touches everything.

use crate::status::Status;
use crate::test::promise::Bench;
use crate::test::trial::{Seen, Trial};

/// The costliest half of the 4 KiB faults, exit to entry, in ticks.
pub const FAULT_TICKS: u64 = 1500;

/// What every summary has, whoever reads it.
const KEYS: [&str; 9] = [
    "status",
    "machine",
    "ticks",
    "exits",
    "faults.count",
    "faults.pages_granted",
    "faults.ticks_p50",
    "faults.ticks_p99",
    "ledger_matches_ept",
];

/// On Bochs, where counts repeat exactly.
pub fn everything(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").run(bench, name)?;
    for key in KEYS {
        seen.holds(!seen.value(key)?.is_null(), &format!("the summary should say `{key}`"))?;
    }
    let (checks, faults) = checks_hold(&seen)?;
    let ticks = seen.figure("faults.ticks_p50")?;
    seen.holds(
        ticks <= FAULT_TICKS,
        &format!("half of the faults should cost {FAULT_TICKS} ticks at most, not {ticks}"),
    )?;
    Ok(format!("{checks} checks, {faults} faults, p50 {ticks} ticks"))
}

/// The guest ends well, and what it touched was granted by the pager, a page for a fault: how many checks it made, how
/// many faults.
pub fn checks_hold(seen: &Seen) -> anyhow::Result<(u64, u64)> {
    let (passed, touched) = ends_well(seen)?;
    let faults = seen.figure("faults.count")?;
    seen.holds(faults >= touched, &format!("{touched} pages were touched for the first time, with {faults} faults"))?;
    Ok((passed, faults))
}

/// The guest ends well, and what it touched was granted by the pager: how many checks it made, how many pages.
pub fn ends_well(seen: &Seen) -> anyhow::Result<(u64, u64)> {
    seen.ends(Status::Done)?.shows(" checks passed, 0 failed")?.shows("touch: ports: this line is one string")?;
    seen.holds(!seen.shown().contains("FAILED"), "no check of the guest's should fail")?;
    let passed =
        seen.shown().lines().filter(|line| line.starts_with("touch: ") && line.ends_with(" ok")).count() as u64;
    let counted = seen.number_before(" checks passed")?;
    seen.holds(passed == counted && passed >= 30, &format!("{passed} lines say ok, and the guest counted {counted}"))?;
    let touched = seen.number_before(" distinct pages touched")?;
    let granted = seen.figure("faults.pages_granted")?;
    seen.holds(touched >= 1100, &format!("{touched} pages touched are too few to tell"))?;
    seen.holds(granted >= touched, &format!("{touched} pages were touched, and the pager granted {granted}"))?;
    seen.ledger_matches()?;
    Ok((passed, touched))
}
