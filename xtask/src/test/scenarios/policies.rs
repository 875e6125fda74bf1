//! Promises about every policy.

use crate::test::promise::Bench;
use anyhow::ensure;
use std::sync::Mutex;
use vmm_mm::policy::Chosen;

/// Our pager passes the kit of the protocol whatever its policy; one policy on each CPU at a time.
pub fn kit(bench: &Bench, _: &str) -> anyhow::Result<String> {
    // Builds the kit, once.
    let listed = bench.xtask()?.args(["conformance", "--list"]).output()?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let waiting = Mutex::new(Chosen::NAMES.iter().copied());
    let next = || waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || -> anyhow::Result<()> {
        while let Some(name) = next() {
            passes(bench, name)?;
        }
        Ok(())
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(_) => anyhow::bail!("a worker panicked"),
        })
    })?;
    Ok(format!("{} policies", Chosen::NAMES.len()))
}

fn passes(bench: &Bench, policy: &str) -> anyhow::Result<()> {
    let output = bench.xtask()?.args(["conformance", "--set", &format!("policy={policy}")]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "under policy {policy}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains(" cases passed, 0 failed"), "under policy {policy} nothing was tried:\n{text}");
    Ok(())
}
