//! The kernel: a scripted pager and a scripted server (`tests/scripted`) hold it to its obligations, on Bochs.
//!
//! Its tasks print a line for each case; `tests/scripted/kernel.toml` says which obligations each checks.

use super::report::Row;
use super::{Args, Case};
use crate::paths;
use crate::status::Status;
use crate::test::promise::{Bench, Length};
use crate::test::trial::{Seen, Trial};
use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// The system that is booted.
pub const SYSTEM: &str = "conformance";
/// What is seen from outside.
pub const LEDGER: &str = "end::the_ledger_matches";
/// Likewise.
pub const ENDS: &str = "end::as_badly_as_any_says";
/// Seconds that a machine gets; a boot takes five where nothing else runs.
const SECONDS: u64 = 90;

/// The kit's data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kit {
    boot: BTreeMap<String, Boot>,
    always: BTreeMap<String, String>,
    scripts: BTreeMap<String, BTreeMap<String, String>>,
}

/// One boot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    script: String,
    cpu: Option<String>,
    #[serde(default)]
    set: Vec<String>,
    /// How the system ends.
    #[serde(default)]
    ends: Ends,
}

/// How a system ends when the kernel is right.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ends {
    #[default]
    Done,
    Failed,
}

impl Kit {
    /// As the file has it.
    ///
    /// # Errors
    /// A file that cannot be read, or says something else.
    pub fn read() -> anyhow::Result<Self> {
        let path = paths::root().join("tests/scripted/kernel.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// The boot of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn boot(&self, name: &str) -> anyhow::Result<&Boot> {
        self.boot.get(name).with_context(|| format!("no boot `{name}`"))
    }

    /// The cases of one boot: what its tasks say, then what is looked at from outside.
    fn cases(&self, name: &str, boot: &Boot) -> anyhow::Result<Vec<Case>> {
        let said = self.scripts.get(&boot.script).with_context(|| format!("no script `{}`", boot.script))?;
        let case = |(case, obligations): (&String, &String)| Case {
            name: format!("kernel::{name}::{case}"),
            obligations: obligations.split(' ').map(str::to_owned).collect(),
        };
        Ok(said.iter().chain(&self.always).map(case).collect())
    }
}

impl Boot {
    /// What it changes of the manifest.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let scripts = ["pager", "server"].map(|task| format!("task.{task}.options.script={}", self.script));
        scripts.into_iter().chain(self.set.iter().cloned()).collect()
    }

    /// The trial that boots it.
    #[must_use]
    pub fn trial(&self) -> Trial {
        let trial = Trial::of(SYSTEM).within(SECONDS);
        let trial = self.changes().iter().fold(trial, |trial, change| trial.set(change));
        self.cpu.iter().fold(trial, |trial, cpu| trial.with(&["--cpu", cpu]))
    }
}

/// Where consoles and summaries go.
///
/// # Errors
/// Those of the file system.
pub fn bench(args: &Args) -> anyhow::Result<Bench> {
    let logs = paths::target().join("conformance");
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    Ok(Bench { length: Length::Short, toolchain: args.toolchain, logs })
}

/// Every case.
///
/// # Errors
/// See [`Kit::read`].
pub fn cases() -> anyhow::Result<Vec<Case>> {
    let kit = Kit::read()?;
    let cases: anyhow::Result<Vec<Vec<Case>>> = kit.boot.iter().map(|(name, boot)| kit.cases(name, boot)).collect();
    Ok(cases?.concat())
}

