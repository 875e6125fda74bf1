//! Where things are: the repository and the folders under `target/`.

use std::path::{Path, PathBuf};

/// The repository's root.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, or `target/` in the repository.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Finished ISO images.
#[must_use]
pub fn images() -> PathBuf {
    target().join("images")
}

/// Files that guests are made of: unpacked kernels, initramfs archives.
#[must_use]
pub fn guests() -> PathBuf {
    target().join("guests")
}
