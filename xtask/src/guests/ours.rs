//! The programs of `tests/guests`: built for the bare-metal target and brought into the form that is loaded.

use super::write;
use crate::build;
use crate::setup::{self, Package, ToolchainChoice};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../../tests/guests/multiboot/module.rs"]
mod module;

/// What turns an ELF file into another form. Where programs can be linked it is there, as part of binutils.
const OBJCOPY: &[Package] = &[Package {
    name: "binutils",
    probe: "/usr/bin/objcopy",
    why: "objcopy gives test guests the form that is loaded",
}];

/// A program of ours and the form in which it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of its binary.
    name: &'static str,
    form: Form,
}

/// In which form a program is loaded.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As it lies in memory.
    Flat,
    /// As it was linked.
    Elf64,
    /// With the headers of a 32-bit program, as Multiboot 1 loaders want it, whatever it changes to later.
    Elf32,
}

/// Checks everything a virtual machine has.
pub const TOUCH: Program = Program { name: "touch", form: Form::Flat };
/// Ends in a triple fault.
pub const TRIPLE_FAULT: Program = Program { name: "touch-triple-fault", form: Form::Flat };
/// Has its interrupt table where nothing is.
pub const VECTORING: Program = Program { name: "touch-vectoring", form: Form::Flat };
/// Never ends.
pub const FOREVER: Program = Program { name: "touch-forever", form: Form::Flat };
/// Times what it does.
pub const BENCH: Program = Program { name: "bench", form: Form::Flat };
/// Times faults that the pager of `tests/stopwatch` answers.
pub const BENCH_RUNS: Program = Program { name: "bench-runs", form: Form::Flat };
/// Times first touches all over its address space.
pub const GROWTH: Program = Program { name: "growth", form: Form::Flat };
/// Prints what only the system may print.
pub const LIAR: Program = Program { name: "touch-liar", form: Form::Flat };
/// Fills memory and reads it again.
pub const WORK_FILL: Program = Program { name: "work-fill", form: Form::Flat };
/// Fills memory with what does not become smaller.
pub const WORK_NOISE: Program = Program { name: "work-noise", form: Form::Flat };
/// Touches pages here and there.
pub const WORK_RANDOM: Program = Program { name: "work-random", form: Form::Flat };
/// Uses a set of pages that moves on.
pub const WORK_SHIFT: Program = Program { name: "work-shift", form: Form::Flat };
/// Does what it is told over its serial line.
pub const PUPPET: Program = Program { name: "puppet", form: Form::Flat };
/// Checks what a Multiboot loader left.
pub const MULTIBOOT: Program = Program { name: "multiboot-check", form: Form::Elf32 };
/// A Linux program: checks most of RAM with a pattern.
pub const CHECKSUM: Program = Program { name: "checksum", form: Form::Elf64 };

/// Builds `program` and writes it to `out` in the form that is loaded.
///
/// # Errors
/// A build that fails, a missing tool.
pub fn image(program: &Program, out: &Path, toolchain: ToolchainChoice) -> anyhow::Result<PathBuf> {
    let built = build::programs(&[program.name], toolchain)?.join(program.name);
    let bytes = match program.form {
        Form::Flat => converted(&built, "binary")?,
        Form::Elf32 => converted(&built, "elf32-i386")?,
        Form::Elf64 => std::fs::read(&built).with_context(|| format!("reading {}", built.display()))?,
    };
    write(out, &bytes)?;
    Ok(out.to_owned())
}

/// `program` as objcopy writes it in the format `to`, without what is only for debuggers.
fn converted(program: &Path, to: &str) -> anyhow::Result<Vec<u8>> {
    setup::packages(OBJCOPY)?;
    let out = tempfile::NamedTempFile::new()?;
    let output = Command::new("objcopy")
        .args(["--strip-all", "-O", to])
        .args([program, out.path()])
        .output()
        .context("starting objcopy")?;
    anyhow::ensure!(output.status.success(), "objcopy: {}", String::from_utf8_lossy(&output.stderr));
    Ok(std::fs::read(out.path())?)
}

/// The module that goes with [`MULTIBOOT`], which knows every byte of it.
///
/// # Errors
/// Those of the file system.
pub fn module(out: &Path) -> anyhow::Result<PathBuf> {
    let bytes: Vec<u8> = (0..module::LENGTH).map(module::byte).collect();
    write(out, &bytes)?;
    Ok(out.to_owned())
}
