//! Shadow pagers: a second pager is asked the same faults, and whatever it answers is nothing to the guest.

use super::touch::checks_hold;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use anyhow::ensure;
use std::time::Duration;

/// A flaw shows only after so many good answers.
const AFTER: u64 = 300;

/// While Debian's kernel boots and checks its memory the pager in C decides as ours does, in each fault; how far its grants
/// reach is another matter, since it maps whole tables where ours maps a page. The console tells the same.
pub fn in_c(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let memory = match bench.length {
        Length::Short => "vm.memory=80 MiB",
        Length::Full => "vm.memory=512 MiB",
    };
    let trial = Trial::of("linux").set(memory).set("shadow=c").within(900);
    let mut guest = trial.start(bench, name)?;
    guest.shows("checksum pass 1 ok", Duration::from_secs(600))?;
    let told = guest.done("shadow")?;
    for part in ["same ", "decision 0:", "missed 0", "Extent: gpa 0x", ": pager Map gfn 0x", ", shadow Map gfn 0x"] {
        ensure!(told.contains(part), "`shadow` should tell of `{part}`:\n{told}");
    }
    guest.refuses("shadow decisions", "it must be shadow [extent|decision]")?;
    let seen = guest.end()?;
    seen.ends(Status::Done)?.shows("init: all checks passed")?.ledger_matches()?;
    let counts = counts(&seen)?;
    let Counts { same, extent, decision, missed } = counts;
    let asked = seen.figure("faults.count")? + seen.figure("faults.window")?;
    seen.holds(decision == 0 && missed == 0 && extent > 0, &format!("it should decide alike, not {counts:?}"))?;
    seen.holds(same + extent >= asked, &format!("{asked} faults were answered, and {counts:?} compared"))?;
    Ok(format!("{same} answers the same, {extent} with another run, {decision} decisions differ"))
}

/// Beside a pager that maps page by page one that maps around faults is seen to differ; one that grants wrong rights or another
/// page, or denies, too, with the first wrong answer decoded; and one that stops, or hangs, is missed from then on. The guest notices
/// nothing of any.
pub fn harmless(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let run = |what: &str, sets: &[&str]| {
        let trial = sets.iter().fold(Trial::of("touch").set("shadow=rust"), |trial, set| trial.set(set));
        let seen = trial.run(bench, &format!("{name}.{what}"))?;
        checks_hold(&seen)?;
        Ok::<_, anyhow::Error>((counts(&seen)?, seen))
    };
    let (around, seen) = run("around", &["task.shadow.policy=fault-around"])?;
    seen.holds(around.extent > AFTER && around.decision == 0, &format!("only runs should differ, not {around:?}"))?;
    let flawed = |flaw: &str| [format!("task.shadow.flaw={flaw}"), format!("task.shadow.after={AFTER}")];
    for (flaw, decoded) in FLAWS {
        let [flaw_is, after] = flawed(flaw);
        let (wrong, seen) = run(flaw, &["task.shadow.image=flawed", &flaw_is, &after])?;
        seen.holds(wrong.same >= AFTER && wrong.decision > 0, &format!("{flaw} should be found, not {wrong:?}"))?;
        seen.tells("vcpu: shadow: gpa 0x")?.tells(decoded)?;
    }
    let [flaw_is, after] = flawed("stops");
    let (stopped, seen) = run("stops", &["task.shadow.image=flawed", &flaw_is, &after])?;
    seen.tells("task shadow stopped")?.tells("the shadow has stopped")?;
    seen.holds(stopped.same >= AFTER && stopped.missed > AFTER, &format!("it should be missed, not {stopped:?}"))?;
    let [flaw_is, after] = flawed("hangs");
    let sets = ["task.shadow.image=flawed", &flaw_is, &after, "task.shadow.deadline_ms=200"];
    let (hung, seen) = run("hangs", &sets)?;
    seen.tells("task shadow stopped: busy with one message")?;
    seen.holds(hung.same >= AFTER && hung.missed > AFTER, &format!("it should be missed, not {hung:?}"))?;
    Ok(format!("fault-around: {} with another run; a shadow that stops: {} missed", around.extent, stopped.missed))
}

/// What is wrong with a shadow's answers, and how they are told.
const FLAWS: [(&str, &str); 3] =
    [("read-only", "1 x Page r-x WriteBack"), ("beside", ", shadow Map gfn 0x"), ("denies", ", shadow Deny (")];

#[derive(Debug)]
struct Counts {
    same: u64,
    extent: u64,
    decision: u64,
    missed: u64,
}

/// What the summary says of the first VM's shadow.
fn counts(seen: &Seen) -> anyhow::Result<Counts> {
    let figure = |name| seen.figure(&format!("vm.0.shadow.{name}"));
    let (same, extent) = (figure("same")?, figure("extent")?);
    Ok(Counts { same, extent, decision: figure("decision")?, missed: figure("missed")? })
}
