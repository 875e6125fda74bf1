//! Guest kernels from Debian's packages: downloaded and unpacked, never installed.

use crate::setup;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// A file of a Debian package.
#[derive(Clone, Copy, Debug)]
pub struct File {
    package: &'static str,
    /// The folder it is in, below the package's root.
    folder: &'static str,
    /// How its name begins; the rest is a version.
    begins: &'static str,
}

/// The kernel that Debian builds for virtual machines.
pub const CLOUD: File = File { package: "linux-image-cloud-amd64", folder: "boot", begins: "vmlinuz-" };
/// The kernel that Debian builds for PCs.
pub const GENERIC: File = File { package: "linux-image-amd64", folder: "boot", begins: "vmlinuz-" };
/// The memory tester, as a Linux bzImage.
pub const MEMTEST: File = File { package: "memtest86+", folder: "boot", begins: "memtest86+x64.bin" };
/// One program that is all the usual ones, without libraries.
pub const BUSYBOX: File = File { package: "busybox-static", folder: "bin", begins: "busybox" };

/// Where `file` is, once its package is unpacked.
///
/// # Errors
/// The package cannot be had, or has no such file.
pub fn file(file: &File) -> anyhow::Result<PathBuf> {
    find(&setup::unpacked(file.package)?, file)
}

fn find(root: &Path, file: &File) -> anyhow::Result<PathBuf> {
    let folder = root.join(file.folder);
    std::fs::read_dir(&folder)
        .with_context(|| format!("{} has no folder {}", file.package, folder.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(file.begins)))
        .with_context(|| format!("{} has no file {}/{}*", file.package, file.folder, file.begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_whatever_its_version_and_a_missing_one_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let missing = find(root.path(), &CLOUD).expect_err("nothing there");
        assert!(missing.to_string().contains("boot"), "{missing}");
        std::fs::create_dir(root.path().join("boot")).expect("boot");
        std::fs::write(root.path().join("boot/System.map-6.1.0-42-cloud-amd64"), "").expect("a file");
        let missing = find(root.path(), &CLOUD).expect_err("no kernel there");
        assert!(missing.to_string().contains("linux-image-cloud-amd64 has no file boot/vmlinuz-"), "{missing}");
        let kernel = root.path().join("boot/vmlinuz-6.1.0-42-cloud-amd64");
        std::fs::write(&kernel, "").expect("a file");
        assert_eq!(find(root.path(), &CLOUD).expect("the kernel"), kernel);
    }
}
