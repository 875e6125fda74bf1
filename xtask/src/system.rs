//! Systems as data: `boot/*.toml`, read, checked, and packed as the manifest.

mod options;
mod pager;
mod section;
mod set;
mod tasks;
mod units;
mod vms;

use crate::{paths, status};
use anyhow::Context;
use ipc_proto::manifest::{LogLevel, Manifest, Name, Vm};
use ipc_proto::version::PROTOCOL;
use section::Section;
use std::path::{Path, PathBuf};
use toml::{Table, Value};
use vms::VmFiles;

/// The keys of a system file.
const KEYS: &[&str] = &["name", "about", "log", "check", "task", "vm", "interactive"];

/// COM2.
const SECOND_PORT: u16 = 0x2f8;

/// Where the bytes of a boot module come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server of this repository, to be built.
    Server(String),
    /// A program of this repository that its own Makefile builds.
    Made(String),
    /// A guest file that [`crate::guests::provide`] makes.
    Guest(String),
    /// A file that is there.
    File(PathBuf),
}

/// A boot module: what the loader puts into memory beside the kernel.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name in the manifest.
    pub name: Name,
    /// Where it comes from.
    pub source: Source,
}

/// A system that was read and checked.
#[derive(Clone, Debug)]
pub struct System {
    /// What kernel and servers read. Guest protocols left open in the file are settled by [`System::settle`].
    pub manifest: Manifest,
    /// What it is for, in a few words.
    pub about: String,
    /// The boot modules without the manifest.
    pub modules: Vec<Module>,
    /// The VMs whose protocol the kernel file decides.
    open: Vec<usize>,
}

/// How a person will use the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Console {
    /// Nobody types.
    #[default]
    Watched,
    /// What is typed goes to the guest: the file's `[interactive]` keys are set.
    Interactive,
}

/// A system by name or path, with changes.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The name of a file in `boot/`, or the path of a TOML file.
    pub system: String,
    /// `KEY=VALUE` changes, in order.
    pub set: Vec<String>,
    /// Whether somebody types.
    pub console: Console,
}

/// The names of the systems in `boot/`.
#[must_use]
pub fn names() -> Vec<String> {
    let files = std::fs::read_dir(paths::root().join("boot")).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// Reads and checks a system.
///
/// # Errors
/// Status 2: an unknown system, with the known ones; a mistake in the file, with file, key and what is allowed.
pub fn load(request: &Request) -> anyhow::Result<System> {
    let path = find(&request.system)?;
    let shown = path.strip_prefix(paths::root()).unwrap_or(&path).display().to_string();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {shown}"))?;
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| status::usage(format!("{shown}: {error}")))?;
    if request.console == Console::Interactive {
        let changes = Section::whole(&shown, &table).table("interactive")?;
        let changes: Vec<(String, Value)> =
            changes.keys().filter_map(|key| Some((key.to_owned(), changes.value(key)?.clone()))).collect();
        for (key, value) in changes {
            set::put(&mut table, &key, value).with_context(|| format!("{shown}: `interactive`"))?;
        }
    }
    for assignment in &request.set {
        set::apply(&mut table, assignment)?;
    }
    read(&shown, &table)
}

fn find(system: &str) -> anyhow::Result<PathBuf> {
    let named = paths::root().join("boot").join(system).with_extension("toml");
    if !system.contains('/') && named.exists() {
        return Ok(named);
    }
    let path = Path::new(system);
    if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
        return Ok(path.to_owned());
    }
    Err(status::usage(format!(
        "there is no system `{system}`; there are: {}, or the path of a TOML file",
        names().join(", ")
    )))
}

/// Checks a whole file.
fn read(file: &str, table: &Table) -> anyhow::Result<System> {
    let whole = Section::whole(file, table);
    whole.only(KEYS)?;
    let guests = vms::memories(&whole.table("vm")?)?;
    let tasks = tasks::read(&whole.table("task")?, &guests)?;
    let vms = vms::read(&whole.table("vm")?)?;
    let mut manifest = Manifest {
        version: PROTOCOL,
        name: whole.bounded("name", whole.needed("name", "text")?)?,
        log: log_level(&whole)?,
        check: whole.yes("check")?,
        tasks: whole.list("task", tasks.iter().map(|(task, _)| task.clone()))?,
        vms: whole.list("vm", vms.iter().map(|files| files.vm.clone()))?,
    };
    for files in &vms {
        check_vm(&whole.table("vm")?, &manifest, files)?;
    }
    for files in &vms {
        show_guest_files(&whole, &mut manifest, files)?;
    }
    let open = vms.iter().enumerate().filter(|(_, files)| files.protocol.is_none()).map(|(index, _)| index);
    let kernels = manifest.vms.iter().map(|vm| vm.guest.kernel.as_str()).collect::<Vec<_>>().join(", ");
    let about = whole.text("about")?.map_or_else(|| format!("guest kernel {kernels}"), str::to_owned);
    let mut system = System { manifest, about, modules: Vec::new(), open: open.collect() };
    for (name, source) in tasks.into_iter().flat_map(|(_, sources)| sources) {
        system.add(&whole, name, source)?;
    }
    for (name, source) in vms.into_iter().flat_map(|files| files.files) {
        system.add(&whole, name, source)?;
    }
    system.check_modules(&whole)?;
    Ok(system)
}

fn log_level(whole: &Section<'_>) -> anyhow::Result<LogLevel> {
    match whole.text("log")? {
        Some("error") => Ok(LogLevel::Error),
        Some("warn") => Ok(LogLevel::Warn),
        None | Some("info") => Ok(LogLevel::Info),
        Some("debug") => Ok(LogLevel::Debug),
        Some("trace") => Ok(LogLevel::Trace),
        Some(other) => Err(whole.wrong("log", &format!("\"{other}\""), "error, warn, info, debug, trace")),
    }
}

