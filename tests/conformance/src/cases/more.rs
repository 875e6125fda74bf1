//! The CPU's log, remembered MMIO, memory types, figures, several VMs.

use super::{delete, done, ram, refused, set_flags, slot, with, with_more_frames};
use crate::case::Case;
use crate::kernel::Reply;
use crate::kit::{GUEST, Kit, Outcome, WINDOW, Who};
use crate::setup::Setup;
use anyhow::{Context, ensure};
use ipc_proto::fault::{Fault, FaultKind, Qualification};
use ipc_proto::grant::{Gfn, Gpa, Rights};
use ipc_proto::lifecycle::Features;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Topic};
use ipc_proto::text::Text;
use ukernel::ept::pages;

pub const CASES: &[Case] = &[
    Case { name: "log::a_full_log_is_taken", checks: &["P19"], run: full_log },
    Case { name: "generation::a_slot_ends_what_was_remembered", checks: &["P20"], run: remembered },
    Case { name: "generation::every_way_to_become_memory_counts", checks: &["P20"], run: becomes },
    Case { name: "types::only_known_registers_are_taken", checks: &["P34"], run: registers },
    Case { name: "types::no_large_page_lies_over_two_types", checks: &["P34"], run: types },
    Case { name: "figures::they_are_reported", checks: &["P36"], run: figures },
    Case { name: "figures::any_address_can_be_asked_for", checks: &["P36"], run: why },
    Case { name: "request::what_a_pager_need_not_have_is_answered_too", checks: &["P43"], run: optional },
    Case { name: "vm::one_is_nothing_to_another", checks: &["P40"], run: vms },
];

const OTHER: Who = Who { vm: 1, ..GUEST };

/// More pages are written than the CPU's log has room for. `LogFull` may come to a pager that has no log.
fn full_log(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { abilities: Abilities::ACCESSED_DIRTY | Abilities::LOG, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    let logs = kit.hello(0)?.features.contains(Features::DIRTY_LOG);
    let flags = if logs { SlotFlags::LOG_DIRTY_PAGES } else { SlotFlags::empty() };
    with(kit, &[slot(1, 0, 1400, flags)])?;
    let full =
        Fault { qualification: Qualification::empty(), ..kit.fault_at(GUEST, 0, Rights::empty(), FaultKind::LogFull) };
    let reply = kit.fault(&full)?;
    ensure!(reply == Reply::Retry, "P19: LogFull is answered by {reply:?}");
    (0..1400).try_for_each(|gfn| kit.read(GUEST, gfn))?;
    (0..1400).try_for_each(|gfn| kit.write(GUEST, gfn, 0, gfn + 1))?;
    if logs {
        for from in [0, 1024] {
            let reply = kit.request(0, &SlotRequest::DirtyLog(Space::Normal, SlotId(1), from))?;
            let SlotReply::Dirty(pages) = reply else { anyhow::bail!("P19: all was written: {reply:?}") };
            let told: u32 = pages.bits.iter().map(|word| word.count_ones()).sum();
            let wanted = if from == 0 { 1024 } else { 1400 - 1024 };
            ensure!(told == wanted, "P19: {wanted} pages were written from {from} on, {told} are told");
        }
    }
    Ok(())
}

fn remembered(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    for _ in 0..3 {
        for gfn in [0x200, 0x20f, 0x8000] {
            kit.touch(GUEST, gfn, Rights::READ)?;
            kit.touch(GUEST, gfn, Rights::WRITE)?;
        }
    }
    done(kit, 0, &SlotRequest::Create(ram(2, 0x200, 16))).context("P20")?;
    for gfn in [0x200, 0x20f] {
        kit.write(GUEST, gfn, 0, gfn).context("P20: it was MMIO before the slot was created")?;
    }
    kit.touch(GUEST, 0x8000, Rights::READ).context("P20: it is MMIO still")?;
    done(kit, 0, &delete(2)).context("P20")?;
    kit.touch(GUEST, 0x200, Rights::READ).context("P20: it is MMIO again")?;
    done(kit, 0, &SlotRequest::Create(ram(3, 0x208, 16))).context("P20")?;
    kit.read(GUEST, 0x20f).context("P20: memory again")?;
    // Whatever its qualification is, the access that is asked now is answered like a read.
    done(kit, 0, &SlotRequest::Create(slot(4, 0x8000, 1, SlotFlags::READONLY))).context("P20")?;
    kit.read(GUEST, 0x8000).context("P20: read-only memory")
}

fn becomes(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[slot(1, 0x100, 16, SlotFlags::READONLY), ram(2, 0x400, 16)])?;
    kit.touch(GUEST, 0x100, Rights::WRITE)?;
    kit.touch(GUEST, 0x100, Rights::WRITE)?;
    kit.touch(GUEST, 0x500, Rights::WRITE)?;
    kit.touch(GUEST, 0x500, Rights::WRITE)?;
    kit.read(GUEST, 0x100).context("P20: reads of a ROM are no MMIO")?;
    done(kit, 0, &set_flags(1, SlotFlags::empty()))?;
    kit.write(GUEST, 0x100, 0, 1).context("P20: a ROM that became RAM")?;
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(2), Gfn(0x4f8)))?;
    kit.write(GUEST, 0x500, 0, 1).context("P20: a slot that was moved there")?;
    let tracking = |on| SlotRequest::Track(Space::Normal, Gfn(0x101), on);
    done(kit, 0, &tracking(ipc_proto::slot::Tracking::On))?;
    kit.touch(GUEST, 0x101, Rights::WRITE)?;
    kit.touch(GUEST, 0x101, Rights::WRITE)?;
    kit.read(GUEST, 0x101).context("P20: reads of a tracked page are no MMIO")?;
    done(kit, 0, &tracking(ipc_proto::slot::Tracking::Off))?;
    kit.write(GUEST, 0x101, 0, 1).context("P20: a page that is tracked no more")
}

