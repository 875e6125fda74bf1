//! Which systems run here: one file for each in a folder of the user's, and beside it the socket where it is asked.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A system that runs and has a control console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The system's name and the number of xtask's process.
    pub name: String,
    /// The machine and what the system is for.
    pub about: String,
    /// Where it is asked.
    pub socket: PathBuf,
}

/// An entry in the register. Goes with the value.
#[derive(Debug)]
pub struct Entry {
    run: Run,
    file: PathBuf,
}

impl Entry {
    /// Enters this process's run of `system`, and listens.
    ///
    /// # Errors
    /// A folder that is not this user's alone; those of the operating system.
    pub fn new(system: &str, about: &str) -> anyhow::Result<(Self, UnixListener)> {
        let (folder, name) = (folder()?, format!("{system}-{}", std::process::id()));
        let (socket, file) = (folder.join(format!("{name}.socket")), folder.join(format!("{name}.json")));
        // An earlier process of the same number may have died.
        remove(&socket)?;
        let listener = UnixListener::bind(&socket).with_context(|| format!("listening at {}", socket.display()))?;
        let run = Run { name, about: about.to_owned(), socket };
        std::fs::write(&file, serde_json::to_vec_pretty(&run)?)?;
        Ok((Self { run, file }, listener))
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.run.name
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // What stays behind is found to be dead by whoever looks next.
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_file(&self.run.socket);
    }
}

/// The systems that run, by name. What a process left behind that died is removed.
///
/// # Errors
/// A folder that is not this user's alone; those of the operating system.
pub fn running() -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(folder()?)? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // One that is being written, or removed, is not there yet or any more.
        let Some(run) = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Run>(&bytes).ok()) else {
            continue;
        };
        if UnixStream::connect(&run.socket).is_ok() {
            runs.push(run);
        } else {
            remove(&file)?;
            remove(&run.socket)?;
        }
    }
    runs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(runs)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The folder, which belongs to this user and is closed to others: who can write there can be asked in a system's name.
fn folder() -> anyhow::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .map_or_else(|| std::env::temp_dir().join(format!("faultline-{user}")), |folder| folder.join("faultline"));
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder)?;
    let found = std::fs::symlink_metadata(&folder)?;
    anyhow::ensure!(
        found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0,
        "{} should be a folder that only this user can use",
        folder.display()
    );
    Ok(folder)
}
