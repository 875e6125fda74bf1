//! Two VMs, two pagers, one machine: neither VM depends on the other's pager.

use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};

/// The system that has them.
const SYSTEM: &str = "two-pagers";
/// What is changed so that small guests run there, which check everything themselves.
const SMALL: [&str; 6] = [
    "vm.a.kernel=touch",
    "vm.a.initrd=[]",
    "vm.b.kernel=touch",
    "vm.b.initrd=[]",
    "vm.a.memory=64 MiB",
    "vm.b.memory=64 MiB",
];

/// Two Linux kernels check their memory, one on a pager in Rust that maps around faults, the other on the pager in C.
pub fn side_by_side(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let memory = match bench.length {
        Length::Short => "80 MiB",
        Length::Full => "256 MiB",
    };
    let sets = [format!("vm.a.memory={memory}"), format!("vm.b.memory={memory}")];
    let trial = sets.iter().fold(Trial::of(SYSTEM), |trial, set| trial.set(set)).within(900);
    let seen = trial.run(bench, name)?;
    seen.ends(Status::Done)?.ledger_matches()?;
    seen.tells("0 vcpu-a: the guest ended as guests do; vcpu-b: the guest ended as guests do")?;
    let lines = ["checksum pass 1 ok ", "checksum pass 2 ok ", "init: all checks passed"];
    for line in lines {
        seen.shows(line)?.tells(&format!("vcpu-b: guest: {line}"))?;
    }
    let pages = seen.number_after("pages=")?;
    let off = ["vcpu-a", "vcpu-b"].map(|server| seen.told().find(&format!("{server}: the guest powered off")));
    for (vm, pager) in ["pager-a", "pager-b"].iter().enumerate() {
        let (mapped, fixed) =
            (seen.figure(&format!("vm.{vm}.frames_mapped"))?, seen.figure(&format!("servers.{pager}.pf_fixed"))?);
        // The VM that is over first gives its frames back while the other one runs; with the last one the system ends.
        let first = off[vm] < off[1 - vm];
        let right = if first { mapped == 0 } else { mapped > pages };
        seen.holds(right && fixed > 0, &format!("{pager} mapped {mapped} frames with {fixed} answers"))?;
    }
    Ok(format!("{pages} pages checked in the first VM, {} faults in both", seen.figure("faults.count")?))
}

/// The pager of one VM stops, in the middle of its guest and while it is being loaded: the other VM's guest runs to its end,
/// and the system says both.
pub fn one_stops(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let running = with_flaw(400).run(bench, name)?;
    other_goes_on(&running)?;
    running.tells("vcpu-b: guest: touch: ")?.tells("the pager has stopped, and this VM cannot do without")?;
    running.tells("2 vcpu-a: the guest ended as guests do; vcpu-b: a server failed")?;
    let loading = with_flaw(3).run(bench, &format!("{name}.loading"))?;
    other_goes_on(&loading)?;
    loading.holds(!loading.told().contains("vcpu-b: guest:"), "the guest should not have begun")?;
    loading.tells("2 vcpu-a: the guest ended as guests do; vcpu-b: it cannot go on")?;
    Ok("the other guest's checks hold, and the system ended with status 5".to_owned())
}

/// The small system, in which pager B stops at its fault number `after`.
fn with_flaw(after: u64) -> Trial {
    let flawed = ["task.pager-b.image=flawed", "task.pager-b.flaw=stops"];
    let sets = SMALL.iter().chain(&flawed).fold(Trial::of(SYSTEM), |trial, set| trial.set(set));
    sets.set(&format!("task.pager-b.after={after}"))
}

/// The VM with the other pager has run to its end; what the system says of itself is that something failed.
fn other_goes_on(seen: &Seen) -> anyhow::Result<()> {
    seen.ends(Status::Failed)?.shows(" checks passed, 0 failed")?.tells("task pager-b stopped")?.ledger_matches()?;
    seen.holds(!seen.shown().contains("FAILED"), "no check of the other guest's should fail")?;
    Ok(())
}
