//! QEMU with KVM and nested VMX, on a Linux inside of Bochs: how people boot the image, on any machine.
//!
//! Bochs boots Debian's cloud kernel with an initial file system that holds QEMU, its libraries and the image. QEMU's
//! serial port is the outer COM1, so the console arrives here as on any other machine.

use super::{Job, Running, SecondPort, bochs, qemu};
use crate::guests::cpio::Archive;
use crate::image::{self, Content, GRUB_HEAD};
use crate::setup::{self, need};
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package with the outer kernel and its modules.
const KERNEL: &str = "linux-image-cloud-amd64";
/// The package with the programs of the outer Linux; one file, without libraries.
const BUSYBOX: &str = "busybox-static";
/// KVM, in the order in which its parts are loaded; below `lib/modules/VERSION/kernel`.
const MODULES: &[&str] = &["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-intel.ko"];
/// How the line with QEMU's exit status begins.
pub const QEMU_STATUS: &str = "QEMU exit status ";
/// QEMU itself.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// What QEMU loads: BIOS and option ROMs.
const FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/seabios/bios.bin",
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/multiboot_dma.bin",
];
/// RAM of the outer Linux besides that of QEMU's guest, in MiB: its initial file system twice, and itself.
const OUTER: u64 = 512;
/// The outer kernel: no message of its own, no work that this run has no use for.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 mitigations=off nokaslr tsc=reliable nowatchdog \
                            random.trust_cpu=on panic=-1";

/// Installs what it needs.
///
/// # Errors
/// Status 3 when that cannot be.
pub fn set_up() -> anyhow::Result<()> {
    setup::packages(&[need::BOCHS, need::IMAGE, need::QEMU].concat())?;
    setup::unpacked(KERNEL)?;
    setup::unpacked(BUSYBOX).map(|_| ())
}

/// Boots the image.
///
/// # Errors
/// A file that is missing, or a process that does not start.
pub fn start(job: &Job<'_>) -> anyhow::Result<Running> {
    let kernel = setup::unpacked(KERNEL)?;
    let files = outer_files(&kernel, job)?;
    let iso = job.dir.join("outer.iso");
    let config = format!("{GRUB_HEAD}linux /boot/vmlinuz {COMMAND_LINE}\ninitrd /boot/initrd\nboot\n");
    let content = [("vmlinuz", Content::File(&vmlinuz(&kernel)?)), ("initrd", Content::Bytes(&files))];
    image::write_iso(&config, &content, &iso)?;
    bochs::start(&Job {
        iso: &iso,
        memory: job.memory + OUTER,
        cpu: bochs::MODELS[0],
        second_port: SecondPort::Absent,
        ..*job
    })
}

fn vmlinuz(package: &Path) -> anyhow::Result<PathBuf> {
    the_one(&package.join("boot"), "vmlinuz-")
}

/// The only entry of `folder` whose name begins so.
fn the_one(folder: &Path, begins: &str) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(begins))
        .map(|entry| entry.path())
        .with_context(|| format!("there is no {begins}* in {}", folder.display()))
}

/// The outer initial file system.
fn outer_files(kernel: &Path, job: &Job<'_>) -> anyhow::Result<Vec<u8>> {
    let mut tree = Tree::default();
    for folder in ["dev", "proc", "sys", "tmp", "bin"] {
        tree.folder(Path::new(folder));
    }
    // The kernel opens it for /init before anything is mounted.
    tree.archive.device("dev/console", 5, 1);
    tree.copy("/bin/busybox", &the_one(&setup::unpacked(BUSYBOX)?.join("bin"), "busybox")?)?;
    let modules = the_one(&kernel.join("lib/modules"), "")?.join("kernel");
    let mut names = Vec::new();
    for module in MODULES {
        let file = modules.join(module);
        let name = file.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        tree.copy(&format!("/modules/{name}"), &file)?;
        names.push(name);
    }
    for library in libraries(QEMU)?.iter().map(String::as_str).chain([QEMU]).chain(FIRMWARE.iter().copied()) {
        tree.copy(library, Path::new(library))?;
    }
    tree.copy("/image.iso", job.iso)?;
    tree.archive.program("init", init_script(&names, job.memory).as_bytes());
    Ok(tree.archive.finish())
}

