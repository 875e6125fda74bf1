//! Guest files by name: kernels, initial file systems, and the test guests of `tests/guests`.
//!
//! A system file says `kernel = "debian-cloud"`; what that is, and how it is had, is said here.

pub mod cpio;
mod debian;
mod initramfs;
mod ours;

use crate::setup::ToolchainChoice;
use crate::status;
use std::path::{Path, PathBuf};

/// How a guest file is had.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A test guest of ours, built and flattened.
    Ours(ours::Program),
    /// The module of our multiboot kernel.
    Module,
    /// An initial file system with busybox and one of our `/init` scripts.
    Initramfs(initramfs::Init),
    /// A file of a Debian package, which is unpacked and never installed.
    Debian(debian::File),
}

/// Every name, and what it stands for.
const GUESTS: &[(&str, Source)] = &[
    ("touch", Source::Ours(ours::TOUCH)),
    ("touch-triple-fault", Source::Ours(ours::TRIPLE_FAULT)),
    ("touch-vectoring", Source::Ours(ours::VECTORING)),
    ("touch-forever", Source::Ours(ours::FOREVER)),
    ("bench", Source::Ours(ours::BENCH)),
    ("bench-runs", Source::Ours(ours::BENCH_RUNS)),
    ("growth", Source::Ours(ours::GROWTH)),
    ("touch-liar", Source::Ours(ours::LIAR)),
    ("work-fill", Source::Ours(ours::WORK_FILL)),
    ("work-noise", Source::Ours(ours::WORK_NOISE)),
    ("work-random", Source::Ours(ours::WORK_RANDOM)),
    ("work-shift", Source::Ours(ours::WORK_SHIFT)),
    ("puppet", Source::Ours(ours::PUPPET)),
    ("multiboot-check", Source::Ours(ours::MULTIBOOT)),
    ("multiboot-module", Source::Module),
    ("initramfs-check", Source::Initramfs(initramfs::CHECK)),
    ("initramfs-drill", Source::Initramfs(initramfs::DRILL)),
    ("initramfs-shell", Source::Initramfs(initramfs::SHELL)),
    ("debian-cloud", Source::Debian(debian::CLOUD)),
    ("debian-generic", Source::Debian(debian::GENERIC)),
    ("memtest86+", Source::Debian(debian::MEMTEST)),
];

/// Makes the guest file `name` in `out_dir` and says where it is.
///
/// # Errors
/// Status 2: an unknown name, with the known ones. Else what keeps it from being built or fetched.
pub fn provide(name: &str, out_dir: &Path, toolchain: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let Some((_, source)) = GUESTS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = GUESTS.iter().map(|(known, _)| *known).collect();
        return Err(status::usage(format!(
            "there is no guest file `{name}`; there are: {}, or the path of a file",
            known.join(", ")
        )));
    };
    std::fs::create_dir_all(out_dir)?;
    let out = out_dir.join(name);
    match source {
        Source::Ours(program) => ours::image(program, &out, toolchain),
        Source::Module => ours::module(&out),
        Source::Initramfs(init) => initramfs::archive(init, &out, toolchain),
        Source::Debian(file) => debian::file(file),
    }
}

/// Writes a file beside its place and renames it, unless it is there already with the same bytes: a machine that reads
/// the old one is not disturbed.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let part = path.with_file_name(format!(
        "{}.{}.part",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    std::fs::write(&part, bytes)?;
    Ok(std::fs::rename(&part, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_guest_file_lists_the_known_ones() {
        let error = provide("toush", Path::new("/nowhere"), ToolchainChoice::Auto).expect_err("unknown");
        assert_eq!(status::Status::of(&error), status::Status::Usage);
        for (name, _) in GUESTS {
            assert!(error.to_string().contains(name), "{error} names {name}");
        }
    }
}
