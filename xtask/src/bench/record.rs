//! `tests/ticks.toml`: the exact tick counts that are in the tree. None may rise by accident.

use super::guest::{Figures, figures};
use crate::paths;
use crate::setup::{self, DEBIAN_RUSTC, Toolchain, ToolchainChoice};
use anyhow::Context;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// With another compiler than the recorded one a count may be higher by this many in a hundred: then it says little
/// about the change, and nothing may still be said to be fine.
const OTHER_COMPILER: u64 = 10;

/// What is promised of two figures together: the first takes at most so many in a hundred of the second. A dirty log's
/// fault that the kernel mends, against a whole one; a fault that maps 2 MiB, against one that maps a page.
const PROMISED: [(&str, &str, u64); 2] = [("write_protected", "first_touch", 35), ("large", "single", 130)];

const HEAD: &str = "\
# Exact ticks on Bochs 2.7, where one tick is one executed instruction: what `cargo xtask bench` times in the machine.
# `cargo xtask test ticks` fails when one rises. A change that means it writes the numbers anew, with
# `cargo xtask bench --write-ticks`, in the same commit, whose message has the reason.

# The counts are this compiler's; with another one, they may be up to 10 % higher.
";

/// The file.
#[derive(Debug, Deserialize)]
struct Record {
    compiler: String,
    ticks: Figures,
}

fn path() -> PathBuf {
    paths::root().join("tests/ticks.toml")
}

/// Measures everything and writes the file.
///
/// # Errors
/// What keeps it from being measured or written.
pub fn write(toolchain: ToolchainChoice) -> anyhow::Result<()> {
    let mut text = format!("{HEAD}compiler = \"{}\"\n\n[ticks]\n", compiler(toolchain)?);
    for (name, ticks) in figures(toolchain)? {
        let _ = writeln!(text, "{name} = {ticks}");
    }
    std::fs::write(path(), text).with_context(|| format!("writing {}", path().display()))
}

/// Measures everything and holds it against the file. Says how many figures there are, and which are lower now.
///
/// # Errors
/// A figure that has risen, that is not recorded, or that is recorded and not measured; two that are not as promised.
pub fn check(toolchain: ToolchainChoice) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path()).with_context(|| format!("reading {}", path().display()))?;
    let record: Record = toml::from_str(&text)?;
    let same = compiler(toolchain)? == record.compiler;
    let slack = if same { 0 } else { OTHER_COMPILER };
    let now = figures(toolchain)?;
    promised(&now)?;
    let mut seen = compare(&record.ticks, &now, slack)?;
    if !same {
        let _ =
            write!(seen, "; recorded with another compiler ({}), so up to {slack} % more is taken", record.compiler);
    }
    Ok(seen)
}

/// Holds `now` against `recorded`, with so many in a hundred more allowed.
fn compare(recorded: &Figures, now: &Figures, slack: u64) -> anyhow::Result<String> {
    let (mut wrong, mut lower) = (Vec::new(), Vec::new());
    for name in recorded.keys().chain(now.keys().filter(|name| !recorded.contains_key(*name))) {
        match (recorded.get(name), now.get(name)) {
            (Some(then), Some(now)) if *now > then + then * slack / 100 => {
                wrong.push(format!("{name} takes {now} ticks, and {then} are recorded"));
            }
            (Some(then), Some(now)) if now < then => lower.push(format!("{name} {then} -> {now}")),
            (Some(_), Some(_)) | (None, None) => {}
            (Some(_), None) => wrong.push(format!("{name} is recorded, and was not measured")),
            (None, Some(now)) => wrong.push(format!("{name} takes {now} ticks, and is not recorded")),
        }
    }
    anyhow::ensure!(
        wrong.is_empty(),
        "{}\nA change that means it: cargo xtask bench --write-ticks, in the same commit, with the reason",
        wrong.join("\n")
    );
    Ok(match lower.as_slice() {
        [] => format!("{} figures, none has risen", recorded.len()),
        some => format!("{} figures, none has risen; lower, to be recorded: {}", recorded.len(), some.join(", ")),
    })
}

/// Holds figures against what is promised of two together.
fn promised(figures: &Figures) -> anyhow::Result<()> {
    for (part, whole, most) in PROMISED {
        let figure = |name| figures.get(name).with_context(|| format!("{name} is not measured"));
        let (ticks, all) = (figure(part)?, figure(whole)?);
        anyhow::ensure!(
            ticks * 100 <= all * most,
            "{part} takes {ticks} ticks: more than {most} in a hundred of {whole}, {all}"
        );
    }
    Ok(())
}

/// Which compiler builds what runs in the machine.
fn compiler(choice: ToolchainChoice) -> anyhow::Result<String> {
    let program = match setup::toolchain(choice)? {
        Toolchain::Rustup => "rustc",
        Toolchain::Debian => DEBIAN_RUSTC,
    };
    let output = Command::new(program).arg("--version").current_dir(paths::root()).output()?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = version.split_whitespace().take(2).collect();
    anyhow::ensure!(words.len() == 2, "{program} --version says `{}`", version.trim());
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(&str, u64)]) -> Figures {
        all.iter().map(|(name, ticks)| ((*name).to_owned(), *ticks)).collect()
    }

    #[test]
    fn one_tick_more_is_too_many_and_one_less_is_told() {
        let recorded = figures(&[("cpuid", 857), ("out", 1023)]);
        assert!(compare(&recorded, &recorded, 0).is_ok_and(|seen| seen == "2 figures, none has risen"));
        let risen = compare(&recorded, &figures(&[("cpuid", 858), ("out", 1023)]), 0).expect_err("it has risen");
        assert!(risen.to_string().contains("cpuid takes 858 ticks, and 857 are recorded"), "{risen}");
        let lower = compare(&recorded, &figures(&[("cpuid", 856), ("out", 1023)]), 0).expect("it has fallen");
        assert!(lower.contains("cpuid 857 -> 856"), "{lower}");
    }

    #[test]
    fn what_is_not_recorded_or_not_measured_is_wrong() {
        let (one, two) = (figures(&[("cpuid", 857)]), figures(&[("cpuid", 857), ("out", 1023)]));
        assert!(compare(&one, &two, 0).is_err() && compare(&two, &one, 0).is_err());
    }

    #[test]
    fn what_is_recorded_is_as_promised() {
        let record: Record = toml::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
        promised(&record.ticks).unwrap();
        for (part, whole, most) in PROMISED {
            let mut ticks = record.ticks.clone();
            ticks.insert(part.to_owned(), record.ticks[whole] * most / 100 + 1);
            let error = promised(&ticks).expect_err("a tick too many").to_string();
            assert!(error.contains(part) && error.contains(whole), "{error}");
        }
    }

    #[test]
    fn another_compiler_may_take_a_little_more() {
        let recorded = figures(&[("cpuid", 857)]);
        assert!(compare(&recorded, &figures(&[("cpuid", 942)]), OTHER_COMPILER).is_ok());
        assert!(compare(&recorded, &figures(&[("cpuid", 943)]), OTHER_COMPILER).is_err());
    }
}
