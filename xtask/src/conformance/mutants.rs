//! Whether the kit of the kernel has teeth: kernels that are broken on purpose must be caught by the case that should.
//!
//! Each is made in a copy of the sources, never in the tree. All are built into one folder, without what makes a build of
//! the kernel slow; a whole kernel, built so, must pass first. While one boots, the next is built, and only the case that
//! should catch it is tried.

use super::kernel::{self, Boot, Kit, SYSTEM};
use super::report::{MUTANT, Row};
use super::{Args, Case};
use crate::build::{self, Parts};
use crate::mutant;
use crate::setup::{self, TARGET, Toolchain};
use crate::system::{self, Console, Request, System};
use crate::{image, paths};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

/// What the kernel is built from.
const SOURCES: [&str; 6] = ["Cargo.toml", "Cargo.lock", ".cargo", "ukernel", "ipc-proto", "boot"];
/// The packages of the copy.
const MEMBERS: [&str; 2] = ["ukernel", "ipc-proto"];
/// How the copy is built: in two seconds once its dependencies are.
const PROFILE: &str = "[mutant]\ninherits = \"release\"\nlto = false\ncodegen-units = 16\nincremental = true\n\
                       opt-level = 1\ndebug = false\n";
/// The file that is written for the whole kernel, so that it is built anew: the root of what mutants change.
const WHOLE: &str = "ukernel/src/lib.rs";
/// Said before anything else: the broken kernel does start.
const STARTED: &str = "system conformance";

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

/// One.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// The obligation that it breaks.
    breaks: String,
    file: PathBuf,
    find: String,
    replace: String,
    /// The boot in which it is caught.
    #[serde(default = "usual")]
    boot: String,
    /// By this case.
    case: String,
}

fn usual() -> String {
    "cases".to_owned()
}

impl Mutant {
    fn row_case(&self) -> Case {
        Case { name: format!("{MUTANT}{}", self.name), obligations: vec![self.breaks.clone()] }
    }

    /// The source with the mistake in it.
    fn broken(&self, text: &str) -> anyhow::Result<String> {
        mutant::broken(text, &self.file, &self.find, &self.replace)
    }
}

fn all() -> anyhow::Result<Vec<Mutant>> {
    let path = paths::root().join("tests/scripted/mutants.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mutants: Mutants = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(mutants.mutant)
}

/// A kernel that is built and booted.
struct Subject<'a> {
    case: Case,
    boot: &'a Boot,
    /// What is broken in it; nothing in the whole one.
    mutant: Option<Mutant>,
}

/// The whole kernel, once for each boot in which a broken one is tried, and each broken one.
fn subjects<'a>(kit: &'a Kit, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<Subject<'a>>> {
    let (mut whole, mut broken) = (Vec::<Subject<'a>>::new(), Vec::new());
    for mutant in all()?.into_iter().filter(|mutant| wanted(&mutant.row_case().name)) {
        let boot = kit.boot(&mutant.boot)?;
        let name = format!("whole::{}", mutant.boot);
        if whole.iter().all(|subject| subject.case.name != name) {
            let case = Case { name, obligations: Vec::new() };
            whole.push(Subject { case, boot, mutant: None });
        }
        broken.push(Subject { case: mutant.row_case(), boot, mutant: Some(mutant) });
    }
    whole.append(&mut broken);
    Ok(whole)
}

