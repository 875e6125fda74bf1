//! In the machine: the pager is booted with the real kernel, under the guest that checks everything, and under Linux.

use super::report::Row;
use super::{Args, Case};
use crate::paths;
use crate::progress::say;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use anyhow::Context;
use std::time::Instant;

/// A boot.
struct Boot {
    /// The system, and the name of its console's file.
    system: &'static str,
    /// Seconds that the machine gets.
    seconds: u64,
    /// What is looked at.
    checks: &'static [Check],
}

/// What is looked at.
struct Check {
    name: &'static str,
    obligations: &'static [&'static str],
    holds: fn(&Seen) -> anyhow::Result<()>,
}

const BOOTS: &[Boot] = &[
    Boot {
        system: "touch",
        seconds: 240,
        checks: &[
            Check { name: "machine::touch_ends_well", obligations: &["P1", "P2", "P22", "P38"], holds: ends_well },
            Check { name: "machine::touch_finds_its_memory", obligations: &["P5", "P9", "P11", "P12"], holds: touched },
            Check { name: "machine::touch_leaves_a_ledger_that_matches", obligations: &["P7", "P13"], holds: ledger },
            Check { name: "machine::touch_sees_figures", obligations: &["P36"], holds: figures },
        ],
    },
    Boot {
        system: "linux",
        seconds: 900,
        checks: &[
            Check { name: "machine::linux_ends_well", obligations: &["P2", "P37", "P38"], holds: ends_well },
            Check { name: "machine::linux_finds_its_checksums", obligations: &["P5", "P12"], holds: checksums },
            Check { name: "machine::linux_leaves_a_ledger_that_matches", obligations: &["P7", "P13"], holds: ledger },
        ],
    },
];

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case> {
    BOOTS.iter().flat_map(|boot| boot.checks).map(Check::case).collect()
}

impl Check {
    fn case(&self) -> Case {
        let obligations = self.obligations.iter().map(|number| (*number).to_owned()).collect();
        Case { name: self.name.to_owned(), obligations }
    }
}

/// Boots the pager under each guest for which a case is wanted.
///
/// # Errors
/// No such file, or one that the kernel will not take.
pub fn run(args: &Args, wanted: &dyn Fn(&str) -> bool, tell: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let Some(elf) = &args.pager_elf else { return Ok(()) };
    let elf = elf.canonicalize().map_err(|error| crate::status::usage(format!("{}: {error}", elf.display())))?;
    let bytes = std::fs::read(&elf).map_err(|error| crate::status::usage(format!("{}: {error}", elf.display())))?;
    super::image::check(&bytes).map_err(|error| {
        crate::status::usage(format!("{}: {error:#} (ipc-proto/SPEC.md, section 11)", elf.display()))
    })?;
    let logs = paths::target().join("conformance");
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    say(&format!("what each guest shows goes to {}", logs.display()));
    let bench = Bench { length: Length::Short, toolchain: args.toolchain, logs };
    for boot in BOOTS {
        let checks: Vec<&Check> = boot.checks.iter().filter(|check| wanted(check.name)).collect();
        if checks.is_empty() {
            continue;
        }
        let start = Instant::now();
        let image = format!("task.vmm-mm.image={}", toml::Value::from(elf.display().to_string()));
        let mut trial = Trial::of(boot.system).within(boot.seconds).set(&image);
        for option in &args.set {
            trial = trial.set(option);
        }
        let seen = trial.run(&bench, boot.system);
        let mut seconds = start.elapsed().as_secs_f64();
        for check in checks {
            let held = match &seen {
                Ok(seen) => (check.holds)(seen),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            tell(Row { case: check.case(), failure: held.err().map(|error| format!("{error:#}")), seconds });
            // One boot, several checks: its time is counted once.
            seconds = 0.0;
        }
    }
    Ok(())
}

fn ends_well(seen: &Seen) -> anyhow::Result<()> {
    seen.ends(Status::Done).map(|_| ())
}

fn touched(seen: &Seen) -> anyhow::Result<()> {
    seen.shows(" checks passed, 0 failed")?;
    seen.holds(!seen.shown().contains("FAILED"), "no check of the guest's should fail")?;
    let (touched, granted) = (seen.number_before(" distinct pages touched")?, seen.figure("faults.pages_granted")?);
    seen.holds(granted >= touched, &format!("{touched} pages were touched, and the pager granted {granted}"))
        .map(|_| ())
}

fn ledger(seen: &Seen) -> anyhow::Result<()> {
    seen.ledger_matches().map(|_| ())
}

fn figures(seen: &Seen) -> anyhow::Result<()> {
    let own = seen.value("servers.vmm-mm")?;
    let own = own.as_object().filter(|own| !own.is_empty());
    seen.holds(own.is_some(), "the pager should have reported a figure")?;
    // What cannot be printed is shown as a question mark.
    let named = own.into_iter().flatten().all(|(key, _)| !key.is_empty() && !key.contains('?'));
    seen.holds(named, "each figure should have a name, and the text lie at byte 3584 of the message page").map(|_| ())
}

fn checksums(seen: &Seen) -> anyhow::Result<()> {
    seen.shows("checksum pass 1 ok ")?.shows("checksum pass 2 ok ")?.shows("init: all checks passed").map(|_| ())
}
