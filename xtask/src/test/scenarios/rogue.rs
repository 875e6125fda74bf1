//! Servers that try what no server may, beside a guest that notices nothing.

use super::touch::checks_hold;
use crate::test::promise::Bench;
use crate::test::trial::Trial;
use crate::{build, paths};
use anyhow::Context;
use std::fmt::Write as _;

/// Each deed of `tests/rogue`, and how the kernel says what it was.
const DEEDS: [(&str, &str); 6] = [
    ("port", "exception 13"),
    ("kernel", "page fault at 0xffffffff80110000"),
    ("frame", "page fault at 0x100"),
    ("code", "page fault at 0x4"),
    ("stack", "page fault at 0x2f"),
    ("interrupts", "exception 13"),
];

/// A CPU with SMEP, SMAP and all that keeps tasks apart.
const CPU: &str = "corei7_skylake_x";

/// Every rogue is stopped by its deed, none was given what it asked for, and all checks of the guest hold.
pub fn stopped(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let system = bench.logs.join("rogue.toml");
    std::fs::write(&system, with_rogues(bench)?)?;
    let seen = Trial::of(system.to_str().context("a path that is text")?).with(&["--cpu", CPU]).run(bench, name)?;
    for (deed, why) in DEEDS {
        seen.tells(&format!("task rogue-{deed} stopped: {why}"))?;
    }
    seen.holds(!seen.told().contains("survived"), "no deed should be survived")?;
    seen.holds(!seen.told().contains("was allowed"), "what a server holds no handle for should be refused")?;
    checks_hold(&seen)?;
    Ok(format!("{} rogues stopped, and the guest's checks hold", DEEDS.len()))
}

/// The system `touch` with a task for each deed, which runs before everybody else.
fn with_rogues(bench: &Bench) -> anyhow::Result<String> {
    let image = build::programs(&["rogue"], bench.toolchain)?.join("rogue");
    let image = toml::Value::from(image.to_str().context("a path that is text")?);
    let mut system = std::fs::read_to_string(paths::root().join("boot/touch.toml"))?;
    for (deed, _) in DEEDS {
        write!(
            system,
            "\n[task.rogue-{deed}]\nimage = {image}\npriority = 7\nmemory = \"16 frames\"\noptions.deed = \"{deed}\"\n"
        )?;
    }
    Ok(system)
}
