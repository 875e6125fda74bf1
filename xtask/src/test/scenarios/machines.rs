//! The machines that a system can find itself on.

use super::touch::checks_hold;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;

/// So many EPT violations must go through the pager under nested VMX.
const FAULTS: u64 = 1000;

/// QEMU with KVM and nested VMX, on a Linux inside of Bochs: what users do, where no host has VMX.
pub fn nested(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").on("qemu-in-bochs").within(600).run(bench, name)?;
    let (checks, faults) = checks_hold(&seen)?;
    let violations = seen.figure("exits.ept_violation")?;
    seen.holds(violations >= FAULTS, &format!("{violations} EPT violations are fewer than {FAULTS}"))?;
    Ok(format!("{checks} checks, {faults} faults"))
}

/// QEMU in its software mode has no VMX.
pub fn no_vmx(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").on("qemu-tcg").within(60).run(bench, name)?;
    seen.ends(Status::Failed)?.tells("this machine cannot run guests: missing VMX")?;
    seen.holds(seen.shown().trim().is_empty(), "no guest should have run")?;
    let errors = seen.told().lines().filter(|line| line.contains("ukernel: error: ")).count();
    seen.holds(errors == 1, &format!("one line should say what is missing, not {errors}"))?;
    Ok(String::new())
}

/// CPUs that have VMX and yet not what the kernel builds on.
pub fn lesser_cpus(bench: &Bench, name: &str) -> anyhow::Result<String> {
    for (model, missing) in [("core2_penryn_t9600", "EPT"), ("corei5_lynnfield_750", "unrestricted guest")] {
        let seen = Trial::of("touch").with(&["--cpu", model]).within(60).run(bench, name)?;
        seen.ends(Status::Failed)?.tells(&format!("this machine cannot run guests: missing {missing}"))?;
        seen.holds(seen.shown().trim().is_empty(), "no guest should have run")?;
    }
    Ok(String::new())
}

/// CPUs that are older and newer than the usual one: with fewer page sizes, with SMAP.
pub fn other_cpus(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let models: &[&str] = match bench.length {
        Length::Short => &["corei7_sandy_bridge_2600k", "corei7_skylake_x"],
        Length::Full => &["corei7_sandy_bridge_2600k", "corei7_skylake_x", "broadwell_ult"],
    };
    for model in models {
        checks_hold(&Trial::of("touch").with(&["--cpu", model]).run(bench, name)?)?;
    }
    Ok(models.join(", "))
}

/// QEMU on this host: with KVM and nested VMX the guest's checks hold there too; without, status 3 says why.
pub fn host(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let seen = Trial::of("touch").on("qemu").within(120).run(bench, name)?;
    if seen.code() == Some(Status::Done as i32) {
        let (checks, faults) = checks_hold(&seen)?;
        return Ok(format!("it can: {checks} checks, {faults} faults"));
    }
    seen.ends(Status::Missing)?.tells("machine qemu: ")?.tells("bochs, qemu, qemu-in-bochs")?;
    Ok("it cannot, and is told why".to_owned())
}