fn registers(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    let known = [0x2ff, 0x250, 0x258, 0x259].into_iter().chain(0x268..=0x26f).chain(0x200..=0x213);
    for register in known {
        done(kit, 0, &SlotRequest::MemoryType(register, 0x0606_0606_0606_0606 & 0xffff_f7ff)).context("P34")?;
    }
    for register in [0, 0x1ff, 0x214, 0x24f, 0x251, 0x25a, 0x267, 0x270, 0x277, 0x2fe, 0x300, u32::MAX] {
        refused(kit, 0, &SlotRequest::MemoryType(register, 0), SlotRefused::UnknownRegister).context("P34")?;
    }
    kit.write(GUEST, 0x100, 0, 1).context("P34: RAM is RAM whatever the registers say")
}

/// 64 KiB of another type in the middle of a block.
fn types(kit: &mut Kit) -> anyhow::Result<()> {
    with_more_frames(kit)?;
    with(kit, &[ram(1, 0x400, 2048)])?;
    kit.write(GUEST, 0x600, 0, 1)?;
    kit.write(GUEST, 0x800, 0, 1)?;
    for (register, value) in [(0x200, 0x680 << 12), (0x201, 0xff_ffff_0000 | 1 << 11), (0x2ff, 0x806)] {
        done(kit, 0, &SlotRequest::MemoryType(register, value)).context("P34")?;
    }
    for gfn in [0x600, 0x680, 0x68f, 0x690, 0x7ff, 0x800, 0x400] {
        kit.read(GUEST, gfn).context("P34")?;
        kit.write(GUEST, gfn, 8, gfn).context("P34")?;
    }
    for (first, place, _) in kit.kernel.vms[0].leaves(0x600, 0x800, &kit.kernel.ledger) {
        let size = pages(place.level);
        ensure!(size == 1, "P34: {size} frames from gfn {first:#x} are one page over two memory types");
    }
    Ok(())
}

fn figures(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    for _ in 0..2 {
        kit.kernel.figures.clear();
        done(kit, 0, &SlotRequest::Stats).context("P36")?;
        ensure!(!kit.kernel.figures.is_empty(), "P36: no Stat before Done");
        for figure in &kit.kernel.figures {
            let good = figure
                .split_once(' ')
                .is_some_and(|(key, value)| !key.is_empty() && !key.contains(' ') && value.parse::<u64>().is_ok());
            ensure!(good, "P36: a figure is `key value`: `{figure}`");
        }
    }
    Ok(())
}