/// What the dynamic loader says that a program needs, by absolute path; the loader itself is among it.
fn libraries(program: &str) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "ldd {program}: {}", String::from_utf8_lossy(&output.stderr));
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        anyhow::bail!("{program} lacks a library: {}", line.trim());
    }
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(text.lines().filter_map(path).collect())
}

/// The outer `/init`: KVM, then QEMU with the serial port handed through as it is, then QEMU's exit status.
fn init_script(modules: &[String], memory: u64) -> String {
    let mut load = String::new();
    for module in modules {
        let parameters = if module == "kvm-intel.ko" { " nested=1" } else { "" };
        load.push_str(&format!("insmod /modules/{module}{parameters} || fail \"insmod {module}\"\n"));
    }
    let kvm = [QEMU, "-accel", "kvm", "-cpu", "host,+vmx"];
    let qemu: Vec<&str> = kvm.into_iter().chain(qemu::COMMON.iter().copied()).collect();
    INIT.replace("@LOAD@", load.trim_end())
        .replace("@STATUS@", QEMU_STATUS)
        .replace("@QEMU@", &format!("{} -m {memory} -cdrom /image.iso", qemu.join(" ")))
}

/// The octal 036 begins a system line (see [`crate::console`]); kind M is the machine's.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/ttyS0 >/dev/ttyS0
# Every byte passes as it is, in both directions.
stty raw -echo -onlcr 115200
say() { printf '\036M outer-linux: %s\n' "$*"; }
leave() { say "$*"; sync; poweroff -f; sleep 60; }
fail() { leave "failed: $*"; }
dmesg -n 1
@LOAD@
[ -c /dev/kvm ] || fail "there is no /dev/kvm"
say "QEMU with KVM starts"
@QEMU@ 2>/tmp/qemu.err
status=$?
while read -r line; do say "qemu: $line"; done </tmp/qemu.err
leave "@STATUS@$status"
"#;

/// Collects files and makes the folders that they need.
#[derive(Default)]
struct Tree {
    archive: Archive,
    folders: BTreeSet<PathBuf>,
}

impl Tree {
    fn folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        if let Some(above) = path.parent() {
            self.folder(above);
        }
        self.archive.folder(&path.display().to_string());
    }

    /// Puts what `from` holds at the absolute path `path`.
    fn copy(&mut self, path: &str, from: &Path) -> anyhow::Result<()> {
        let inside = Path::new(path.trim_start_matches('/'));
        if let Some(folder) = inside.parent() {
            self.folder(folder);
        }
        self.archive.copy(path, from).with_context(|| format!("reading {}", from.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_init_loads_kvm_with_nesting_and_passes_the_exit_status_out() {
        let script = init_script(&["kvm.ko".to_owned(), "kvm-intel.ko".to_owned()], 256);
        assert!(script.contains("insmod /modules/kvm-intel.ko nested=1"), "{script}");
        assert!(script.contains("-accel kvm -cpu host,+vmx") && script.contains("-m 256"), "{script}");
        assert!(script.contains("isa-debug-exit,iobase=0xf4,iosize=4"), "{script}");
        assert!(!script.contains('@'), "{script}");
    }

    #[test]
    fn a_folder_is_made_once_and_before_what_is_in_it() {
        let mut tree = Tree::default();
        tree.folder(Path::new("usr/lib/x"));
        tree.folder(Path::new("usr/lib/y"));
        let bytes = tree.archive.finish();
        let place = |name: &[u8]| bytes.windows(name.len()).position(|part| part == name).expect("there");
        assert!(place(b"usr\0") < place(b"usr/lib\0") && place(b"usr/lib\0") < place(b"usr/lib/x\0"));
        assert_eq!(bytes.windows(8).filter(|part| *part == b"usr/lib\0").count(), 1);
    }
}
