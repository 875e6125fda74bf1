//! Slots that behave otherwise from now on: flags and tracking.

use super::{done, ram, refused, set_flags, slot, with};
use crate::case::Case;
use crate::kernel::Reply;
use crate::kit::{GUEST, Kit, WINDOW, Who};
use anyhow::{Context, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Rights, SeenBy};
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};

pub const CASES: &[Case] = &[
    Case { name: "slot::flags_are_obeyed_at_once", checks: &["P27", "P8"], run: flags },
    Case { name: "slot::unknown_flags_change_nothing", checks: &["P27"], run: unknown },
    Case { name: "slot::a_private_slot_is_not_in_the_window", checks: &["P28", "P44"], run: private },
    Case { name: "track::writes_to_a_tracked_page_are_emulated", checks: &["P33"], run: tracked },
    Case { name: "track::twice_is_once", checks: &["P33"], run: twice },
    Case { name: "track::it_ends_with_the_slot", checks: &["P33", "P25"], run: ends },
];

const fn track(gfn: u64, tracking: Tracking) -> SlotRequest {
    SlotRequest::Track(Space::Normal, Gfn(gfn), tracking)
}

fn flags(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 600), ram(2, 0x1000, 16)])?;
    for gfn in [0x100, 0x200, 0x357, 0x1000] {
        kit.write(GUEST, gfn, 0, gfn)?;
        kit.write(WINDOW, gfn + 1, 0, gfn)?;
    }
    for round in 0..3 {
        done(kit, 0, &set_flags(1, SlotFlags::READONLY)).context("P27")?;
        let shown = kit.kernel.vms[0].shown(&kit.kernel.ledger);
        ensure!(!shown.contains(&0x101), "P27: the slot is READONLY, and a window shows gfn 0x101 writable still");
        for gfn in [0x100, 0x101, 0x357, 0x180] {
            kit.touch(GUEST, gfn, Rights::WRITE).context("P27: READONLY")?;
            kit.read(GUEST, gfn).context("P27: READONLY")?;
        }
        kit.write(GUEST, 0x1000, 8, round).context("P27: the flag of another slot")?;
        done(kit, 0, &set_flags(1, SlotFlags::empty())).context("P27")?;
        for gfn in [0x100, 0x101, 0x357, 0x180] {
            kit.write(GUEST, gfn, 8, round + 1).context("P27: READONLY no more")?;
        }
    }
    refused(kit, 0, &set_flags(3, SlotFlags::READONLY), SlotRefused::NoSuchSlot).context("P27")
}

fn unknown(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    for bits in [8, 1 << 31, 0xffff_fff8, 9] {
        let flags = SlotFlags::from_bits_retain(bits);
        refused(kit, 0, &set_flags(1, flags), SlotRefused::UnknownFlag).context("P27")?;
        kit.write(GUEST, 0x100, 0, 1).context("P27: a refused flag")?;
    }
    Ok(())
}

fn private(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[slot(1, 0x100, 64, SlotFlags::PRIVATE), ram(2, 0x200, 64)])?;
    let not_shown = |kit: &mut Kit, gfn: u64| {
        for tried in [Rights::READ, Rights::WRITE] {
            let fault = kit.fault_at(WINDOW, gfn << 12, tried, FaultKind::Violation);
            let reply = kit.fault(&fault)?;
            ensure!(
                matches!(reply, Reply::Mmio(_) | Reply::Denied(_)),
                "P28: {tried:?} of gfn {gfn:#x} of a PRIVATE slot through the window: {reply:?}"
            );
        }
        let (vm, ledger) = (&kit.kernel.vms[0], &kit.kernel.ledger);
        let leaf = vm.leaf(gfn, ledger).map(|(leaf, _)| leaf.seen_by);
        ensure!(leaf != Some(SeenBy::Everyone), "P44: a window shows gfn {gfn:#x}, which the guest has touched");
        Ok(())
    };
    not_shown(kit, 0x100)?;
    kit.write(GUEST, 0x101, 0, 3)?;
    not_shown(kit, 0x101)?;
    kit.write(WINDOW, 0x200, 0, 4)?;
    kit.write(GUEST, 0x201, 0, 5)?;
    done(kit, 0, &set_flags(2, SlotFlags::PRIVATE)).context("P28")?;
    let shown = kit.kernel.vms[0].shown(&kit.kernel.ledger);
    ensure!(shown.is_empty(), "P28: PRIVATE is set, and the window shows gfns {shown:x?}");
    not_shown(kit, 0x202)?;
    kit.read(GUEST, 0x200)?;
    kit.read(GUEST, 0x201)?;
    done(kit, 0, &set_flags(2, SlotFlags::empty())).context("P28")?;
    kit.read(WINDOW, 0x200).context("P28: PRIVATE no more")
}

fn tracked(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x200, 1024)]).context("P33")?;
    kit.write(GUEST, 0x300, 0, 1)?;
    kit.write(WINDOW, 0x301, 0, 2)?;
    for gfn in [0x300, 0x301, 0x400] {
        done(kit, 0, &track(gfn, Tracking::On)).context("P33")?;
    }
    for gfn in [0x300, 0x301, 0x400] {
        kit.touch(GUEST, gfn, Rights::WRITE).context("P33")?;
        kit.read(GUEST, gfn).context("P33: reads")?;
        kit.touch(GUEST, gfn, Rights::EXECUTE).context("P33: fetches")?;
        kit.touch(Who { vcpu: 2, ..GUEST }, gfn, Rights::WRITE).context("P33: where it is mapped")?;
        kit.write(GUEST, gfn + 2, 0, gfn).context("P33: a neighbour")?;
        kit.write(GUEST, gfn - 2, 0, gfn).context("P33: a neighbour")?;
    }
    kit.check()?;
    for gfn in [0x300, 0x301, 0x400] {
        done(kit, 0, &track(gfn, Tracking::Off)).context("P33")?;
        kit.write(GUEST, gfn, 16, gfn).context("P33: tracked no more")?;
        kit.read(GUEST, gfn)?;
    }
    Ok(())
}

fn twice(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    for tracking in [Tracking::Off, Tracking::On, Tracking::On, Tracking::Off, Tracking::Off] {
        done(kit, 0, &track(0x110, tracking)).context("P33")?;
        kit.touch(GUEST, 0x110, Rights::WRITE).with_context(|| format!("P33: after {tracking:?}"))?;
    }
    for gfn in [0xff, 0x140, 1 << 27, u64::MAX] {
        refused(kit, 0, &track(gfn, Tracking::On), SlotRefused::NoSuchSlot).context("P33")?;
    }
    Ok(())
}

fn ends(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    done(kit, 0, &track(0x110, Tracking::On))?;
    let base = Gfn(0x400);
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), base))?;
    kit.touch(GUEST, 0x410, Rights::WRITE).context("P33: tracking goes with the page")?;
    done(kit, 0, &super::delete(1))?;
    done(kit, 0, &SlotRequest::Create(ram(1, 0x400, 64)))?;
    kit.write(GUEST, 0x410, 0, 1).context("P33: tracking ends with the slot")?;
    let reply = kit.request(0, &track(0x100, Tracking::On))?;
    ensure!(reply == SlotReply::Refused(SlotRefused::NoSuchSlot), "P33: {reply:?}");
    Ok(())
}
