//! Sources that are broken on purpose: a copy of what a program is built from, with one mistake in it at a time.

use crate::paths;
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;

/// `text`, of `file`, with the mistake in it.
///
/// # Errors
/// What is to be replaced does not stand there exactly once, or nothing changes.
pub fn broken(text: &str, file: &Path, find: &str, replace: &str) -> anyhow::Result<String> {
    let found = text.matches(find).count();
    ensure!(found == 1, "{} has its text {found} times, not once: {find}", file.display());
    let broken = text.replacen(find, replace, 1);
    ensure!(broken != text, "it changes nothing");
    Ok(broken)
}

/// Copies `sources` to `tree`, a workspace of `members` alone, with more build profiles.
///
/// # Errors
/// What keeps them from being copied.
pub fn copy(tree: &Path, sources: &[&str], members: &[&str], profiles: &str) -> anyhow::Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    std::fs::create_dir_all(tree).with_context(|| format!("making {}", tree.display()))?;
    let mut command = Command::new("cp");
    command
        .current_dir(paths::root())
        .args(["--recursive", "--parents", "--preserve=timestamps"])
        .args(sources)
        .arg(tree);
    ensure!(command.status().context("starting cp")?.success(), "the sources were not copied");
    let manifest = tree.join("Cargo.toml");
    let mut table: toml::Table = std::fs::read_to_string(&manifest)?.parse()?;
    let workspace = table.get_mut("workspace").and_then(toml::Value::as_table_mut).context("no workspace")?;
    workspace.insert("members".to_owned(), toml::Value::from(members.to_vec()));
    workspace.remove("default-members");
    workspace.remove("exclude");
    let all = table.get_mut("profile").and_then(toml::Value::as_table_mut).context("no profile")?;
    all.extend(profiles.parse::<toml::Table>()?);
    std::fs::write(&manifest, table.to_string())?;
    Ok(())
}
