//! Initial file systems for Linux guests: busybox, our `checksum`, and an `/init` of `tests/guests/linux`.

use super::cpio::Archive;
use super::{debian, ours, write};
use crate::paths;
use crate::setup::ToolchainChoice;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What an initial file system is there for.
#[derive(Clone, Copy, Debug)]
pub struct Init {
    /// The script that becomes `/init`, in `tests/guests/linux`.
    script: &'static str,
}

/// Checks memory and time, and powers off.
pub const CHECK: Init = Init { script: "check.sh" };
/// Checks memory until a line is typed, and powers off.
pub const DRILL: Init = Init { script: "drill.sh" };
/// Gives a shell to who sits at the console.
pub const SHELL: Init = Init { script: "shell.sh" };

/// Writes the archive to `out`.
///
/// # Errors
/// busybox or the script cannot be had, or `checksum` cannot be built.
pub fn archive(init: &Init, out: &Path, toolchain: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let script = paths::root().join("tests/guests/linux").join(init.script);
    let checksum = ours::image(&ours::CHECKSUM, &out.with_file_name("checksum"), toolchain)?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "root"] {
        archive.folder(folder);
    }
    // The kernel opens it for /init before anything is mounted.
    archive.device("dev/console", 5, 1);
    archive.copy("bin/busybox", &debian::file(&debian::BUSYBOX)?)?;
    archive.link("bin/sh", "busybox");
    archive.copy("bin/checksum", &checksum)?;
    archive.copy("init", &script).with_context(|| format!("reading {}", script.display()))?;
    write(out, &archive.finish())?;
    Ok(out.to_owned())
}
