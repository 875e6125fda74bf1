//! Builds the kernel and the servers of a system for the bare-metal target.

mod make;

use crate::progress::say;
use crate::setup::{self, TARGET, Toolchain, ToolchainChoice};
use crate::system::{Source, System};
use crate::{guests, paths};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The kernel's package.
const KERNEL: &str = "ukernel";

/// The files that an image is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// Each boot module but the manifest.
    pub modules: Vec<Part>,
}

/// A boot module.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// What the file is.
    pub form: Form,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A program of ours, with what debuggers want to know about it.
    Program,
    /// Bytes that go into the image as they are.
    Bytes,
}

/// Builds or fetches every file of `system`, and settles what its guest files decide.
///
/// # Errors
/// A missing toolchain, a build that fails, a guest file that cannot be had.
pub fn parts(system: &mut System, choice: ToolchainChoice) -> anyhow::Result<Parts> {
    // Guest files first: a name that there is not should not cost a build.
    let guests: Vec<Option<PathBuf>> =
        system.modules.iter().map(|module| guest_file(&module.source, choice)).collect::<anyhow::Result<_>>()?;
    let servers = system.modules.iter().filter_map(|module| match &module.source {
        Source::Server(name) => Some(name.as_str()),
        Source::Made(_) | Source::Guest(_) | Source::File(_) => None,
    });
    let names: Vec<&str> = std::iter::once(KERNEL).chain(servers).collect();
    let built = packages(&names, choice)?;
    let mut modules = Vec::new();
    for (module, guest) in system.modules.iter().zip(guests) {
        let (file, form) = match guest {
            Some(file) => (file, Form::Bytes),
            None if matches!(module.source, Source::Made(_)) => (make::in_the_machine(&module.name)?, Form::Program),
            None => (built.join(module.name.as_str()), Form::Program),
        };
        anyhow::ensure!(file.is_file(), "boot module `{}`: there is no file {}", module.name, file.display());
        modules.push(Part { name: module.name.as_str().to_owned(), file, form });
    }
    system.settle(|name| Some(modules.iter().find(|part| part.name == name)?.file.clone()))?;
    Ok(Parts { kernel: built.join(KERNEL), modules })
}

/// The file of a module that is not built from this repository's servers.
fn guest_file(source: &Source, choice: ToolchainChoice) -> anyhow::Result<Option<PathBuf>> {
    match source {
        Source::Server(_) | Source::Made(_) => Ok(None),
        Source::Guest(name) => guests::provide(name, &paths::guests(), choice).map(Some),
        Source::File(path) => Ok(Some(path.clone())),
    }
}

/// Builds packages for the bare-metal target and says in which folder their programs are.
///
/// # Errors
/// A missing toolchain, a build that fails.
pub fn packages(packages: &[&str], choice: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let toolchain = setup::toolchain(choice)?;
    let dir = match toolchain {
        Toolchain::Rustup => paths::target(),
        // Another compiler must not invalidate what the first one built.
        Toolchain::Debian => paths::target().join("debian-rust"),
    };
    say(&format!("building {}", packages.join(", ")));
    let mut command = cargo(toolchain)?;
    command.args(["--release", "--target", TARGET, "--target-dir"]).arg(&dir);
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    let status = command.stdin(Stdio::null()).status().context("starting cargo")?;
    anyhow::ensure!(status.success(), "the build of {} failed", packages.join(", "));
    Ok(release_dir(&dir))
}

fn release_dir(target: &Path) -> PathBuf {
    target.join(TARGET).join("release")
}

/// Cargo, set up for the bare-metal target; the arguments after `build` follow.
fn cargo(toolchain: Toolchain) -> anyhow::Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root()).arg("build");
    match toolchain {
        Toolchain::Rustup => {}
        Toolchain::Debian => {
            let linker = setup::linker()?;
            cargo.env("RUSTC", setup::DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
            cargo.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
        }
    }
    Ok(cargo)
}
