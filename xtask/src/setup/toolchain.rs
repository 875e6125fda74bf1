//! The compiler for the bare-metal target: rustup's, or Debian's with the standard library's sources.

use super::Package;
use crate::progress::{say, step};
use crate::status;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The target that kernel and servers are built for: soft-float, no red zone.
pub const TARGET: &str = "x86_64-unknown-none";
/// Where Debian puts its compiler.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Which compiler a person wants: `--toolchain`, or `FAULTLINE_TOOLCHAIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// rustup's if it has or can add the target, else Debian's.
    #[default]
    Auto,
    /// Only rustup's.
    Rustup,
    /// Only Debian's `rustc-web` with `rust-web-src`.
    Debian,
}

/// The compiler that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The one that runs xtask has the target's libraries.
    Rustup,
    /// Debian's `/usr/bin/rustc` builds `core` from its sources.
    Debian,
}

const DEBIAN: &[Package] = &[
    Package {
        name: "rustc-web",
        probe: DEBIAN_RUSTC,
        why: "a compiler whose own libraries can be built for the target",
    },
    Package {
        name: "rust-web-src",
        probe: "/usr/lib/rustlib/src/rust/library/core",
        why: "the sources of those libraries",
    },
];

/// A linker for those who have no rustup toolchain.
const LLD: &[Package] = &[Package { name: "lld", probe: "/usr/bin/ld.lld", why: "links kernel and servers" }];

/// The linker to use with Debian's compiler, which brings none for this target: the one of the toolchain that runs
/// xtask, else Debian's.
///
/// # Errors
/// Status 3 when neither can be had.
pub fn linker() -> anyhow::Result<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::paths::root()).output();
    if let Ok(output) = sysroot {
        let own = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
            .join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
        if own.is_file() {
            return Ok(own);
        }
    }
    super::packages(LLD)?;
    Ok(PathBuf::from(LLD[0].probe))
}

/// Makes sure that the bare-metal target can be built; looks once in a run of xtask.
///
/// # Errors
/// Status 3 when neither way can be had, with the commands to run.
pub fn toolchain(choice: Choice) -> anyhow::Result<Toolchain> {
    static FOUND: Mutex<Option<(Choice, Toolchain)>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, toolchain)) = found.filter(|(for_choice, _)| *for_choice == choice) {
        return Ok(toolchain);
    }
    let toolchain = find(choice)?;
    *found = Some((choice, toolchain));
    Ok(toolchain)
}

fn find(choice: Choice) -> anyhow::Result<Toolchain> {
    match choice {
        Choice::Auto => auto(),
        Choice::Rustup => {
            if has_target() || add_target() {
                return Ok(Toolchain::Rustup);
            }
            Err(status::missing(format!("the target is missing. Run:\n  rustup target add {TARGET}")))
        }
        Choice::Debian => debian(),
    }
}

fn auto() -> anyhow::Result<Toolchain> {
    if has_target() || add_target() {
        return Ok(Toolchain::Rustup);
    }
    say("rustup cannot provide the target here: taking Debian's compiler and the sources of its standard library");
    debian()
}

fn debian() -> anyhow::Result<Toolchain> {
    super::packages(DEBIAN)?;
    Ok(Toolchain::Debian)
}

/// Whether the compiler that cargo uses has `core` for the target.
fn has_target() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(crate::paths::root())
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && dir.read_dir().is_ok_and(|mut entries| entries.next().is_some())
    })
}

fn add_target() -> bool {
    if !super::has_program("rustup") {
        say(&format!("the target {TARGET} is missing, and there is no rustup"));
        return false;
    }
    let added = step(&format!("rustup target add {TARGET} (kernel and servers are built for it)"), || {
        let done = Command::new("rustup")
            .args(["target", "add", TARGET])
            .current_dir(crate::paths::root())
            .stdin(Stdio::null())
            .output()?;
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    });
    if let Err(error) = &added {
        say(&format!("{error:#}"));
    }
    added.is_ok() && has_target()
}
