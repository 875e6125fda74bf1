//! The L rows: parts of the hot path on the host, with the libraries that do the same compiled beside.
//!
//! `tests/peers` has a case for each. Instructions are counted by callgrind, as the difference of two numbers of turns,
//! less the loop; nanoseconds are the least of many rounds, less the loop.

use super::row::Measured;
use crate::paths;
use crate::setup::{self, Package};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What counts instructions.
const VALGRIND: &[Package] =
    &[Package { name: "valgrind", probe: "/usr/bin/valgrind", why: "callgrind counts the host's instructions" }];
/// Turns of the two runs whose difference counts.
const TURNS: [u64; 2] = [1024, 5120];

/// Builds the cases and measures them.
///
/// # Errors
/// What keeps them from being built or run.
pub fn measure() -> anyhow::Result<Vec<(&'static str, Measured)>> {
    setup::packages(VALGRIND)?;
    let peers = Peers { program: program()? };
    let slots = |case: &str| peers.beside(&format!("slot_{case}"), "vm-memory", "slot_nothing");
    let (hit, random, many) = (slots("hit")?, slots("random_32")?, slots("random_509")?);
    let map = peers.beside("map", "x86_64", "nothing")?;
    let multi = peers.beside("map", "page_table_multiarch", "nothing")?;
    let unmap = peers.beside("unmap", "x86_64", "nothing")?;
    let fault = peers.beside("fault", "zerocopy", "nothing")?;
    let (checked, taken) = (peers.count("map.ours-checked")?, peers.count("unmap.ours-checked")?);
    let loop_itself = peers.count("nothing")?;
    let worse = |a: f64, b: f64| if a > b { a } else { b };
    let both = |of: fn(&Beside) -> (f64, f64), unit: &str| {
        let ((ours, theirs), (ours_many, theirs_many)) = (of(&random), of(&many));
        let how = format!(
            "{unit}: {ours:.1} against {theirs:.1} at 32 slots, {ours_many:.1} against {theirs_many:.1} at 509"
        );
        Measured::of(worse(ours / theirs, ours_many / theirs_many), how)
    };
    let mut map_row = map.row();
    let mut unmap_row = unmap.row();
    map_row.how.push_str(&format!("; with every check of a grant, {:.0}", checked - loop_itself));
    unmap_row.how.push_str(&format!("; with the ledger, {:.0}", taken - loop_itself));
    Ok(vec![
        ("L1", hit.row()),
        ("L2", both(|beside| beside.instructions, "instructions")),
        ("L2-ns", both(|beside| beside.nanoseconds, "ns")),
        ("L3", map_row),
        ("L3-multi", multi.row()),
        ("L4", unmap_row),
        ("L5", fault.row()),
    ])
}

/// Builds `tests/peers`, a workspace of its own.
fn program() -> anyhow::Result<PathBuf> {
    let target = paths::target().join("peers");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(paths::root().join("tests/peers"))
        .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    anyhow::ensure!(status.success(), "the build of tests/peers failed");
    Ok(target.join("release/peers"))
}

/// Draws a picture of `rows`: `picture`, all of them, or `growth`, those that are series.
///
/// # Errors
/// What keeps it from being drawn.
pub fn picture(what: &str, rows: &Path, out: &Path) -> anyhow::Result<()> {
    output(Command::new(program()?).arg(what).args([rows, out])).map(|_| ())
}

/// The program of `tests/peers`.
struct Peers {
    program: PathBuf,
}

/// Ours and theirs.
struct Beside {
    peer: &'static str,
    instructions: (f64, f64),
    nanoseconds: (f64, f64),
}

impl Beside {
    fn row(&self) -> Measured {
        let ((ours, theirs), (time, their_time)) = (self.instructions, self.nanoseconds);
        let how = format!(
            "{ours:.1} instructions against {theirs:.1} of {}; {time:.1} ns against {their_time:.1}",
            self.peer
        );
        Measured::of(ours / theirs, how)
    }
}

impl Peers {
    /// `case` of ours and of the peer's, less what the loop `empty` takes.
    fn beside(&self, case: &str, peer: &'static str, empty: &str) -> anyhow::Result<Beside> {
        let (ours, theirs) = (format!("{case}.ours"), format!("{case}.{peer}"));
        let empty = self.count(empty)?;
        Ok(Beside {
            peer,
            instructions: (self.count(&ours)? - empty, self.count(&theirs)? - empty),
            nanoseconds: (self.time(&ours)?, self.time(&theirs)?),
        })
    }

    /// Instructions of one turn.
    fn count(&self, case: &str) -> anyhow::Result<f64> {
        let [few, many] = TURNS;
        let counted = |turns: u64| -> anyhow::Result<f64> {
            let said = output(
                Command::new("valgrind")
                    .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                    .arg(&self.program)
                    .args(["run", case, &turns.to_string()]),
            )?;
            collected(&said).with_context(|| format!("callgrind did not count {case}:\n{said}"))
        };
        Ok((counted(many)? - counted(few)?) / (many - few) as f64)
    }

    /// Nanoseconds of one turn, without the loop.
    fn time(&self, case: &str) -> anyhow::Result<f64> {
        Ok(output(Command::new(&self.program).args(["time", case]))?.trim().parse()?)
    }
}

/// `==123== Collected : 456`
fn collected(said: &str) -> Option<f64> {
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

/// What a program prints on both streams.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} ends with {}:\n{text}", output.status);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_count_is_found() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 24000\n==1==\n"), Some(24000.0));
        assert_eq!(collected("==1== no\n"), None);
    }
}
