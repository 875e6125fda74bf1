//! QEMU: with KVM and nested VMX where the host has it, or in its software mode, which has no VMX.

use super::process::{Console, Running};
use super::{Job, Machine, SecondPort, unusable};
use crate::setup;
use std::net::TcpListener;
use std::process::Command;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's CPU.
    Kvm,
    /// QEMU itself.
    Tcg,
}

/// What every QEMU of ours has: COM1 on standard input and output, and port 0xf4 to leave with a status.
pub const COMMON: &[&str] = &[
    "-machine",
    "pc",
    "-nodefaults",
    "-display",
    "none",
    "-vga",
    "none",
    "-serial",
    "stdio",
    "-no-reboot",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=4",
    "-boot",
    "d",
];

/// Installs what it needs.
///
/// # Errors
/// Status 3 when that cannot be, or the host cannot nest VMX.
pub fn set_up(accelerator: Accelerator) -> anyhow::Result<()> {
    if accelerator == Accelerator::Kvm {
        nested_vmx().map_err(|why| unusable(Machine::Qemu, &why))?;
    }
    setup::packages(setup::need::QEMU)
}

/// Whether KVM here can run a guest that has VMX itself; if not, why not.
///
/// # Errors
/// The first thing that is missing.
pub fn nested_vmx() -> Result<(), String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_vmx = cpu
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx"));
    if !has_vmx {
        return Err("the CPU shows no VMX (/proc/cpuinfo)".to_owned());
    }
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(|error| format!("/dev/kvm cannot be opened ({error})"))?;
    let nested = std::fs::read_to_string("/sys/module/kvm_intel/parameters/nested").unwrap_or_default();
    if matches!(nested.trim(), "Y" | "1") {
        Ok(())
    } else {
        Err("KVM does not nest VMX (/sys/module/kvm_intel/parameters/nested)".to_owned())
    }
}

/// Boots the image.
///
/// # Errors
/// A process that does not start.
pub fn start(job: &Job<'_>, accelerator: Accelerator) -> anyhow::Result<Running> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host,+vmx"],
        Accelerator::Tcg => ["-accel", "tcg", "-cpu", "max"],
    });
    command.args(COMMON).arg("-m").arg(job.memory.to_string()).arg("-cdrom").arg(job.iso).current_dir(job.dir);
    let second_port = match job.second_port {
        SecondPort::Absent => None,
        SecondPort::Connected => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            command.arg("-serial").arg(format!("tcp:{}", listener.local_addr()?));
            Some(listener)
        }
    };
    Running::start(command, Console::Pipes, second_port, &job.dir.join("qemu.out"))
}
