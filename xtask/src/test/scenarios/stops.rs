//! Guests that come to a bad end: the VM stops with a reason, the kernel never.

use crate::status::Status;
use crate::test::promise::Bench;
use crate::test::trial::Trial;

/// The registers that are shown are the guest's: it left a number in R12.
pub fn triple_fault(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").set("vm.kernel=touch-triple-fault").run(bench, name)?;
    seen.ends(Status::Failed)?.shows("triple-fault: here it comes")?.tells("triple fault")?;
    seen.tells("rip 00000000001")?.tells("r12 000000000badc0de")?.tells("cr3 ")?;
    seen.ledger_matches()?;
    Ok(String::new())
}

/// An event whose delivery needs what is no memory: no instruction could be emulated for it, and nobody goes round for ever.
pub fn vectoring(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").set("vm.kernel=touch-vectoring").run(bench, name)?;
    seen.ends(Status::Failed)?.shows("vectoring: 0xffffffffffffffff where the table is")?;
    // The gate of #UD.
    seen.tells("the pager denied an access to 0xb8060")?.ledger_matches()?;
    Ok(String::new())
}

/// What ends the system is what the kernel says, not what looks like it on the guest's console.
pub fn liar(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").set("vm.kernel=touch-liar").run(bench, name)?;
    seen.ends(Status::Failed)?.shows("liar: here it comes")?.tells("the guest ended with 7 on port 0xf4")?;
    let faults = seen.figure("faults.count")?;
    seen.holds(faults != 4_242_424_242, "a figure of the guest's should not be one of the system's")?;
    Ok(String::new())
}

/// A pager that grants writes no right to write: the fault would come back for ever, and the whole story is told.
pub fn endless(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let sets = ["task.vmm-mm.image=flawed", "task.vmm-mm.flaw=read-only", "task.vmm-mm.after=300"];
    let seen = sets.iter().fold(Trial::of("touch"), |trial, set| trial.set(set)).run(bench, name)?;
    seen.ends(Status::Failed)?.tells("repeats after replies that claimed to mend it (WRITE | READABLE")?;
    seen.tells("rip 00000000001")?.tells("EPT level 4: 0x")?.tells("EPT level 1: 0x")?;
    seen.tells("granted Rights(READ | EXECUTE), the CPU allows Rights(READ | EXECUTE)")?;
    seen.tells("slot 2 of")?.tells("ledger: gfn ")?.tells("*first touch ")?.ledger_matches()?;
    Ok(String::new())
}

/// Nothing maps memory behind the pager's back.
pub fn no_pager(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").set("task.vmm-mm=none").run(bench, name)?;
    seen.ends(Status::Failed)?.tells("no pager serves this VM")?;
    seen.holds(seen.shown().trim().is_empty(), "the guest should not have run")?;
    let (faults, granted) = (seen.figure("faults.count")?, seen.figure("faults.pages_granted")?);
    seen.holds(granted == 0, &format!("{granted} pages were granted although there is no pager"))?;
    seen.holds(faults <= 1, &format!("the guest went on to its fault number {faults}"))?;
    Ok(String::new())
}

/// The time that was given is all it gets.
pub fn timeout(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").set("vm.kernel=touch-forever").within(25).run(bench, name)?;
    seen.ends(Status::Timeout)?.shows("forever: going round")?;
    let reason = seen.value("reason")?.as_str().unwrap_or_default();
    seen.holds(reason.contains("not ended after 25 s"), &format!("the summary should say why, not `{reason}`"))?;
    Ok(String::new())
}
