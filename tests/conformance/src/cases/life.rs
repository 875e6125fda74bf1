//! The end of a pager, and its next incarnation.

use super::{done, ram, refused, slot, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit};
use anyhow::{Context, bail};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::lifecycle::Features;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};

pub const CASES: &[Case] = &[
    Case { name: "life::it_ends_with_the_system", checks: &["P42"], run: ends },
    Case { name: "life::the_next_incarnation_harms_nothing", checks: &["P41"], run: restarts },
    Case { name: "life::what_another_has_kept_is_not_trusted", checks: &["P41"], run: stranger },
    Case { name: "life::what_is_kept_is_enough", checks: &["P51"], run: enough },
];

/// The end of the case closes the pager's standard input, also of one that has done nothing.
fn ends(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = kit.setup.clone();
    kit.reboot(&setup)?;
    with(kit, &[ram(1, 0x100, 64)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    done(kit, 0, &SlotRequest::Stats)
}

/// A pager that cannot go on where the one before has stopped ends by itself, before it answers anything.
fn restarts(kit: &mut Kit) -> anyhow::Result<()> {
    filled(kit)?;
    harms_nothing(kit)
}

/// Another program has kept something: here it is a page of the guest's, so that whoever believes it believes the guest.
fn stranger(kit: &mut Kit) -> anyhow::Result<()> {
    filled(kit)?;
    let pfn = kit.kernel.vms[0].pfn(0x100, &kit.kernel.ledger).context("P6: what was written is mapped")?;
    kit.kernel.kept = pfn;
    harms_nothing(kit)
}

/// Pages are written, and it dies between a fault and its answer; the fault stays parked.
fn filled(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 256)])?;
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + n, 0, n + 1))?;
    let parked = kit.fault_at(GUEST, 0x150 << 12, Rights::WRITE, FaultKind::Violation);
    kit.kernel.abandon(parked.to_words())
}

/// The next incarnation goes on, or stops.
fn harms_nothing(kit: &mut Kit) -> anyhow::Result<()> {
    let told = "P41: in its second incarnation";
    if let Err(error) = kit.restart(1) {
        if kit.kernel.pager.silent {
            return Err(error.context("P41: it neither goes on nor stops"));
        }
        // It has stopped; the system goes on without it.
        let setup = kit.setup.clone();
        return kit.reboot_after_death(&setup);
    }
    kit.hello(0).context(told)?;
    match kit.request(0, &SlotRequest::Create(ram(1, 0x100, 256))).context(told)? {
        SlotReply::Done | SlotReply::Refused(SlotRefused::Exists) => {}
        other => bail!("{told}: the slot is created again: {other:?}"),
    }
    kit.write(GUEST, 0x150, 0, 0x51).context("P41: the fault that was parked is asked again")?;
    for n in 0..64 {
        kit.read(GUEST, 0x100 + n).context(told)?;
    }
    for n in 64..256 {
        kit.read(GUEST, 0x100 + n).context(told)?;
        kit.write(GUEST, 0x100 + n, 0, n + 1).context(told)?;
    }
    kit.check().context(told)?;
    (0..256).try_for_each(|n| kit.read(GUEST, 0x100 + n).context(told))
}

/// A pager that says `KEEPS` knows all slots and all content again, and nobody has to tell it.
fn enough(kit: &mut Kit) -> anyhow::Result<()> {
    let told = "P51: KEEPS was said";
    let slots = [ram(1, 0x100, 256), slot(2, 0x400, 16, SlotFlags::PRIVATE), slot(3, 0x500, 8, SlotFlags::READONLY)];
    with(kit, &slots)?;
    if !kit.features.contains(Features::KEEPS) {
        return Ok(());
    }
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + n, 0, n + 1))?;
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x700)))?;
    kit.write(GUEST, 0x402, 0, 9)?;
    kit.restart(1).context(told)?;
    (0..64).try_for_each(|n| kit.read(GUEST, 0x700 + n)).context(told)?;
    kit.read(GUEST, 0x402).context(told)?;
    for access in [Rights::READ, Rights::WRITE] {
        kit.touch(GUEST, 0x500, access).context(told)?;
        kit.touch(GUEST, 0x100, access).context(told)?;
    }
    let [moved, private, rom] = slots;
    for slot in [Slot { base: Gfn(0x700), ..moved }, private, rom] {
        refused(kit, 0, &SlotRequest::Create(slot), SlotRefused::Exists).context(told)?;
    }
    kit.check().context(told)
}
