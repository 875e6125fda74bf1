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
/// The packages of `tests/` that run in the machine.
const TESTS: &[&str] = &["guests", "rogue", "stopwatch", "flawed", "scripted"];

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
    let built = programs(&names, choice)?;
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

/// Builds programs for the bare-metal target and says in which folder they are.
///
/// # Errors
/// A missing toolchain, a build that fails.
pub fn programs(names: &[&str], choice: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let bins: Vec<&str> = names.iter().flat_map(|name| ["--bin", name]).collect();
    say(&format!("building {}", names.join(", ")));
    cargo_build(&bins, choice)
}

/// Builds every program that there is for the machine.
///
/// # Errors
/// A missing toolchain, a build that fails.
pub fn everything(choice: ToolchainChoice) -> anyhow::Result<PathBuf> {
    say(&format!("building {}", packages()?.join(", ")));
    cargo_build(&["--bins"], choice)
}

/// The packages that are built for the machine.
///
/// # Errors
/// Those of the file system.
pub fn packages() -> anyhow::Result<Vec<String>> {
    let mut packages: Vec<String> = std::iter::once(&KERNEL).chain(TESTS).map(|name| (*name).to_owned()).collect();
    let servers = paths::root().join("servers");
    for entry in std::fs::read_dir(&servers).with_context(|| format!("reading {}", servers.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            packages.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    packages.sort();
    Ok(packages)
}

/// Runs `cargo build` for what `bins` names. All packages are selected, whichever programs are built: Cargo gives a
/// dependency the features that the selected packages want of it, so that a program built alone would not be the same
/// code as one built beside others, and its tick counts would differ with what was built before.
fn cargo_build(bins: &[&str], choice: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let toolchain = setup::toolchain(choice)?;
    let dir = match toolchain {
        Toolchain::Rustup => paths::target(),
        // Another compiler must not invalidate what the first one built.
        Toolchain::Debian => paths::target().join("debian-rust"),
    };
    let mut command = cargo(toolchain)?;
    command.args(["--release", "--target", TARGET, "--target-dir"]).arg(&dir).args(selected(bins, &packages()?));
    let status = command.stdin(Stdio::null()).status().context("starting cargo")?;
    anyhow::ensure!(status.success(), "the build failed");
    Ok(release_dir(&dir))
}

fn selected(bins: &[&str], packages: &[String]) -> Vec<String> {
    let all = packages.iter().flat_map(|package| ["-p", package]);
    bins.iter().copied().chain(all).map(str::to_owned).collect()
}

fn release_dir(target: &Path) -> PathBuf {
    target.join(TARGET).join("release")
}

/// Cargo, set up for the bare-metal target; the arguments after `build` follow.
///
/// # Errors
/// A missing linker.
pub fn cargo(toolchain: Toolchain) -> anyhow::Result<Command> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_built_alone_is_the_one_built_beside_others() {
        let packages = packages().expect("the folder of the servers");
        for name in ["ukernel", "vmm-mm", "vcpu", "rt", "guests", "rogue", "stopwatch", "flawed", "scripted"] {
            assert!(packages.iter().any(|package| package == name), "{name} is not in {packages:?}");
        }
        let selected = |bins: &[&str]| selected(bins, &packages)[bins.len()..].to_vec();
        assert_eq!(selected(&["--bin", "vcpu"]), selected(&["--bins"]), "the same packages decide the features");
    }
}
