//! How cost grows: ticks of a first touch with more address space, more slots, more VMs.
//!
//! The guest `growth` runs on systems that are made here, one for each point. It touches pages no two of which follow
//! each other in one table or one slot, so that nothing that is kept from the fault before helps.

use super::lap;
use super::row::Measured;
use crate::build;
use crate::setup::ToolchainChoice;
use anyhow::Context;
use std::fmt::Write as _;
use std::time::Duration;

/// What a run may take; it takes a few seconds.
const LIMIT: Duration = Duration::from_secs(180);
/// The guest's address space, in MiB. Only what is touched needs frames.
const SPACES: [u64; 5] = [64, 256, 1024, 4096, 16384];
/// Slots beside the three that make the guest's RAM.
const SLOTS: [u64; 4] = [1, 29, 125, 506];
/// Slots that make the guest's RAM.
const OF_RAM: u64 = 3;
/// VMs beyond one, of one pager, each with a server.
const MORE_VMS: [u64; 3] = [2, 4, 8];
/// Pages that the guest touches.
const TOUCHES: u64 = 1024;

/// A system of this many VMs.
struct Made<'a> {
    vms: u64,
    mebibytes: u64,
    pager: &'a str,
    options: String,
}

impl Made<'_> {
    fn text(&self) -> String {
        let Self { vms, mebibytes, pager, options } = self;
        let frames = 64 + 32 * vms;
        let mut text = format!(
            "name = \"growth\"\nlog = \"warn\"\ncheck = true\n\n[task.pager]\nimage = {pager}\npriority = 2\n\
             memory = \"{frames} MiB\"\n{options}\n"
        );
        // A server has one VM. The system ends when the last of those that supervise has ended.
        for vm in 0..*vms {
            let _ = write!(
                text,
                "\n[task.vcpu{vm}]\nimage = \"vcpu\"\npriority = 1\nmemory = \"64 frames\"\nsupervisor = true\n\
                 ports = [\"0x3f8-0x3ff\"]\n\n[vm.guest{vm}]\npager = \"pager\"\nserver = \"vcpu{vm}\"\n\
                 memory = \"{mebibytes} MiB\"\ntables = 512\nkernel = \"growth\"\nprotocol = \"flat\"\n"
            );
        }
        text
    }

    /// Boots it and says the median: of all its faults by the kernel, and as its guest timed it. Several guests share a
    /// console, where what one says may stand amid what another does.
    fn run(&self, toolchain: ToolchainChoice) -> anyhow::Result<Medians> {
        let dir = lap::folder()?;
        let file = dir.path().join("growth.toml");
        std::fs::write(&file, self.text())?;
        let built = lap::build(file.to_str().context("a path that is text")?, Vec::new(), toolchain)?;
        let said = lap::run(&built, lap::GO_ON, LIMIT)?;
        let counted = |key| said.figures.kernel(key).with_context(|| format!("the kernel did not count {key}"));
        let faults = counted("faults.count")?;
        anyhow::ensure!(faults >= TOUCHES * self.vms, "{faults} faults of {} VMs:\n{}", self.vms, said.guest);
        Ok(Medians { kernel: counted("faults.ticks_p50")? as f64, guest: timed(&said.guest).map(|ticks| ticks as f64) })
    }
}

/// The median ticks of a first touch.
struct Medians {
    /// From the exit to the entry.
    kernel: f64,
    /// With both, if what a guest said could be read.
    guest: Option<f64>,
}

impl Medians {
    fn of_guest(&self) -> anyhow::Result<f64> {
        self.guest.context("the guest did not tell its figure")
    }
}

/// The rows: how much the dearest point costs over the cheapest.
///
/// # Errors
/// What keeps them from being measured.
pub fn measure(toolchain: ToolchainChoice) -> anyhow::Result<Vec<(&'static str, Measured)>> {
    // The policy that gives a guest more address space than there are frames.
    let clock = "options.policy = \"clock\"";
    let plain = |vms, mebibytes| Made { vms, mebibytes, pager: "\"vmm-mm\"", options: clock.to_owned() };
    let image = build::programs(&["stopwatch"], toolchain)?.join("stopwatch");
    let image = toml::Value::from(image.to_str().context("a path that is text")?).to_string();
    let slotted = |slots: u64| {
        let options = format!("options.part = \"slots\"\noptions.slots = \"{slots}\"");
        Made { vms: 1, mebibytes: 16, pager: &image, options }
    };
    let (mut spaces, mut slots, mut vms) = (Vec::new(), Vec::new(), Vec::new());
    for mebibytes in SPACES {
        let medians = plain(1, mebibytes).run(toolchain)?;
        spaces.push((space(mebibytes), medians.of_guest()?));
        if mebibytes == SPACES[0] {
            vms.push(("1".to_owned(), medians.kernel));
        }
    }
    for number in SLOTS {
        slots.push(((number + OF_RAM).to_string(), slotted(number).run(toolchain)?.of_guest()?));
    }
    for number in MORE_VMS {
        vms.push((number.to_string(), plain(number, SPACES[0]).run(toolchain)?.kernel));
    }
    let touches = "1,024 first touches, timed by the guest,";
    Ok(vec![
        ("N1", row(spaces, &format!("{touches} under the policy clock, which promises more than there are frames"))),
        ("N2", row(slots, &format!("{touches} each in another slot than the one before, by vmm-mm's library"))),
        ("N3", row(vms, "as N1, in all VMs at once, from the exit to the entry, by the kernel")),
    ])
}

/// 64 MiB, or 16 GiB.
fn space(mebibytes: u64) -> String {
    if mebibytes < 1024 { format!("{mebibytes} MiB") } else { format!("{} GiB", mebibytes / 1024) }
}

fn row(points: Vec<(String, f64)>, how: &str) -> Measured {
    let ticks = points.iter().map(|(_, ticks)| *ticks);
    let (least, most) = (ticks.clone().fold(f64::INFINITY, f64::min), ticks.fold(0.0, f64::max));
    let each: Vec<String> = points.iter().map(|(label, ticks)| format!("{label} {ticks}")).collect();
    let how = format!("p50 in ticks of {how}: {}", each.join(", "));
    Measured { points, ..Measured::of(most / least, how) }
}

/// What a guest says: `bench: growth min 1 p50 2 max 3 of 4`.
fn timed(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("bench: growth min ")?;
    rest.split_once(" p50 ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_of_a_guest_is_found() {
        assert_eq!(timed("bench: two RDTSC take 5 ticks\nbench: growth min 1 p50 470 max 9 of 1024\n"), Some(470));
        assert_eq!(timed("bench: growth mibench: done\n"), None);
    }

    #[test]
    fn a_row_is_the_dearest_point_over_the_cheapest() {
        let measured = row(vec![("1".into(), 400.0), ("8".into(), 500.0), ("2".into(), 450.0)], "touches");
        assert_eq!(measured.value, Some(1.25));
        assert!(measured.how.ends_with("touches: 1 400, 8 500, 2 450"));
    }

    #[test]
    fn a_made_system_is_a_system() {
        let made = Made { vms: 8, mebibytes: 64, pager: "\"vmm-mm\"", options: "options.policy = \"demand\"".into() };
        assert!(
            made.text()
                .parse::<toml::Table>()
                .is_ok_and(|table| table["vm"].as_table().is_some_and(|vms| vms.len() == 8))
        );
    }
}
