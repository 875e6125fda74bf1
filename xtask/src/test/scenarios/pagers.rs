//! A second pager, in C: a guest cannot tell whose pages it runs on.

use super::touch;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use anyhow::ensure;

/// The guest that touches everything passes the same checks on both pagers; at full length, Debian's kernel finds the
/// same checksums in its memory.
pub fn in_c(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let (ours, c) = on_both("touch", 120, bench, name)?;
    touch::ends_well(&c)?;
    same("checks", &ours, &c, |line| line.starts_with("touch: ") && line.ends_with(" ok"), 30)?;
    let pages = c.figure("faults.pages_granted")?;
    let told = format!("{} faults for {pages} pages", c.figure("faults.count")?);
    if bench.length == Length::Short {
        return Ok(told);
    }
    let (ours, c) = on_both("linux", 900, bench, &format!("{name}.linux"))?;
    c.ends(Status::Done)?.shows("init: all checks passed")?.ledger_matches()?;
    same("checksums", &ours, &c, |line| line.starts_with("checksum pass "), 2)?;
    Ok(format!("{told}; the checksums of Debian's kernel are the same"))
}

/// The system on the pager in Rust and on the one in C.
fn on_both(system: &str, seconds: u64, bench: &Bench, name: &str) -> anyhow::Result<(Seen, Seen)> {
    let on = |pager: &str| {
        let trial = Trial::of(system).set(&format!("pager={pager}")).within(seconds);
        trial.run(bench, &format!("{name}.{pager}"))
    };
    let (ours, c) = (on("rust")?, on("c")?);
    c.tells("building pager-c")?;
    ours.holds(!ours.told().contains("building pager-c"), "one of the two runs should have the pager in Rust")?;
    Ok((ours, c))
}

/// The guest's lines that `wanted` picks are the same, and there are `least` of them.
fn same(what: &str, ours: &Seen, c: &Seen, wanted: fn(&str) -> bool, least: usize) -> anyhow::Result<()> {
    let lines = |seen: &Seen| seen.shown().lines().filter(|line| wanted(line)).map(str::to_owned).collect::<Vec<_>>();
    let (ours, c) = (lines(ours), lines(c));
    ensure!(ours == c, "{what} on the pager in Rust:\n{}\nand on the one in C:\n{}", ours.join("\n"), c.join("\n"));
    ensure!(c.len() >= least, "{} {what} are fewer than {least}", c.len());
    Ok(())
}
