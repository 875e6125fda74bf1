//! `cargo xtask image`: one GRUB ISO that boots the same on Bochs, QEMU and hardware.

use crate::build::{self, Form, Parts};
use crate::progress::step;
use crate::setup::{self, ToolchainChoice};
use crate::system::{self, Console, Request, System};
use crate::{paths, status};
use anyhow::Context;
use ipc_proto::manifest::MODULE;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The line with which GRUB hands over: what is on the console before its end is the loader's.
pub const BOOT_LINE: &str = "faultline: boot";

/// GRUB's modules: what our scripts use, and what reads the ISO.
const GRUB_MODULES: &str = "multiboot2 linux serial terminal echo normal configfile boot iso9660 biosdisk part_msdos";

/// What to pack.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A system of `boot/`, or the path of a TOML file.
    system: String,
    #[command(flatten)]
    choice: Choice,
}

/// What can be chosen about every system, to pack or to run it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Choice {
    /// Change a key of the manifest, by dotted path: vm.guest.memory="256 MiB", policy=demand; `task.NAME=none`
    /// removes a task.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Boot this kernel as the guest (a path; its boot protocol is taken from the file).
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Its initrd, or module.
    #[arg(long, value_name = "FILE")]
    pub initrd: Vec<PathBuf>,
    /// The guest kernel's command line.
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// The guest kernel's boot protocol: auto, linux, multiboot, flat.
    #[arg(long)]
    pub protocol: Option<String>,
    /// The compiler for kernel and servers.
    #[arg(long, value_enum, default_value_t, env = "FAULTLINE_TOOLCHAIN")]
    pub toolchain: ToolchainChoice,
}

impl Choice {
    /// All changes as `KEY=VALUE`, those of `--set` last.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn changes(&self) -> anyhow::Result<Vec<String>> {
        let mut changes = Vec::new();
        if let Some(kernel) = &self.kernel {
            changes.push(format!("vm.kernel={}", toml::Value::from(absolute(kernel)?)));
            // What the system's own kernel needed is not this one's.
            changes.extend(
                ["vm.initrd=[]", "vm.modules=[]", "vm.cmdline=\"\"", "vm.protocol=auto", "about=another guest"]
                    .map(String::from),
            );
        }
        if !self.initrd.is_empty() {
            let files: anyhow::Result<Vec<String>> = self.initrd.iter().map(|file| absolute(file)).collect();
            changes.push(format!("vm.initrd={}", toml::Value::from(files?)));
        }
        let texts = [("cmdline", &self.cmdline), ("protocol", &self.protocol)];
        changes.extend(
            texts
                .into_iter()
                .filter_map(|(key, text)| Some(format!("vm.{key}={}", toml::Value::from(text.as_ref()?.as_str())))),
        );
        changes.extend(self.set.iter().cloned());
        Ok(changes)
    }
}

/// Paths of arguments are relative to where the person is, those of files to the repository.
fn absolute(file: &Path) -> anyhow::Result<String> {
    let path = file.canonicalize().map_err(|error| status::usage(format!("{}: {error}", file.display())))?;
    path.into_os_string().into_string().map_err(|path| status::usage(format!("{path:?} is no text")))
}

/// Builds and packs a system, and prints where its ISO is.
///
/// # Errors
/// See [`system::load`], [`build::parts`], [`pack`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    let request = Request { system: args.system.clone(), set: args.choice.changes()?, console: Console::Watched };
    let mut system = system::load(&request)?;
    let iso = paths::images().join(format!("{}.iso", system.manifest.name));
    setup::packages(setup::need::IMAGE)?;
    let parts = build::parts(&mut system, args.choice.toolchain)?;
    pack(&system, &parts, &iso)?;
    println!("{}", iso.display());
    Ok(())
}

/// Packs kernel, manifest and modules as an ISO.
///
/// # Errors
/// A file that cannot be read or written, or GRUB's own.
pub fn pack(system: &System, parts: &Parts, iso: &Path) -> anyhow::Result<()> {
    let mut manifest = vec![0; 1 << 16];
    let len = ipc_proto::wire::encode(&system.manifest, &mut manifest)
        .map_err(|error| anyhow::anyhow!("the manifest cannot be packed: {error:?}"))?;
    let mut files = Vec::new();
    files.push((KERNEL_FILE, Content::Program(&parts.kernel)));
    files.push((MODULE, Content::Bytes(&manifest[..len])));
    files.extend(parts.modules.iter().map(|part| {
        let content = match part.form {
            Form::Program => Content::Program(&part.file),
            Form::Bytes => Content::File(&part.file),
        };
        (part.name.as_str(), content)
    }));
    let config = grub_config(parts.modules.iter().map(|part| part.name.as_str()));
    write_iso(&config, &files, iso)
}

