//! Guests of other boot protocols, and other people's.

use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;

/// A 32-bit kernel of ours: every check that it makes of what the loader left holds.
pub fn multiboot(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let trial = Trial::of("touch")
        .set("vm.kernel=multiboot-check")
        .set("vm.modules=[\"multiboot-module\"]")
        .set("vm.protocol=auto")
        .set("vm.cmdline=one two=3");
    let seen = trial.run(bench, name)?;
    seen.ends(Status::Done)?.shows(" checks passed, 0 failed")?;
    seen.holds(!seen.shown().contains("FAILED"), "no check of the guest's should fail")?;
    seen.ledger_matches()?;
    Ok(format!("{} checks", seen.number_before(" checks passed")?))
}

/// Debian's memtest86+ runs until it is stopped: its screen is on the console and it tests without an error; at full
/// length until it has come to the tests of random patterns.
pub fn memtest(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let (seconds, reached) = match bench.length {
        Length::Short => (240, "[Address test, "),
        Length::Full => (1200, "[Moving inversions, 64 bit pattern"),
    };
    let trial = Trial::of("linux")
        .set("vm.kernel=memtest86+")
        .set("vm.initrd=[]")
        .set("vm.memory=32 MiB")
        .set("vm.cmdline=nosmp nosm nobench nopause console=ttyS0,115200")
        .within(seconds)
        .until(reached);
    let seen = trial.run(bench, name)?;
    seen.ends(Status::Interrupted)?.shows("Memtest86+ v")?.shows(reached)?;
    let errors = seen.shown().split("Errors: ").skip(1).any(|rest| !rest.starts_with("0 "));
    seen.holds(!errors, "memtest86+ should find no error")?;
    Ok(String::new())
}