/// A case for each.
///
/// # Errors
/// A list that cannot be read.
pub fn cases(wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<Case>> {
    let kit = Kit::read()?;
    Ok(subjects(&kit, wanted)?.into_iter().map(|subject| subject.case).collect())
}

/// Builds and boots each, and tells whether it was caught.
///
/// # Errors
/// What keeps any of them from being tried.
pub fn run(args: &Args, wanted: &dyn Fn(&str) -> bool, tell: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let kit = Kit::read()?;
    let subjects = subjects(&kit, wanted)?;
    let workshop = Workshop::open(args)?;
    // The next one is built while one boots, and no further ahead.
    let (sender, built) = sync_channel(0);
    std::thread::scope(|scope| {
        scope.spawn(|| workshop.build_all(&subjects, sender));
        for (subject, iso) in subjects.iter().zip(built) {
            let start = Instant::now();
            let failure = iso.and_then(|iso| caught(args, subject, &iso)).err().map(|error| format!("{error:#}"));
            tell(Row { case: subject.case.clone(), failure, seconds: start.elapsed().as_secs_f64() });
        }
    });
    Ok(())
}

/// Whether the case that should fail does, in a system that starts; every case of the whole kernel must pass.
fn caught(args: &Args, subject: &Subject<'_>, iso: &Path) -> anyhow::Result<()> {
    let name = subject.case.name.replace("::", ".");
    let trial = subject.boot.trial().with(&["--iso", iso.to_str().context("a path that is text")?]);
    let seen = trial.run(&kernel::bench(args)?, &name)?;
    seen.tells(STARTED)?;
    let said = kernel::said(seen.told());
    let Some(mutant) = &subject.mutant else {
        let failed = said.iter().find_map(|(case, said)| Some(format!("`{case}`: {}", said.failure()?)));
        ensure!(!said.is_empty() && failed.is_none(), "the whole kernel fails: {}", failed.unwrap_or_default());
        return Ok(());
    };
    let tried = [kernel::LEDGER, kernel::ENDS].contains(&mutant.case.as_str()) || said.contains_key(&mutant.case);
    ensure!(tried, "`{}` was not tried, so it caught nothing", mutant.case);
    let failed = kernel::failure(subject.boot, &seen, &said, &mutant.case).is_some();
    ensure!(failed, "it survived: `{}` should have failed", mutant.case);
    Ok(())
}

/// Where kernels are broken and built.
struct Workshop {
    tree: PathBuf,
    toolchain: Toolchain,
    /// The whole kernel, and the modules that go into each image.
    parts: Parts,
}

impl Workshop {
    /// Copies what the kernel is built from.
    fn open(args: &Args) -> anyhow::Result<Self> {
        let tree = paths::target().join("mutants/tree");
        mutant::copy(&tree, &SOURCES, &MEMBERS, PROFILE)?;
        let parts = build::parts(&mut system(Vec::new())?, args.toolchain)?;
        Ok(Self { tree, toolchain: setup::toolchain(args.toolchain)?, parts })
    }

    /// Builds them one after the other, and hands over the image of each.
    fn build_all(&self, subjects: &[Subject<'_>], images: SyncSender<anyhow::Result<PathBuf>>) {
        for (n, subject) in subjects.iter().enumerate() {
            // One boots, one waits, one is made.
            let iso = self.tree.with_file_name(format!("{}.iso", n % 3));
            let image = self.built(subject).and_then(|kernel| self.pack(kernel, subject, &iso)).map(|()| iso);
            if images.send(image).is_err() {
                return;
            }
        }
    }

    /// Builds one kernel; the copy is whole again afterwards.
    fn built(&self, subject: &Subject<'_>) -> anyhow::Result<PathBuf> {
        let file = subject.mutant.as_ref().map_or(Path::new(WHOLE), |mutant| &mutant.file);
        let file = self.tree.join(file);
        let whole = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = subject.mutant.as_ref().map_or(Ok(whole.clone()), |mutant| mutant.broken(&whole))?;
        // Written also when it is the same: cargo sees by its time that there is something to build.
        std::fs::write(&file, text)?;
        let kernel = self.cargo();
        std::fs::write(&file, whole)?;
        kernel
    }

    fn cargo(&self) -> anyhow::Result<PathBuf> {
        let target = self.tree.with_file_name(match self.toolchain {
            Toolchain::Rustup => "build",
            Toolchain::Debian => "build-debian",
        });
        let mut command = build::cargo(self.toolchain)?;
        command.current_dir(&self.tree).args(["--quiet", "--profile", "mutant", "-p", "ukernel"]);
        command.args(["--target", TARGET, "--target-dir"]).arg(&target);
        let output = command.stdin(Stdio::null()).output().context("starting cargo")?;
        ensure!(output.status.success(), "it does not build:\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(target.join(TARGET).join("mutant/ukernel"))
    }

    /// Packs the system with that kernel; of the script only the case that should catch what is broken in it.
    fn pack(&self, kernel: PathBuf, subject: &Subject<'_>, iso: &Path) -> anyhow::Result<()> {
        let only = subject.mutant.iter().map(|mutant| format!("task.pager.options.only={}", mutant.case));
        let system = system(subject.boot.changes().into_iter().chain(only).collect())?;
        image::pack(&system, &Parts { kernel, modules: self.parts.modules.clone() }, iso)
    }
}

/// The kit's system with changes.
fn system(set: Vec<String>) -> anyhow::Result<System> {
    system::load(&Request { system: SYSTEM.to_owned(), set, console: Console::Watched })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mutant_finds_its_text_once_and_breaks_what_its_case_checks() {
        let cases = kernel::cases().unwrap();
        let mut names = BTreeSet::new();
        for mutant in all().unwrap() {
            let text = std::fs::read_to_string(paths::root().join(&mutant.file)).unwrap();
            mutant.broken(&text).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
            let name = format!("kernel::{}::{}", mutant.boot, mutant.case);
            let case = cases.iter().find(|case| case.name == name);
            let case = case.unwrap_or_else(|| panic!("{}: no case {name}", mutant.name));
            assert!(case.obligations.contains(&mutant.breaks), "{}: {name} is not about it", mutant.name);
            assert!(names.insert(mutant.name.clone()), "two mutants are called {}", mutant.name);
        }
    }

    #[test]
    fn every_obligation_that_is_provoked_has_a_mutant() {
        let broken: BTreeSet<String> = all().unwrap().into_iter().map(|mutant| mutant.breaks).collect();
        let checked: BTreeSet<String> =
            kernel::cases().unwrap().into_iter().flat_map(|case| case.obligations).collect();
        assert_eq!(checked.difference(&broken).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
