//! Wrong usage: status 2, and the names or values that would have been right.

use crate::status::Status;
use crate::test::promise::Bench;
use crate::test::trial::Trial;
use crate::test::typing::Typing;
use anyhow::{Context, ensure};
use std::path::Path;
use std::time::Duration;

/// Systems, guest files, machines, tasks.
pub fn unknown_names(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let unknown = Trial::of("linucks").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("linucks")?;
    for system in std::fs::read_dir(crate::paths::root().join("boot"))? {
        let system = system?.path();
        if system.extension().is_some_and(|extension| extension == "toml") {
            unknown.tells(&system.file_stem().context("a system without a name")?.to_string_lossy())?;
        }
    }
    let unknown = Trial::of("touch").set("vm.kernel=tutch").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("tutch")?.tells("debian-cloud")?.tells("memtest86+")?;
    let unknown = Trial::of("touch").on("bosch").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("bosch")?.tells("qemu-in-bochs")?;
    let unknown = Trial::of("touch").set("task.vmmm=none").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("vmmm")?.tells("vmm-mm, supervisor, vcpu")?;
    let unknown = Trial::of("touch").set("pager=ada").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("ada")?.tells("rust, c")?;
    Ok(String::new())
}

/// The message names file, key and what is allowed.
pub fn mistakes(bench: &Bench, name: &str) -> anyhow::Result<String> {
    for (assignment, told) in [
        ("vm.memory=64 MB", ["boot/touch.toml", "vm.guest.memory", "MiB"]),
        ("vm.guest.memroy=1 GiB", ["boot/touch.toml", "vm.guest.memroy", "memory, tables"]),
        ("vm.pager=vcpux", ["boot/touch.toml", "vm.guest.pager", "vmm-mm, supervisor, vcpu"]),
        ("log=loud", ["boot/touch.toml", "log", "error, warn, info, debug, trace"]),
    ] {
        let seen = Trial::of("touch").set(assignment).run(bench, name)?;
        seen.ends(Status::Usage)?;
        for part in told {
            seen.tells(part)?;
        }
    }
    Ok(String::new())
}

/// `image` prints the path of an ISO that boots by BIOS, and that `run` boots.
pub fn image(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let output = bench.xtask()?.args(["image", "touch"]).output()?;
    ensure!(output.status.success(), "`image touch` ends with {}", output.status);
    let printed = String::from_utf8(output.stdout)?;
    let path = Path::new(printed.trim_end());
    ensure!(path.is_absolute(), "`image touch` prints `{printed}`, which should be a path and nothing else");
    let iso = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(iso.get(0x8001..0x8006) == Some(b"CD001"), "no ISO 9660 volume");
    ensure!(iso.get(0x8801..0x881e) == Some(b"CD001\x01EL TORITO SPECIFICATION"), "no El Torito boot record");
    ensure!(iso.get(510..512) == Some(&[0x55, 0xaa]), "no boot record for a disk");
    let seen = Trial::of("touch").with(&["--iso", printed.trim_end()]).run(bench, name)?;
    seen.ends(Status::Done)?.shows(" checks passed, 0 failed")?;
    Ok(format!("{} KiB", iso.len() >> 10))
}

/// Ctrl-A then X leaves the guest's console, whatever the guest does.
pub fn leave(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const SOON: Duration = Duration::from_secs(60);
    let arguments = "touch --machine bochs --timeout 120 --set vm.kernel=touch-forever";
    let mut person = Typing::start(arguments, bench, name)?;
    person.sees("forever: going round", SOON)?;
    person.types("\x01x")?;
    let status = person.ends(SOON)?;
    ensure!(status.code() == Some(Status::Interrupted as i32), "it ends with {status}");
    Ok(String::new())
}
