//! The kit of the protocol under every policy.

use crate::test::promise::Bench;
use anyhow::ensure;
use vmm_mm::policy::Chosen;

/// Our pager passes the kit whatever its policy.
pub fn kit(bench: &Bench, _: &str) -> anyhow::Result<String> {
    for name in Chosen::NAMES {
        let output = bench.xtask()?.args(["conformance", "--set", &format!("policy={name}")]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "under policy {name}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        ensure!(text.contains(" cases passed, 0 failed"), "under policy {name} nothing was tried:\n{text}");
    }
    Ok(format!("{} policies", Chosen::NAMES.len()))
}
