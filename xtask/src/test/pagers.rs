//! Whether vmm-mm's own tests have teeth: pagers that are broken on purpose must each be caught by the test that should.

use super::promise::{Bench, Length};
use crate::{mutant, paths};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the pager's tests are built from, and what of it belongs to the workspace of the copy.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "ipc-proto", "servers/vmm-mm", "servers/rt"];
const MEMBERS: [&str; 3] = ["ipc-proto", "servers/vmm-mm", "servers/rt"];
/// As the tests are built, but for what makes that slow.
const PROFILE: &str = "[mutant]\ninherits = \"dev\"\nopt-level = 1\ndebug = false\nincremental = true\n";
/// Catches what no other test is named for.
const MODEL: &str = "model::memory_is_what_the_reference_says";
/// Its steps, the same ones each time: what is caught once is caught whenever this is run.
const MODEL_RUN: [(&str, &str); 2] = [("FAULTLINE_MODEL_STEPS", "60000"), ("FAULTLINE_MODEL_SEED", "1")];
/// Nobody reads how short a run shows it.
const NO_SHRINKING: (&str, &str) = ("FAULTLINE_MODEL_SHRINKS", "0");

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

/// One.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// A step of the model test, or what else is broken.
    breaks: String,
    /// In the pager's `src`.
    file: PathBuf,
    find: String,
    replace: String,
    /// Which test must fail: the model test, if none is named. What ends in `::` is every test of a module.
    #[serde(default = "model")]
    test: String,
}

fn model() -> String {
    MODEL.to_owned()
}

impl Mutant {
    fn broken(&self, text: &str) -> anyhow::Result<String> {
        mutant::broken(text, &self.file, &self.find, &self.replace).with_context(|| self.name.clone())
    }
}

fn all() -> anyhow::Result<Vec<Mutant>> {
    let path = paths::root().join("servers/vmm-mm/mutants.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mutants: Mutants = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(mutants.mutant)
}

fn source(root: &Path, file: &Path) -> PathBuf {
    root.join("servers/vmm-mm/src").join(file)
}

/// Each broken pager is caught. In short only that there is one of each: to build all takes a quarter of an hour.
pub fn caught(bench: &Bench, _name: &str) -> anyhow::Result<String> {
    let mutants = all()?;
    for mutant in &mutants {
        mutant.broken(&std::fs::read_to_string(source(paths::root(), &mutant.file))?)?;
    }
    if bench.length == Length::Short {
        return Ok(format!("{} pagers can be broken; --long tries each", mutants.len()));
    }
    let workshop = Workshop::open()?;
    for test in [MODEL, "serve::", "takeover::"] {
        let whole = workshop.tested(test)?;
        ensure!(whole.status.success(), "the whole pager fails {test}:\n{}", said(&whole));
    }
    let mut survived = Vec::new();
    for mutant in &mutants {
        if !workshop.catches(mutant)? {
            survived.push(format!("{} ({})", mutant.name, mutant.breaks));
        }
    }
    ensure!(survived.is_empty(), "of {} broken pagers these were not caught: {}", mutants.len(), survived.join(", "));
    Ok(format!("{} broken pagers caught", mutants.len()))
}

/// Where pagers are broken and tested.
struct Workshop {
    tree: PathBuf,
}

impl Workshop {
    fn open() -> anyhow::Result<Self> {
        let tree = paths::target().join("mutants/pagers");
        mutant::copy(&tree, &SOURCES, &MEMBERS, PROFILE)?;
        Ok(Self { tree })
    }

    /// Whether the test that should notice what is broken does; the copy is whole again afterwards.
    fn catches(&self, mutant: &Mutant) -> anyhow::Result<bool> {
        let file = source(&self.tree, &mutant.file);
        let whole = std::fs::read_to_string(&file)?;
        std::fs::write(&file, mutant.broken(&whole)?)?;
        let output = self.tested(&mutant.test);
        std::fs::write(&file, whole)?;
        let output = output?;
        let said = said(&output);
        ensure!(said.contains("test result: ") || !said.contains("error"), "{} does not build:\n{said}", mutant.name);
        Ok(!output.status.success())
    }

    fn tested(&self, test: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.tree).args(["test", "--quiet", "--profile", "mutant", "-p", "vmm-mm", "--lib", test]);
        command.arg("--target-dir").arg(self.tree.with_file_name("pagers-build"));
        command.envs(MODEL_RUN).envs([NO_SHRINKING]).stdin(Stdio::null());
        command.output().context("starting cargo")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mutant_finds_its_text_once_and_names_a_test_that_there_is() {
        let mut names = BTreeSet::new();
        for mutant in all().unwrap() {
            let text = std::fs::read_to_string(source(paths::root(), &mutant.file)).unwrap();
            mutant.broken(&text).unwrap();
            assert!(names.insert(mutant.name.clone()), "two mutants are called {}", mutant.name);
            let (module, test) = mutant.test.rsplit_once("::").unwrap();
            let module = module.trim_end_matches("::tests");
            let tests = [format!("{module}.rs"), format!("{module}/tests.rs")];
            let found =
                |path: &String| std::fs::read_to_string(source(paths::root(), Path::new(path))).unwrap_or_default();
            assert!(
                tests.iter().any(|path| found(path).contains(&format!("fn {test}"))),
                "{}: {}",
                mutant.name,
                mutant.test
            );
        }
    }
}