/// The kernel's name in the image.
const KERNEL_FILE: &str = "ukernel";

/// What a file in an image holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The bytes of a file.
    File(&'a Path),
    /// A program, without what only debuggers want: GRUB would read it by BIOS, sector by sector.
    Program(&'a Path),
    /// These bytes.
    Bytes(&'a [u8]),
}

/// GRUB's script: serial only, no menu, kernel and modules by name.
fn grub_config<'a>(modules: impl Iterator<Item = &'a str>) -> String {
    let mut config = GRUB_HEAD.to_owned();
    let _ = writeln!(config, "multiboot2 /boot/{KERNEL_FILE}");
    for name in std::iter::once(MODULE).chain(modules) {
        let _ = writeln!(config, "module2 /boot/{name} {name}");
    }
    let _ = writeln!(config, "echo \"{BOOT_LINE}\"\nboot");
    config
}

/// How every script of ours begins: no menu, serial port only.
pub const GRUB_HEAD: &str = "set timeout=0\nserial --unit=0 --speed=115200\n\
                             terminal_input serial\nterminal_output serial\n";

/// Makes an ISO that boots by BIOS from a CD or a disk: `files` are put into `/boot`.
///
/// # Errors
/// A file that cannot be read or written, or GRUB's own.
pub fn write_iso(config: &str, files: &[(&str, Content<'_>)], iso: &Path) -> anyhow::Result<()> {
    let folder = iso.parent().context("an image needs a folder")?;
    std::fs::create_dir_all(folder)?;
    let tree = tempfile::tempdir_in(folder)?;
    let boot = tree.path().join("boot");
    std::fs::create_dir_all(boot.join("grub"))?;
    std::fs::write(boot.join("grub/grub.cfg"), config)?;
    for (name, content) in files {
        let to = boot.join(name);
        match content {
            Content::File(from) => std::fs::copy(from, &to).map(|_| ()).map_err(Into::into),
            Content::Program(from) => strip(from, &to),
            Content::Bytes(bytes) => std::fs::write(&to, bytes).map_err(Into::into),
        }
        .with_context(|| format!("putting {name} into the image"))?;
    }
    // Written beside its place and renamed: a run that reads the old one is not disturbed.
    let part = tree.path().join("image.iso");
    step("packing the image", || grub_mkrescue(&boot, &part))?;
    std::fs::rename(&part, iso).with_context(|| format!("writing {}", iso.display()))
}

fn strip(program: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new("objcopy").arg("--strip-all").args([program, to]).output().context("starting objcopy")?;
    anyhow::ensure!(output.status.success(), "objcopy: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn grub_mkrescue(boot: &Path, iso: &Path) -> anyhow::Result<()> {
    let output = Command::new("grub-mkrescue")
        .args(["--directory=/usr/lib/grub/i386-pc", "--fonts=", "--themes=", "--locales="])
        .arg(format!("--install-modules={GRUB_MODULES}"))
        .arg("-o")
        .arg(iso)
        .arg(format!("/boot={}", boot.display()))
        .stdin(Stdio::null())
        .output()
        .context("starting grub-mkrescue")?;
    anyhow::ensure!(output.status.success(), "grub-mkrescue: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_names_every_module_by_one_word_and_says_when_it_is_done() {
        let config = grub_config(["vmm-mm", "touch"].into_iter());
        let lines: Vec<&str> = config.lines().collect();
        let loads: Vec<&str> = lines.iter().copied().filter(|line| line.contains("/boot/")).collect();
        let expected = [
            "multiboot2 /boot/ukernel",
            "module2 /boot/manifest manifest",
            "module2 /boot/vmm-mm vmm-mm",
            "module2 /boot/touch touch",
        ];
        assert_eq!(loads, expected);
        assert_eq!(lines[lines.len() - 2..], ["echo \"faultline: boot\"", "boot"]);
    }
}
