//! Wrong usage: status 2, and the names or values that would have been right.

use crate::status::Status;
use crate::test::promise::Bench;
use crate::test::trial::Trial;

/// Systems, guest files, machines, tasks.
pub fn unknown_names(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let unknown = Trial::of("linucks").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("linucks")?.tells("linux, touch")?;
    let unknown = Trial::of("touch").set("vm.kernel=tutch").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("tutch")?.tells("debian-cloud")?.tells("memtest86+")?;
    let unknown = Trial::of("touch").on("bosch").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("bosch")?.tells("qemu-in-bochs")?;
    let unknown = Trial::of("touch").set("task.vmmm=none").run(bench, name)?;
    unknown.ends(Status::Usage)?.tells("vmmm")?.tells("vmm-mm, vcpu")?;
    Ok(String::new())
}

/// The message names file, key and what is allowed.
pub fn mistakes(bench: &Bench, name: &str) -> anyhow::Result<String> {
    for (assignment, told) in [
        ("vm.memory=64 MB", ["boot/touch.toml", "vm.guest.memory", "MiB"]),
        ("vm.guest.memroy=1 GiB", ["boot/touch.toml", "vm.guest.memroy", "memory, tables"]),
        ("vm.pager=vcpux", ["boot/touch.toml", "vm.guest.pager", "vmm-mm, vcpu"]),
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
