//! `[task.NAME]`: the user-mode programs of a system.

use super::section::Section;
use super::vms::Memory;
use super::{Source, options, units};
use crate::paths;
use ipc_proto::manifest::{Name, PRIORITIES, Task};

/// The keys of a task.
pub const KEYS: &[&str] =
    &["image", "spares", "priority", "memory", "supervisor", "restart", "deadline_ms", "ports", "modules", "options"];

/// What the memory of a task may look like, for error messages.
const MEMORY: &str = "sizes added up, such as \"256 KiB\" or \"guests + 8 MiB\", where `guests` is the RAM of the VMs \
                      that this task pages";

/// The images of a task, the first one first, and where they come from.
pub type Images = Vec<(Name, Source)>;

/// The tasks under `[task]`, and where their images come from.
///
/// # Errors
/// The first mistake.
pub fn read(all: &Section<'_>, guests: &[Memory]) -> anyhow::Result<Vec<(Task, Images)>> {
    all.keys().map(|name| task(name, &all.table(name)?, guests)).collect()
}

/// How long a pager may be busy with one message when nobody says, in milliseconds.
const PAGER_DEADLINE_MS: i64 = 10_000;

fn task(name: &str, section: &Section<'_>, guests: &[Memory]) -> anyhow::Result<(Task, Images)> {
    section.only(KEYS)?;
    let image = section.needed("image", &images_known())?;
    let files =
        std::iter::once(("image", image)).chain(section.texts("spares")?.into_iter().map(|file| ("spares", file)));
    let sources = files
        .map(|(key, file)| Ok((section.bounded(key, &super::module_name(file))?, image_source(section, key, file)?)))
        .collect::<anyhow::Result<Images>>()?;
    let pages = guests.iter().any(|vm| vm.pagers.iter().any(|pager| pager == name));
    let deadline = section.number("deadline_ms", 0..=3_600_000, if pages { PAGER_DEADLINE_MS } else { 0 })?;
    let task = Task {
        name: section.bounded("", name)?,
        image: sources[0].0.clone(),
        priority: u8::try_from(section.number("priority", 1..=PRIORITIES as i64 - 1, 1)?)?,
        frames: memory(section, name, guests)?,
        supervisor: section.yes("supervisor")?,
        ports: section.list("ports", ports(section)?)?,
        modules: section.list("modules", modules(section)?)?,
        options: section.list("options", options::read(&section.table("options")?, image)?)?,
        spares: section.list("spares", sources.iter().skip(1).map(|(name, _)| name.clone()))?,
        deadline_ms: u32::try_from(deadline)?,
        restart: u8::try_from(section.number("restart", 0..=255, 0)?)?,
    };
    Ok((task, sources))
}

/// An image is a program of this repository by name, or the path of an ELF file.
fn image_source(section: &Section<'_>, key: &str, image: &str) -> anyhow::Result<Source> {
    if programs().iter().any(|program| program == image) {
        return Ok(Source::Server(image.to_owned()));
    }
    if made().iter().any(|program| program == image) {
        return Ok(Source::Made(image.to_owned()));
    }
    let file = paths::root().join(image);
    if file.is_file() {
        return Ok(Source::File(file));
    }
    Err(section.wrong(key, &format!("there is no server and no file `{image}`"), &images_known()))
}

fn images_known() -> String {
    format!("{}, or the path of an ELF file", [programs(), made()].concat().join(", "))
}

/// The servers, and the programs of the tests that take a server's place: every package there with a `main.rs`.
fn programs() -> Vec<String> {
    with_files(&["servers", "tests"], &["src/main.rs", "Cargo.toml"])
}

/// The servers that are not written in Rust: every folder there with a Makefile.
fn made() -> Vec<String> {
    with_files(&["servers"], &["Makefile"])
}

/// What is in `folders` and has `files`.
fn with_files(folders: &[&str], files: &[&str]) -> Vec<String> {
    let inside = folders.iter().filter_map(|folder| std::fs::read_dir(paths::root().join(folder)).ok());
    let mut names: Vec<String> = inside
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| files.iter().all(|file| entry.path().join(file).exists()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn memory(section: &Section<'_>, name: &str, guests: &[Memory]) -> anyhow::Result<u32> {
    let text = section.needed("memory", MEMORY)?;
    let wrong = || section.wrong("memory", &format!("\"{text}\""), MEMORY);
    let mut frames = 0u64;
    for term in text.split('+').map(str::trim) {
        frames += match term {
            "guests" => {
                guests.iter().filter(|vm| vm.pagers.iter().any(|pager| pager == name)).map(|vm| vm.frames).sum()
            }
            size => units::frames(size).ok_or_else(wrong)?,
        };
    }
    u32::try_from(frames).map_err(|_| wrong())
}

fn ports(section: &Section<'_>) -> anyhow::Result<Vec<ipc_proto::manifest::Ports>> {
    let range =
        |text: &str| units::ports(text).ok_or_else(|| section.wrong("ports", &format!("\"{text}\""), units::PORTS));
    section.texts("ports")?.into_iter().map(range).collect()
}

fn modules(section: &Section<'_>) -> anyhow::Result<Vec<Name>> {
    section.texts("modules")?.into_iter().map(|name| section.bounded("modules", &super::module_name(name))).collect()
}