/// The tasks that a VM names must be there, and its tables must fit into its pager's memory.
fn check_vm(all: &Section<'_>, manifest: &Manifest, files: &VmFiles) -> anyhow::Result<()> {
    let vm = &files.vm;
    let section = all.table(&vm.name)?;
    let tasks = || manifest.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown = |key: &str, name: &str| section.wrong(key, &format!("there is no task `{name}`"), &tasks());
    if manifest.task(&vm.server).is_none() {
        return Err(unknown("server", &vm.server));
    }
    if let Some(shadow) = &vm.shadow {
        check_shadow(&section, manifest, vm, shadow, &unknown)?;
    }
    let Some(pager) = &vm.pager else { return Ok(()) };
    match manifest.task(pager) {
        None => Err(unknown("pager", pager)),
        Some((_, task)) if task.frames <= u32::from(vm.tables) => Err(section.wrong(
            "tables",
            &format!("{} frames", vm.tables),
            &format!("fewer than the {} frames of its pager, of which they are taken", task.frames),
        )),
        Some(_) => Ok(()),
    }
}

/// A shadow is a task beside the VM's own, and pages nothing itself. It outranks the VM's server: while that loads the guest, each
/// access would otherwise come before the shadow has seen the one before.
fn check_shadow(
    section: &Section<'_>,
    manifest: &Manifest,
    vm: &Vm,
    name: &str,
    unknown: &dyn Fn(&str, &str) -> anyhow::Error,
) -> anyhow::Result<()> {
    let Some((_, task)) = manifest.task(name) else { return Err(unknown("shadow", name)) };
    let pages = manifest.vms.iter().any(|vm| [vm.pager.as_deref(), Some(vm.server.as_str())].contains(&Some(name)));
    if vm.pager.is_none() || pages {
        let what = format!("`{name}` cannot be the shadow");
        return Err(section.wrong("shadow", &what, "beside a pager, a task that is no VM's pager or server"));
    }
    let server = manifest.task(&vm.server).map_or(0, |(_, server)| server.priority);
    if task.priority <= server {
        let what = format!("`{name}` has priority {}", task.priority);
        return Err(section.wrong("shadow", &what, &format!("a task of a higher priority than the server's {server}")));
    }
    Ok(())
}

/// The server of a VM loads its guest, so it sees the guest's files.
fn show_guest_files(whole: &Section<'_>, manifest: &mut Manifest, files: &VmFiles) -> anyhow::Result<()> {
    let Some(server) = manifest.tasks.iter_mut().find(|task| task.name == files.vm.server) else {
        return Ok(());
    };
    for (name, _) in &files.files {
        if !server.modules.contains(name) {
            let full = || whole.wrong("task", "a task would see too many modules", "at most 4 files in a guest");
            server.modules.push(name.clone()).map_err(|_| full())?;
        }
    }
    Ok(())
}

impl System {
    fn add(&mut self, whole: &Section<'_>, name: Name, source: Source) -> anyhow::Result<()> {
        match self.modules.iter().find(|module| module.name == name) {
            Some(module) if module.source == source => Ok(()),
            Some(module) => {
                let what = format!("`{name}` would be both {:?} and {source:?}", module.source);
                Err(whole.wrong("task", &what, "boot modules with different file names"))
            }
            None => {
                self.modules.push(Module { name, source });
                Ok(())
            }
        }
    }

    fn check_modules(&self, whole: &Section<'_>) -> anyhow::Result<()> {
        let known = |name: &Name| self.modules.iter().any(|module| module.name == *name);
        let names = || self.modules.iter().map(|module| module.name.as_str()).collect::<Vec<_>>().join(", ");
        for task in &self.manifest.tasks {
            if let Some(name) = task.modules.iter().find(|name| !known(name)) {
                let section = whole.table("task")?.table(&task.name)?;
                return Err(section.wrong("modules", &format!("there is no boot module `{name}`"), &names()));
            }
        }
        Ok(())
    }

    /// Settles the protocols that the file left open, now that the kernel files are there.
    ///
    /// # Errors
    /// A kernel file that cannot be read.
    pub fn settle(&mut self, path_of: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<()> {
        for index in self.open.drain(..) {
            let guest = &mut self.manifest.vms[index].guest;
            let path = path_of(&guest.kernel).with_context(|| format!("no file for {}", guest.kernel))?;
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            guest.protocol = vms::detect(&bytes);
        }
        Ok(())
    }

    /// Whether a task has the second serial port, where the system can be asked while it runs.
    #[must_use]
    pub fn has_control_console(&self) -> bool {
        let ports = self.manifest.tasks.iter().flat_map(|task| &task.ports);
        ports.into_iter().any(|ports| ports.first <= SECOND_PORT && ports.last >= SECOND_PORT + 7)
    }

    /// All the memory that the manifest hands out, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.manifest.tasks.iter().map(|task| u64::from(task.frames) * units::FRAME).sum()
    }
}

/// A guest file: the path of one that is there (from the repository's root, or absolute), else a name.
fn guest_source(text: &str) -> Source {
    let path = paths::root().join(text);
    if path.is_file() || text.contains('/') { Source::File(path) } else { Source::Guest(text.to_owned()) }
}

/// The name of the boot module of a file: its file name, as one word that fits into the manifest.
fn module_name(text: &str) -> String {
    let name = Path::new(text).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let word = |letter: char| if letter.is_ascii_alphanumeric() || "+-._".contains(letter) { letter } else { '_' };
    name.chars().map(word).take(32).collect()
}

#[cfg(test)]
mod tests;