/// Boots each script in which a case is wanted.
///
/// # Errors
/// A kit that cannot be read.
pub fn run(args: &Args, wanted: &dyn Fn(&str) -> bool, tell: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let (kit, bench) = (Kit::read()?, bench(args)?);
    for (name, boot) in &kit.boot {
        let cases = kit.cases(name, boot)?;
        if !cases.iter().any(|case| wanted(&case.name)) {
            continue;
        }
        let start = Instant::now();
        let seen = boot.trial().run(&bench, &format!("kernel.{name}"))?;
        let mut seconds = start.elapsed().as_secs_f64();
        let said = said(seen.told());
        for case in cases.into_iter().filter(|case| wanted(&case.name)) {
            let failure = failure(boot, &seen, &said, case.name.trim_start_matches(&format!("kernel::{name}::")));
            tell(Row { case, failure, seconds });
            // One boot, many cases: its time is counted once.
            seconds = 0.0;
        }
        // What is said of a case that nobody knows is not lost.
        let known = |case: &String| kit.always.contains_key(case) || kit.scripts[&boot.script].contains_key(case);
        for (case, said) in said.iter().filter(|(case, _)| !known(case)) {
            let why = said.failure().unwrap_or_else(|| "passed".to_owned());
            let case = Case { name: format!("kernel::{name}::{case}"), obligations: Vec::new() };
            tell(Row { case, failure: Some(format!("kernel.toml does not know the case: {why}")), seconds: 0.0 });
        }
    }
    Ok(())
}

/// Why a case failed.
#[must_use]
pub fn failure(boot: &Boot, seen: &Seen, said: &BTreeMap<String, Said>, case: &str) -> Option<String> {
    let status = match boot.ends {
        Ends::Done => Status::Done,
        Ends::Failed => Status::Failed,
    };
    let held = match case {
        LEDGER => seen.ends(status).and_then(Seen::ledger_matches),
        ENDS => seen.ends(status),
        _ => return said.get(case).map_or_else(|| Some("it was not tried".to_owned()), Said::failure),
    };
    held.err().map(|error| format!("{error:#}"))
}

/// What the tasks say of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is tried; no word of its end.
    Begun,
    /// It passed.
    Passed,
    /// It failed, and why.
    Failed(String),
}

impl Said {
    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Begun => Some("it was not tried to its end".to_owned()),
            Self::Passed => None,
            Self::Failed(why) => Some(why.clone()),
        }
    }
}

/// What the tasks said of each case. One that failed once has failed.
#[must_use]
pub fn said(told: &str) -> BTreeMap<String, Said> {
    let mut all = BTreeMap::new();
    for line in told.lines() {
        let Some((_, line)) = line.split_once(": case ") else { continue };
        let Some((case, result)) = line.split_once(' ') else { continue };
        let said = match result {
            "ok" => Said::Passed,
            "begins" => Said::Begun,
            failed => Said::Failed(failed.trim_start_matches("failed: ").to_owned()),
        };
        let entry = all.entry(case.to_owned()).or_insert(Said::Begun);
        if !matches!(entry, Said::Failed(_)) {
            *entry = said;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The numbers of the kernel's obligations in the specification.
    fn obligations() -> BTreeSet<String> {
        let text = std::fs::read_to_string(paths::root().join("ipc-proto/SPEC.md")).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| K")?.split(' ').next().map(|n| format!("K{n}")));
        rows.collect()
    }

    #[test]
    fn every_obligation_of_the_kernel_has_a_case() {
        let checked: BTreeSet<String> = cases().unwrap().into_iter().flat_map(|case| case.obligations).collect();
        assert!(obligations().len() >= 30);
        assert_eq!(checked, obligations());
    }

    #[test]
    fn every_script_is_booted() {
        let kit = Kit::read().unwrap();
        assert!(kit.scripts.keys().all(|script| kit.boot.values().any(|boot| boot.script == *script)));
    }

    #[test]
    fn what_failed_once_has_failed_and_what_has_no_end_has_not_passed() {
        let said = said(
            "| pager: case a::b ok\n| pager: case a::b failed: line 3\n| pager: case a::b ok\n| x: case c begins\n\
             | x: case c ok\n| x: case d begins",
        );
        assert_eq!(said["a::b"].failure().as_deref(), Some("line 3"));
        assert_eq!(said["c"].failure(), None);
        assert!(said["d"].failure().is_some());
    }
}
