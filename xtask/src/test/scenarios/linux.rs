//! Debian's unmodified kernel.

use super::touch::FAULT_TICKS;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use crate::test::typing::Typing;
use std::time::Duration;

/// How long a person waits for an answer, on a machine that others use too.
const ANSWER: Duration = Duration::from_secs(60);

/// RAM of the system, in 4 KiB pages: 512 MiB.
const PAGES: u64 = 512 << 8;
/// RAM of the long run: what fits into a Bochs of 2 GiB.
const LONG_PAGES: u64 = 1536 << 8;

/// It boots to its user space, its memory keeps what is written, time advances, and it powers off; every page came
/// from the pager.
pub fn debian(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let (trial, ram) = match bench.length {
        Length::Short => (Trial::of("linux").within(900), PAGES),
        Length::Full => (Trial::of("linux").set("vm.memory=1536 MiB").set("vm.tables=1664").within(1800), LONG_PAGES),
    };
    let seen = trial.run(bench, name)?;
    all_checks_passed(&seen, ram)
}

/// The kernel that Debian builds for PCs, with all that the small one leaves out.
pub fn generic(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const GENERIC_PAGES: u64 = 320 << 8;
    let trial = Trial::of("linux").set("vm.kernel=debian-generic").set("vm.memory=320 MiB").within(900);
    let seen = trial.run(bench, name)?;
    seen.holds(!seen.shown().contains("cloud-amd64"), "it should be another kernel")?;
    all_checks_passed(&seen, GENERIC_PAGES)
}

/// With `--interactive` there is a shell: what a person types reaches it, and its answer the person.
pub fn shell(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut person = Typing::start("linux --machine bochs --timeout 400 --set 'vm.memory=256 MiB'", bench, name)?;
    person.sees("guest:/root# ", Duration::from_secs(300))?;
    person.types("echo sum=$((6000 + 13)) in=$PWD\r")?;
    person.sees("sum=6013 in=/root", ANSWER)?;
    // Job control: Ctrl-C ends what runs in the foreground, and only that.
    person.types("sleep 1000\r")?;
    person.sees("sleep 1000", ANSWER)?;
    person.types("\x03")?;
    person.sees("guest:/root# ", ANSWER)?;
    person.types("poweroff -f\r")?;
    person.sees("the guest powered off", ANSWER)?;
    let status = person.ends(ANSWER)?;
    anyhow::ensure!(status.success(), "it should end with status 0, not {status}");
    Ok(String::new())
}

/// What `/init` checks, and what the summary says of a guest with `ram` pages.
fn all_checks_passed(seen: &Seen, ram: u64) -> anyhow::Result<String> {
    seen.ends(Status::Done)?.shows("Linux version ")?.shows("debian-kernel@lists.debian.org")?;
    seen.shows("checksum pass 1 ok ")?.shows("checksum pass 2 ok ")?.shows("init: all checks passed")?;
    let pages = seen.number_after("pages=")?;
    seen.holds(pages * 100 >= ram * 70, &format!("the pattern filled {pages} of {ram} pages, less than 70 %"))?;
    let slept = seen.number_after("init: sleep 1 took ")?;
    seen.holds((900..=1500).contains(&slept), &format!("sleep 1 took {slept} ms of the guest's time"))?;
    let (faults, granted) = (seen.figure("faults.count")?, seen.figure("faults.pages_granted")?);
    seen.holds(granted >= pages, &format!("the pattern took {pages} pages, and the pager granted {granted}"))?;
    let ticks = seen.figure("faults.ticks_p50")?;
    seen.holds(
        ticks <= FAULT_TICKS,
        &format!("half of the faults should cost {FAULT_TICKS} ticks at most, not {ticks}"),
    )?;
    seen.ledger_matches()?;
    Ok(format!("pattern in {pages} pages, {faults} faults, p50 {ticks} ticks"))
}