fn why(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    for gpa in [0, 0x10_0000, 0x10_0fff, 0x10_1000, 0x11_0000, 1 << 40, 1 << 52, u64::MAX] {
        done(kit, 0, &SlotRequest::Why(Gpa(gpa))).context("P36")?;
    }
    kit.read(GUEST, 0x100)
}

fn optional(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    for topic in [Topic::Why(Gpa(0x10_0000)), Topic::Stats, Topic::Policy, Topic::Slots] {
        for line in [0, 1, u16::MAX] {
            let reply = kit.request(0, &SlotRequest::Tell(topic, line))?;
            ensure!(matches!(reply, SlotReply::Line(_) | SlotReply::Done), "P43: line {line} of {topic:?}: {reply:?}");
        }
    }
    for text in ["no-such-policy", "", "no-such-policy window=16"] {
        refused(kit, 0, &SlotRequest::Policy(Text::cut(text)), SlotRefused::UnknownPolicy).context("P43")?;
    }
    for (first, pages) in [(0x110, 8), (0x13c, 8), (0x150, 1), (u64::MAX, 2), (0x100, 0)] {
        let reply = kit.request(0, &SlotRequest::Prefault(Gfn(first), pages))?;
        let told = match reply {
            SlotReply::Left(left) => pages.checked_sub(left),
            SlotReply::Done => Some(pages),
            SlotReply::Refused(SlotRefused::NoSuchSlot) => Some(0),
            _ => None,
        };
        let mapped = |gfn| kit.kernel.vms[0].leaf(gfn, &kit.kernel.ledger).is_some();
        let all = |told| (0..told).all(|n| first.checked_add(n).is_some_and(mapped));
        ensure!(told.is_some_and(all), "P43: Prefault of {pages} pages from gfn {first:#x}: {reply:?}");
        kit.check()?;
    }
    for from in [0, 63, 64, u64::MAX] {
        let reply = kit.request(0, &SlotRequest::Idle(Space::Normal, SlotId(1), from))?;
        ensure!(matches!(reply, SlotReply::Idle(_) | SlotReply::Done), "P43: Idle from {from}: {reply:?}");
    }
    for (space, id) in [(Space::Normal, 2), (Space::Smm, 1)] {
        let idle = SlotRequest::Idle(space, SlotId(id), 0);
        refused(kit, 0, &idle, SlotRefused::NoSuchSlot).context("P43: Idle of a slot that is not there")?;
    }
    kit.read(GUEST, 0x100).context("P43: after all that")
}

fn vms(kit: &mut Kit) -> anyhow::Result<()> {
    let told = "P40";
    with(kit, &[ram(1, 0x100, 64)]).context(told)?;
    kit.write(GUEST, 0x100, 0, 1).context(told)?;
    refused(kit, 1, &SlotRequest::Create(ram(1, 0x100, 64)), SlotRefused::NoHello).context(told)?;
    let outcome = kit.access(OTHER, 0x100, Rights::READ).context(told)?;
    ensure!(outcome == Outcome::Mmio, "P40: VM 1 has no slot: {outcome:?}");
    kit.hello(1)?;
    done(kit, 1, &SlotRequest::Create(ram(1, 0x100, 64))).context(told)?;
    kit.read(OTHER, 0x100).context(told)?;
    kit.write(OTHER, 0x100, 0, 2).context(told)?;
    kit.read(GUEST, 0x100).context(told)?;
    done(kit, 1, &set_flags(1, SlotFlags::READONLY)).context(told)?;
    kit.write(GUEST, 0x100, 8, 3).context(told)?;
    kit.touch(OTHER, 0x100, Rights::WRITE).context(told)?;
    kit.write(Who { vm: 1, ..WINDOW }, 0x101, 8, 3).context(told)?;
    done(kit, 0, &delete(1)).context(told)?;
    kit.read(OTHER, 0x100).context(told)?;
    kit.touch(GUEST, 0x100, Rights::READ).context(told)?;
    kit.check()
}
