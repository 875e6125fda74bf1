//! One pager makes way for another: it hands over by the ledger, and the next one goes on from there.

use super::{done, ram, slot, with};
use crate::case::Case;
use crate::kernel::Reply;
use crate::kit::{GUEST, Kit};
use anyhow::{Context, anyhow, bail, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::layout::HANDED_OVER;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};
use ipc_proto::wire;

pub const CASES: &[Case] = &[
    Case { name: "handover::the_ledger_tells_everything", checks: &["P46"], run: tells },
    Case { name: "handover::a_pager_that_has_handed_over_stands_still", checks: &["P47"], run: still },
    Case { name: "handover::the_next_pager_goes_on", checks: &["P48"], run: goes_on },
];

/// Where the slot of the cases is moved to.
const THERE: u64 = 0x700;

/// Pages are written, and then the slot is moved, so that none of them is mapped; others lie beside it.
fn written(kit: &mut Kit) -> anyhow::Result<()> {
    let beside = Slot { space: Space::Smm, ..ram(4, 0x100, 8) };
    with(kit, &[ram(1, 0x100, 256), slot(2, 0x400, 16, SlotFlags::PRIVATE), beside])?;
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + 3 * n, 0, n + 1))?;
    (0..8).try_for_each(|n| kit.write(GUEST, 0x400 + n, 0, n + 7))?;
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), Gfn(THERE)))?;
    kit.write(GUEST, THERE + 1, 0, 5)
}

/// Every slot that the pager hands over.
fn handed(kit: &mut Kit) -> anyhow::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    loop {
        match kit.request(0, &SlotRequest::HandOver(slots.len() as u16))? {
            SlotReply::Slot(slot) if slots.len() < 64 => {
                ensure!(kit.kernel.kept() != HANDED_OVER, "P46: it has said so before each slot was told");
                slots.push(slot);
            }
            SlotReply::Done => return Ok(slots),
            other => bail!("P46: HandOver({}): {other:?}", slots.len()),
        }
    }
}

fn tells(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    let early = kit.request(0, &SlotRequest::HandOver(1))?;
    let refused = SlotReply::Refused(SlotRefused::NoHandOver);
    ensure!(early == refused, "P46: HandOver(1) before HandOver(0): {early:?}");
    let mut slots = handed(kit)?;
    slots.sort_by_key(|slot| slot.id);
    let wanted =
        [ram(1, THERE, 256), slot(2, 0x400, 16, SlotFlags::PRIVATE), Slot { space: Space::Smm, ..ram(4, 0x100, 8) }];
    ensure!(slots == wanted, "P46: the slots are {wanted:x?}, and told is {slots:x?}");
    let vm = &kit.kernel.vms[0];
    let mapped = |gfn: &u64| vm.leaf(*gfn, &kit.kernel.ledger).is_some();
    let missing = (0..64).map(|n| THERE + 3 * n).chain(0x400..0x408).find(|gfn| !mapped(gfn));
    ensure!(missing.is_none(), "P46: gfn {missing:x?} has content, and is not mapped");
    ensure!(kit.kernel.kept() == HANDED_OVER, "P46: kept is {:#x}", kit.kernel.kept());
    Ok(())
}

fn still(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    handed(kit)?;
    for gfn in [THERE + 200, 0x40c] {
        let fault = kit.fault_at(GUEST, gfn << 12, Rights::WRITE, FaultKind::Violation);
        if kit.kernel.vms[0].leaf(gfn, &kit.kernel.ledger).is_none() {
            let reply = kit.fault(&fault)?;
            ensure!(matches!(reply, Reply::Pending(_)), "P47: it has handed over, and answers {reply:?}");
        }
    }
    done(kit, 0, &SlotRequest::Stats)?;
    ensure!(kit.kernel.kept() != HANDED_OVER, "P47: nobody has come, and what is kept says so still");
    for gfn in (THERE..THERE + 256).chain(0x400..0x410) {
        kit.read(GUEST, gfn).context("P47: nobody has come: it goes on")?;
    }
    Ok(())
}

fn goes_on(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    let told = "P48: behind a pager that has handed over";
    for incarnation in 1..=2 {
        let slots = handed(kit)?;
        kit.restart(incarnation).context(told)?;
        kit.hello(0).context(told)?;
        let fault = kit.fault_at(GUEST, 0x900 << 12, Rights::READ, FaultKind::Violation);
        let reply = kit.fault(&fault).context(told)?;
        ensure!(matches!(reply, Reply::Pending(_)), "{told}: its slot may come, and the answer is {reply:?}");
        for slot in slots {
            // To the guest it is the slot that there was.
            let mut bytes = [0; 64];
            let len = wire::encode(&SlotRequest::Create(slot), &mut bytes).map_err(|error| anyhow!("{error:?}"))?;
            let reply = kit.ask_bytes(0, &bytes[..len]).context(told)?;
            ensure!(reply == SlotReply::Done, "{told}: {slot:?} is made again: {reply:?}");
        }
        done(kit, 0, &SlotRequest::TakeOver).context(told)?;
        ensure!(kit.kernel.kept() != HANDED_OVER, "{told}: what is kept says so still");
        for gfn in (THERE..THERE + 256).chain(0x400..0x410) {
            kit.read(GUEST, gfn).context(told)?;
            kit.write(GUEST, gfn, 1, gfn + u64::from(incarnation)).context(told)?;
        }
    }
    Ok(())
}
