//! The end of a pager, and its next incarnation.

use super::{done, ram, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit};
use anyhow::{Context, bail};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::Rights;
use ipc_proto::slot::{SlotRefused, SlotReply, SlotRequest};

pub const CASES: &[Case] = &[
    Case { name: "life::it_ends_with_the_system", checks: &["P42"], run: ends },
    Case { name: "life::the_next_incarnation_harms_nothing", checks: &["P41"], run: restarts },
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
    let told = "P41: in its second incarnation";
    with(kit, &[ram(1, 0x100, 256)])?;
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + n, 0, n + 1))?;
    // It dies between a fault and its answer; the fault stays parked.
    let parked = kit.fault_at(GUEST, 0x150 << 12, Rights::WRITE, FaultKind::Violation);
    kit.kernel.abandon(parked.to_words())?;
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
