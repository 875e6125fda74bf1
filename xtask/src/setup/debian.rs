//! Debian packages: installed when missing, or unpacked into `target/` without being installed.

use crate::progress::{say, step};
use crate::{paths, status};
use anyhow::Context;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

/// A Debian package that a verb needs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// A file that it brings: when that is there, the package is taken for installed.
    pub probe: &'static str,
    /// What it is for.
    pub why: &'static str,
}

/// Makes sure that `wanted` are installed.
///
/// # Errors
/// Status 3 with the exact commands when this is not root on Debian; an installation that fails.
pub fn packages(wanted: &[Package]) -> anyhow::Result<()> {
    if wanted.iter().all(is_there) {
        return Ok(());
    }
    let _turn = turn()?;
    let absent: Vec<&Package> = wanted.iter().filter(|package| !is_there(package)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    for package in &absent {
        say(&format!("missing: {} ({})", package.name, package.why));
    }
    let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
    let install = format!("apt-get install -y --no-install-recommends {}", names.join(" "));
    if !is_debian() {
        return Err(status::missing(format!(
            "missing packages. This is not Debian; there one would run, as root:\n  apt-get update\n  {install}"
        )));
    }
    if !is_root() {
        return Err(status::missing(format!(
            "missing packages, and only root may install them. Run:\n  sudo apt-get update\n  sudo {install}"
        )));
    }
    update_once()?;
    step(&format!("installing {}", names.join(" ")), || {
        apt(&[&["install", "-y", "--no-install-recommends"], names.as_slice()].concat(), paths::root())
    })?;
    match absent.iter().find(|package| !is_there(package)) {
        None => Ok(()),
        Some(package) => {
            Err(status::missing(format!("{} is installed, but {} is still not there", package.name, package.probe)))
        }
    }
}

fn is_there(package: &Package) -> bool {
    Path::new(package.probe).exists()
}

/// Waits until no other xtask installs or unpacks: apt-get does not wait for every lock of its own.
fn turn() -> anyhow::Result<File> {
    std::fs::create_dir_all(paths::target())?;
    let lock = File::create(paths::target().join("setup.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The folder into which `package` is unpacked, never installed. A package that only depends on the real one (as
/// `linux-image-cloud-amd64` does) stands for that one.
///
/// # Errors
/// Status 3 where there is no `apt-get`; a download that fails.
pub fn unpacked(package: &str) -> anyhow::Result<PathBuf> {
    let dir = paths::guests().join("debian").join(package);
    if dir.join(".complete").exists() {
        return Ok(dir);
    }
    if !is_debian() {
        return Err(status::missing(format!(
            "{package} comes from Debian. On Debian one would run:\n  apt-get download {package}\n  \
             dpkg -x {package}_*.deb {}",
            dir.display()
        )));
    }
    let _turn = turn()?;
    if dir.join(".complete").exists() {
        return Ok(dir);
    }
    let fetch = || {
        let work = dir.with_extension("part");
        remove(&work)?;
        std::fs::create_dir_all(work.join("root"))?;
        download(package, &work)?;
        let deb = single_deb(&work)?;
        quiet(Command::new("dpkg").arg("-x").arg(&deb).arg(work.join("root")))?;
        std::fs::write(work.join("root/.complete"), deb.as_os_str().as_encoded_bytes())?;
        remove(&dir)?;
        std::fs::rename(work.join("root"), &dir)?;
        remove(&work)
    };
    step(&format!("downloading and unpacking {package} (not installing it)"), fetch)?;
    Ok(dir)
}

/// The package lists may be missing, or older than the archive: then a second try after an update.
fn download(package: &str, work: &Path) -> anyhow::Result<()> {
    let get = || {
        let real = real_name(package).with_context(|| format!("Debian has no package {package}"))?;
        apt(&["download", &real], work)
    };
    let again = |_| {
        update_once()?;
        get()
    };
    get().or_else(again).map_err(|error| {
        let update = if is_root() { "apt-get update" } else { "sudo apt-get update" };
        status::missing(format!("{package} cannot be downloaded: {error:#}\nTo renew the package lists:\n  {update}"))
    })
}

fn single_deb(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get left no .deb in {}", dir.display()))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The kernel's meta packages depend on exactly one versioned package: that is the one with the files.
fn real_name(package: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", package]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.trim().is_empty() {
        return None;
    }
    let versioned = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| package.starts_with("linux-image-") && name.starts_with("linux-image-"));
    Some(versioned.unwrap_or(package).to_owned())
}

/// `apt-get update`, at most once in a run of xtask.
fn update_once() -> anyhow::Result<()> {
    static UPDATED: Once = Once::new();
    let mut done = Ok(());
    UPDATED.call_once(|| {
        if is_root() {
            done = step("apt-get update", || apt(&["update"], paths::root()));
        }
    });
    done
}

fn apt(arguments: &[&str], dir: &Path) -> anyhow::Result<()> {
    quiet(
        Command::new("apt-get")
            .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .current_dir(dir)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Runs a command without showing its output, unless it fails.
fn quiet(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(());
    }
    anyhow::bail!(
        "{command:?} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && super::has_program("apt-get")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
