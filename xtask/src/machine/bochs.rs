//! Bochs: an emulated CPU with VMX and EPT, whose time-stamp counter advances by one an instruction.

use super::process::{Console, Running};
use super::{Job, Keyboard, SecondPort};
use crate::setup;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// The template of its configuration; `@NAME@` is filled in here.
const BOCHSRC: &str = include_str!("../../../boot/bochsrc");

/// The CPU models to choose from, the usual one first. The last two lack what the kernel needs: EPT, and unrestricted
/// guests.
pub const MODELS: [&str; 6] = [
    "corei7_haswell_4770",
    "corei7_sandy_bridge_2600k",
    "broadwell_ult",
    "corei7_skylake_x",
    "core2_penryn_t9600",
    "corei5_lynnfield_750",
];

/// What Bochs prints besides its log.
pub const DEBUGGER: &str = "bochs.out";

/// Installs what it needs.
///
/// # Errors
/// Status 3 when that cannot be.
pub fn set_up() -> anyhow::Result<()> {
    setup::packages(setup::need::BOCHS)
}

/// Boots the image.
///
/// # Errors
/// A process that does not start.
pub fn start(job: &Job<'_>) -> anyhow::Result<Running> {
    // Debian's build stops at its debugger's prompt: `c` continues.
    start_debugged(job, "c\n")
}

/// Boots the image with commands for the debugger, which is entered at the reset, and at every `xchg bx, bx` if it is to
/// trace. What the debugger says is in the file [`DEBUGGER`].
///
/// # Errors
/// A process that does not start.
pub fn start_debugged(job: &Job<'_>, script: &str) -> anyhow::Result<Running> {
    let (com1, console) = match job.keyboard {
        Keyboard::Absent => {
            let file = job.dir.join("com1.log");
            (format!("mode=file, dev=\"{}\"", file.display()), Console::Growing(file))
        }
        Keyboard::Person => {
            // We listen and Bochs connects: no other run can take the port in between.
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let port = listener.local_addr()?.port();
            (format!("mode=socket-client, dev=\"127.0.0.1:{port}\""), Console::Socket(listener))
        }
    };
    let second_port = match job.second_port {
        SecondPort::Absent => None,
        SecondPort::Connected => Some(TcpListener::bind("127.0.0.1:0")?),
    };
    let com2 = match &second_port {
        Some(listener) => {
            let port = listener.local_addr()?.port();
            format!("com2: enabled=1, mode=socket-client, dev=\"127.0.0.1:{port}\"\n")
        }
        None => String::new(),
    };
    let bochsrc = job.dir.join("bochsrc");
    let magic = if script.contains("trace") { "magic_break: enabled=1\n" } else { "" };
    std::fs::write(&bochsrc, configuration(job, &com1) + &com2 + magic)?;
    let commands = job.dir.join("debugger");
    std::fs::write(&commands, script)?;
    let mut command = Command::new("bochs-bin");
    command.arg("-q").arg("-f").arg(&bochsrc).arg("-rc").arg(&commands).current_dir(job.dir);
    Running::start(command, console, second_port, &job.dir.join(DEBUGGER))
}

fn configuration(job: &Job<'_>, com1: &str) -> String {
    let clock = match job.keyboard {
        // Counts repeat exactly, and idle time is skipped.
        Keyboard::Absent => "sync=none, time0=1700000000",
        // An idle guest waits as long as a person would expect.
        Keyboard::Person => "sync=slowdown, time0=local",
    };
    BOCHSRC
        .replace("@MEMORY@", &job.memory.to_string())
        .replace("@CPU@", job.cpu)
        .replace("@ISO@", &job.iso.display().to_string())
        .replace("@COM1@", com1)
        .replace("@CLOCK@", clock)
        .replace("@LOG@", &job.dir.join("bochs.log").display().to_string())
}

/// The end of Bochs's log: it names the failing check of a VM entry, and why it stopped.
#[must_use]
pub fn last_words(dir: &Path) -> Option<String> {
    let log = String::from_utf8_lossy(&std::fs::read(dir.join("bochs.log")).ok()?).into_owned();
    let telling = |line: &&str| {
        let told =
            line.contains("PANIC") || line.starts_with('e') || line.contains(">>PANIC<<") || line.starts_with('p');
        told || line.contains("VMFAIL") || line.contains("VMENTER") || line.contains("shutdown")
    };
    let lines: Vec<&str> = log.lines().filter(telling).collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_hole_left() {
        for keyboard in [Keyboard::Absent, Keyboard::Person] {
            let job = Job {
                iso: Path::new("/i.iso"),
                memory: 640,
                cpu: MODELS[0],
                keyboard,
                second_port: SecondPort::Absent,
                dir: Path::new("/d"),
            };
            let text = configuration(&job, "mode=file, dev=\"/d/com1.log\"");
            assert!(!text.contains('@'), "{text}");
            assert!(text.contains("memory: guest=640, host=640"), "{text}");
        }
    }
}
