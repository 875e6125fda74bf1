//! Where the ticks of a fault go: each traced instruction belongs to a stage, by the functions that it was inlined in.

use super::trace::{Events, Instruction, Trace, Who};
use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The stages, in the order in which a fault passes them.
pub const STAGES: [&str; 6] = ["exit", "message", "pager", "decode", "install", "entry"];

/// Ticks in each stage of [`STAGES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub [u64; 6]);

impl Stages {
    /// As an object.
    #[must_use]
    pub fn json(&self) -> Value {
        STAGES.iter().zip(self.0).map(|(name, ticks)| ((*name).to_owned(), Value::from(ticks))).collect()
    }

    /// Ticks in the stage of that name.
    #[must_use]
    pub fn of(&self, stage: &str) -> u64 {
        STAGES.iter().position(|name| *name == stage).map_or(0, |at| self.0[at])
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let parts: Vec<String> = STAGES.iter().zip(self.0).map(|(name, ticks)| format!("{name} {ticks}")).collect();
        parts.join(", ")
    }
}

/// Splits the trace of a fault by the kernel's debugging information.
///
/// # Errors
/// `addr2line` does not run.
pub fn split(trace: &Trace, kernel: &Path) -> anyhow::Result<Stages> {
    let functions = functions(trace, kernel)?;
    let mut stages = Stages::default();
    let mut served = Served::NotYet;
    for instruction in &trace.instructions {
        let stage = match instruction.who {
            Who::Guest => continue,
            Who::Server => {
                served = Served::Already;
                "pager"
            }
            Who::Kernel => stage(functions.get(&instruction.address).map_or("", String::as_str), served),
        };
        if let Some(at) = STAGES.iter().position(|name| *name == stage) {
            stages.0[at] += 1;
        }
    }
    let missing: Vec<&str> =
        STAGES.iter().zip(stages.0).filter(|(_, ticks)| *ticks == 0).map(|(name, _)| *name).collect();
    anyhow::ensure!(missing.is_empty(), "no instruction of {missing:?}: the kernel's functions have other names now");
    Ok(stages)
}

/// The costly events in a trace, with those that only the kernel's debugging information tells of.
///
/// # Errors
/// `addr2line` does not run.
pub fn events(trace: &Trace, kernel: &Path) -> anyhow::Result<Events> {
    let functions = functions(trace, kernel)?;
    let picks = |instruction: &Instruction| {
        let around = functions.get(&instruction.address).map_or("", String::as_str);
        instruction.who == Who::Kernel && around.lines().any(|line| line.ends_with(SCHEDULER))
    };
    let picking: Vec<bool> = trace.instructions.iter().map(picks).collect();
    let scheduler = picking.iter().zip(std::iter::once(&false).chain(&picking)).filter(|(now, then)| **now && !**then);
    Ok(Events { scheduler: scheduler.count() as u64, ..trace.events() })
}

/// The kernel's function that looks for who runs next.
const SCHEDULER: &str = "::pick";

/// One line for each instruction: its tick from the first, who executed it, where, in which of the kernel's functions, and
/// what it is.
///
/// # Errors
/// `addr2line` does not run.
pub fn listing(trace: &Trace, kernel: &Path) -> anyhow::Result<String> {
    let functions = functions(trace, kernel)?;
    let begin = trace.instructions.first().map_or(0, |first| first.tick);
    let mut text = String::new();
    for Instruction { tick, who, address, text: instruction } in &trace.instructions {
        let function = functions.get(address).and_then(|around| around.lines().next()).unwrap_or_default();
        writeln!(text, "{:>5} {who:<6?} {address:#018x} {instruction:<60} {function}", tick - begin)?;
    }
    Ok(text)
}

/// Whether the pager has run yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    NotYet,
    Already,
}

/// The stage of an instruction of the kernel's, by the names of the functions around it.
fn stage(around: &str, served: Served) -> &'static str {
    let any = |names: &[&str]| names.iter().any(|name| around.contains(name));
    match served {
        Served::NotYet if any(MESSAGE) => "message",
        Served::NotYet => "exit",
        Served::Already if any(INSTALL) || around.contains("fast::granted") && any(INSTALL_FAST) => "install",
        Served::Already if any(DECODE) => "decode",
        Served::Already if any(ENTRY) => "entry",
        Served::Already => "message",
    }
}

/// What makes the question and hands it over.
const MESSAGE: &[&str] = &[
    "::ask",
    "fault::words",
    "::prepare_delivery",
    "door::leave",
    "door::deliver",
    "Core::run",
    "Ready::outranks",
    "fast::serve",
    "fast::waiting",
    "close_ports",
];
/// What puts a checked grant into place.
const INSTALL: &[&str] = &["grant::perform", "grant::link", "grant::replace"];
/// The same in the short way for one page, where it is inlined beside the checks.
const INSTALL_FAST: &[&str] = &["compare_exchange", "::Unmapped", "atomic_store", "atomic_add", "vm_bit"];
/// What reads and checks a reply and its grant.
const DECODE: &[&str] = &["grant::", "fault::decode", "fault::install", "fault::map", "fast::granted", "Claimed"];
/// What goes back into the guest.
const ENTRY: &[&str] =
    &["::prepare_guest", "about_to_enter", "fault_ends", "door::leave", "guest_entry", "enter_guest"];

/// The names of the functions around each of the kernel's instructions, innermost first.
fn functions(trace: &Trace, kernel: &Path) -> anyhow::Result<BTreeMap<u64, String>> {
    let mut addresses: Vec<u64> = trace
        .instructions
        .iter()
        .filter(|instruction| instruction.who == Who::Kernel)
        .map(|instruction| instruction.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut child = Command::new("addr2line")
        .args(["--addresses", "--functions", "--inlines", "--demangle", "--exe"])
        .arg(kernel)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting addr2line")?;
    let mut input = child.stdin.take().context("addr2line takes no addresses")?;
    let text: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    // It may stop reading when what it has to say is not read: so the two go side by side.
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writing.join().map_err(|_| anyhow::anyhow!("the addresses could not be written"))??;
    anyhow::ensure!(output.status.success(), "addr2line ends with {}", output.status);
    let mut functions: BTreeMap<u64, String> = BTreeMap::new();
    let mut current = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_prefix("0x").and_then(|address| u64::from_str_radix(address, 16).ok()) {
            Some(address) => current = address,
            None => functions.entry(current).or_default().extend([line, "\n"]),
        }
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_before_and_after_the_pager_are_different_stages() {
        let decode = "core::num::u64::add\nukernel::grant::decode\nukernel::grant::install\nsystem_call\n";
        let perform = "ukernel::frame::FrameTable::map\nukernel::grant::perform\nukernel::grant::install\n";
        assert_eq!(stage("guest_left\n", Served::NotYet), "exit");
        assert_eq!(stage("ukernel::portal::<impl Core>::ask\nguest_left\n", Served::NotYet), "message");
        assert_eq!(stage(decode, Served::Already), "decode");
        assert_eq!(stage(perform, Served::Already), "install");
        assert_eq!(stage("ukernel::core::Core::prepare_guest\n", Served::Already), "entry");
        assert_eq!(stage("ukernel::call::system_call\n", Served::Already), "message");
        let exchange = "core::sync::atomic::atomic_compare_exchange\nukernel::fast::granted\nukernel::fast::called\n";
        assert_eq!(stage(exchange, Served::Already), "install");
        assert_eq!(stage("ukernel::fast::granted\nukernel::fast::called\n", Served::Already), "decode");
    }
}
