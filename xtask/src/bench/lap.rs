//! One run on Bochs, with a script for its debugger, and everything that was said in it.

use crate::build;
use crate::console::{Piece, Splitter};
use crate::image;
use crate::machine::{Event, Machine};
use crate::setup::ToolchainChoice;
use crate::summary::Figures;
use crate::system::{self, Console, Request, System};
use crate::{build::Parts, paths};
use anyhow::Context;
use std::path::Path;
use std::time::{Duration, Instant};

/// The script of a run in which the debugger has no part.
pub const GO_ON: &str = "c\n";
/// How often the clock is looked at.
const WAIT: Duration = Duration::from_millis(100);
/// RAM of the machine beyond what the tasks get, in MiB.
const BESIDES: u64 = 256;

/// A system that is built.
pub struct Built {
    /// Its manifest.
    pub system: System,
    /// Its files.
    pub parts: Parts,
}

/// Builds `system` with changes to its keys.
///
/// # Errors
/// A mistake in it, or a build that fails.
pub fn build(system: &str, set: Vec<String>, toolchain: ToolchainChoice) -> anyhow::Result<Built> {
    let request = Request { system: system.to_owned(), set, console: Console::Watched };
    let mut system = system::load(&request)?;
    let parts = build::parts(&mut system, toolchain)?;
    Ok(Built { system, parts })
}

/// What was said in a run.
pub struct Said {
    /// The guest's console.
    pub guest: String,
    /// What kernel and servers counted.
    pub figures: Figures,
    /// What the debugger printed.
    pub debugger: String,
    /// Bochs's log.
    pub log: String,
}

/// Boots a system and waits for its end.
///
/// # Errors
/// What keeps it from running, or from ending in `limit`.
pub fn run(built: &Built, script: &str, limit: Duration) -> anyhow::Result<Said> {
    let dir = folder()?;
    let iso = dir.path().join("image.iso");
    image::pack(&built.system, &built.parts, &iso)?;
    let memory = ((built.system.memory() >> 20) + BESIDES).next_multiple_of(128);
    boot(&iso, memory, dir.path(), script, limit)
}

/// A folder for one run.
///
/// # Errors
/// Those of the file system.
pub fn folder() -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(paths::images())?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(paths::images())?)
}

/// Boots an image and waits for the machine's end.
///
/// # Errors
/// What keeps it from running, or from ending in `limit`.
pub fn boot(iso: &Path, memory: u64, dir: &Path, script: &str, limit: Duration) -> anyhow::Result<Said> {
    let mut machine = Machine::debugged(iso, memory, dir, script)?;
    let (mut splitter, mut guest, mut figures) = (Splitter::default(), Vec::new(), Figures::default());
    let mut take = |pieces: Vec<Piece>| {
        for piece in pieces {
            match piece {
                Piece::Guest(bytes) => guest.extend(bytes),
                Piece::System(line) => figures.take(&line),
                Piece::Loader(_) => {}
            }
        }
    };
    let start = Instant::now();
    loop {
        match machine.next(WAIT)? {
            Event::Bytes(bytes) => take(splitter.push(&bytes)),
            Event::Quiet => {}
            Event::Ended => break,
        }
        anyhow::ensure!(start.elapsed() < limit, "the machine did not end within {} s", limit.as_secs());
    }
    take(splitter.finish());
    let (debugger, log) = Machine::debugger_said(dir).context("what Bochs said")?;
    Ok(Said { guest: String::from_utf8_lossy(&guest).into_owned(), figures, debugger, log })
}
