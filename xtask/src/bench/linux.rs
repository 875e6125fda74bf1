//! K11: the same Linux kernel, initial file system and command line, on Faultline and on Bochs alone; K11f: under the policy
//! that maps around a fault.
//!
//! With Faultline the ticks are the kernel's own: from its first instruction to the guest's power-off. Without, they
//! are counted from the first instruction of the Linux kernel, where Bochs's debugger stops once, to the tick at which
//! Bochs says that it was powered off. Loading by GRUB is in neither, loading of the guest by its server in the first.

use super::lap;
use super::row::Measured;
use crate::image::{self, BOOT_LINE, Content, GRUB_HEAD};
use crate::setup::{self, ToolchainChoice};
use anyhow::Context;
use std::path::Path;
use std::time::Duration;

/// What each of them may take.
const LIMIT: Duration = Duration::from_secs(900);
/// Where GRUB loads the kernel to and enters it: the `pref_address` of its header, 16 MiB.
const ENTRY: u64 = 0x100_0000;
/// What the initial file system says when most of RAM keeps what was written. Its very last lines are not waited for:
/// without Faultline the machine is off before its serial port has sent them.
const PASSED: &str = "checksum pass 2 ok";

/// Runs all three.
///
/// # Errors
/// What keeps one of them from being run, or from ending well.
pub fn measure(toolchain: ToolchainChoice) -> anyhow::Result<Vec<(&'static str, Measured)>> {
    for packages in [setup::need::IMAGE, setup::need::BOCHS] {
        setup::packages(packages)?;
    }
    let (built, demand) = under("demand", toolchain)?;
    let (_, around) = under("fault-around", toolchain)?;
    let without = bare(&built)?;
    let ratio = |with: u64| {
        let how = format!(
            "{with} ticks from Faultline's first instruction to the guest's power-off; {without} from the Linux kernel's \
             first instruction to power-off without Faultline; one run each"
        );
        Measured::of(with as f64 / without as f64, how)
    };
    Ok(vec![("K11", ratio(demand)), ("K11f", ratio(around))])
}

/// The system under a policy, and its ticks.
fn under(policy: &str, toolchain: ToolchainChoice) -> anyhow::Result<(lap::Built, u64)> {
    let sets = vec![format!("policy={policy}"), "log=warn".to_owned()];
    let built = lap::build("linux", sets, toolchain)?;
    let run = lap::run(&built, lap::GO_ON, LIMIT)?;
    anyhow::ensure!(run.guest.contains(PASSED), "Linux on Faultline did not pass its checks:\n{}", run.guest);
    let ticks = run.figures.kernel("ticks").context("the kernel did not say its ticks")?;
    Ok((built, ticks))
}

/// Ticks without Faultline.
fn bare(built: &lap::Built) -> anyhow::Result<u64> {
    let vm = built.system.manifest.vms.first().context("a VM")?;
    let file = |name: &str| built.parts.modules.iter().find(|part| part.name == name).map(|part| part.file.as_path());
    let kernel = file(&vm.guest.kernel).context("the guest's kernel")?;
    let initrd = vm.guest.modules.first().and_then(|name| file(name)).context("the guest's initial file system")?;
    let memory = u64::from(vm.memory) >> 8;
    let dir = lap::folder()?;
    let iso = dir.path().join("image.iso");
    pack(kernel, initrd, &vm.guest.command_line, &iso)?;
    let script = format!("lb {ENTRY:#x}\nc\nptime\nd 1\nc\n");
    let said = lap::boot(&iso, memory, dir.path(), &script, LIMIT)?;
    anyhow::ensure!(said.guest.contains(PASSED), "Linux alone did not pass its checks:\n{}", said.guest);
    let begin = said.debugger.lines().find_map(|line| line.strip_prefix("ptime: ")?.trim().parse::<u64>().ok());
    let begin = begin.context("the debugger did not stop at the kernel's entry")?;
    let end = said.log.lines().rev().find_map(tick).context("Bochs's log has no last tick")?;
    Ok(end - begin)
}

fn pack(kernel: &Path, initrd: &Path, command_line: &str, iso: &Path) -> anyhow::Result<()> {
    let config =
        format!("{GRUB_HEAD}linux /boot/vmlinuz {command_line}\ninitrd /boot/initrd\necho \"{BOOT_LINE}\"\nboot\n");
    image::write_iso(&config, &[("vmlinuz", Content::File(kernel)), ("initrd", Content::File(initrd))], iso)
}

/// The tick with which a line of Bochs's log begins.
fn tick(line: &str) -> Option<u64> {
    let digits = line.find(|letter: char| !letter.is_ascii_digit())?;
    line.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_begins_with_its_tick() {
        assert_eq!(tick("03569502583i[SIM   ] quit_sim called with exit code 1"), Some(3_569_502_583));
        assert_eq!(tick("(0).[3569502583] [0x00001862de5f]"), None);
    }
}
