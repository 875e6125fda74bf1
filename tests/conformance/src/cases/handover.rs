//! One pager makes way for another: it hands over by the ledger, and the next one goes on from there.

use super::{delete, done, ram, refused, slot, with};
use crate::case::Case;
use crate::kernel::Reply;
use crate::kit::{GUEST, Kit, WINDOW, Who};
use crate::vm::Remembered;
use anyhow::{Context, anyhow, bail, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::layout::HANDED_OVER;
use ipc_proto::lifecycle::Features;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};
use ipc_proto::wire;

pub const CASES: &[Case] = &[
    Case { name: "handover::the_ledger_tells_everything", checks: &["P46"], run: tells },
    Case { name: "handover::a_pager_that_has_handed_over_stands_still", checks: &["P47"], run: still },
    Case { name: "handover::the_next_pager_goes_on", checks: &["P48"], run: goes_on },
    Case { name: "handover::what_no_slot_has_is_not_taken_over", checks: &["P48"], run: orphans },
    Case { name: "handover::what_was_remembered_stays_void", checks: &["P20"], run: remembered },
];

/// Where the slot of the cases is moved to.
const THERE: u64 = 0x700;
/// Where one is that logs.
const LOGGED: u64 = 0x1800;
/// Where none is.
const HOLES: u64 = 0x2800;
/// When it is.
const BEHIND: &str = "P48: behind a pager that has handed over";

/// Pages are written, and then the slot is moved, so that none of them is mapped; others lie beside it.
fn written(kit: &mut Kit) -> anyhow::Result<()> {
    let beside = Slot { space: Space::Smm, ..ram(4, 0x100, 8) };
    with(kit, &[ram(1, 0x100, 256), slot(2, 0x400, 16, SlotFlags::PRIVATE), beside])?;
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + 3 * n, 0, n + 1))?;
    (0..8).try_for_each(|n| kit.write(GUEST, 0x400 + n, 0, n + 7))?;
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), Gfn(THERE)))?;
    kit.write(GUEST, THERE + 1, 0, 5)
}

/// Whether the pager hands over. One that does not must say so to whoever asks.
fn hands_over(kit: &mut Kit) -> anyhow::Result<bool> {
    if kit.features.contains(Features::HAND_OVER) {
        return Ok(true);
    }
    for number in [0, 1] {
        let why = SlotRefused::NoHandOver;
        refused(kit, 0, &SlotRequest::HandOver(number), why).context("P46: HAND_OVER was not said")?;
    }
    done(kit, 0, &SlotRequest::TakeOver).context("P46: HAND_OVER was not said")?;
    kit.read(GUEST, THERE + 1).context("P46: HAND_OVER was not said")?;
    Ok(false)
}

/// Every slot that the pager hands over.
fn handed(kit: &mut Kit) -> anyhow::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    loop {
        match kit.request(0, &SlotRequest::HandOver(slots.len() as u16))? {
            SlotReply::Slot(slot) if slots.len() < 64 => {
                ensure!(kit.kernel.kept != HANDED_OVER, "P46: it has said so before each slot was told");
                slots.push(slot);
            }
            SlotReply::Done => return Ok(slots),
            other => bail!("P46: HandOver({}): {other:?}", slots.len()),
        }
    }
}

fn tells(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    if !hands_over(kit)? {
        return Ok(());
    }
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
    ensure!(kit.kernel.kept == HANDED_OVER, "P46: kept is {:#x}", kit.kernel.kept);
    Ok(())
}

fn still(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    if !hands_over(kit)? {
        return Ok(());
    }
    handed(kit)?;
    for (vcpu, gfn) in [(0, THERE + 200), (1, 0x40c)] {
        let fault = kit.fault_at(Who { vcpu, ..GUEST }, gfn << 12, Rights::WRITE, FaultKind::Violation);
        if kit.kernel.vms[0].leaf(gfn, &kit.kernel.ledger).is_none() {
            let reply = kit.fault(&fault)?;
            ensure!(matches!(reply, Reply::Pending(_)), "P47: it has handed over, and answers {reply:?}");
        }
    }
    let fault = kit.fault_at(WINDOW, (THERE + 201) << 12, Rights::WRITE, FaultKind::Violation);
    let reply = kit.fault(&fault).context("P47: it has handed over, and is asked by the window")?;
    ensure!(matches!(reply, Reply::Denied(_)), "P47: it has handed over, and answers the window by {reply:?}");
    // What is no request ends nothing.
    kit.ask_bytes(0, &[0x7f])?;
    ensure!(kit.kernel.kept == HANDED_OVER, "P47: no request came, and kept is {:#x}", kit.kernel.kept);
    done(kit, 0, &SlotRequest::Stats)?;
    ensure!(kit.kernel.kept != HANDED_OVER, "P47: nobody has come, and what is kept says so still");
    ensure!(kit.kernel.pending.is_empty(), "P47: nobody has come, and {:?} wait still", kit.kernel.pending);
    for gfn in (THERE..THERE + 256).chain(0x400..0x410) {
        kit.read(GUEST, gfn).context("P47: nobody has come: it goes on")?;
    }
    Ok(())
}

/// The slots are made again, for the pager: to the guest they are those that there were.
fn made_again(kit: &mut Kit, slots: &[Slot]) -> anyhow::Result<()> {
    for slot in slots {
        let mut bytes = [0; 64];
        let len = wire::encode(&SlotRequest::Create(*slot), &mut bytes).map_err(|error| anyhow!("{error:?}"))?;
        let reply = kit.ask_bytes(0, &bytes[..len]).context(BEHIND)?;
        ensure!(reply == SlotReply::Done, "{BEHIND}: {slot:?} is made again: {reply:?}");
    }
    Ok(())
}

fn goes_on(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    if !hands_over(kit)? {
        return Ok(());
    }
    let logs = kit.features.contains(Features::DIRTY_LOG);
    if logs {
        done(kit, 0, &SlotRequest::Create(slot(5, LOGGED, 64, SlotFlags::LOG_DIRTY_PAGES)))?;
        (0..20).try_for_each(|n| kit.write(GUEST, LOGGED + 3 * n, 0, n + 1))?;
    }
    for incarnation in 1..=2 {
        let slots = handed(kit)?;
        kit.restart(incarnation).context(BEHIND)?;
        kit.hello(0).context(BEHIND)?;
        let fault = kit.fault_at(GUEST, 0x900 << 12, Rights::READ, FaultKind::Violation);
        let reply = kit.fault(&fault).context(BEHIND)?;
        ensure!(matches!(reply, Reply::Pending(_)), "{BEHIND}: its slot may come, and the answer is {reply:?}");
        made_again(kit, &slots)?;
        done(kit, 0, &SlotRequest::TakeOver).context(BEHIND)?;
        ensure!(kit.kernel.kept != HANDED_OVER, "{BEHIND}: what is kept says so still");
        ensure!(kit.kernel.pending.is_empty(), "{BEHIND}: {:?} wait still", kit.kernel.pending);
        if logs {
            let log = SlotRequest::DirtyLog(Space::Normal, SlotId(5), 0);
            let reply = kit.request(0, &log).context(BEHIND)?;
            let dirty = |n: u64| matches!(reply, SlotReply::Dirty(pages) if pages.bits[0] >> (3 * n) & 1 == 1);
            ensure!((0..20).all(dirty), "{BEHIND}: each page that has content is dirty at first: {reply:?}");
        }
        for gfn in (THERE..THERE + 256).chain(0x400..0x410) {
            kit.read(GUEST, gfn).context(BEHIND)?;
            kit.write(GUEST, gfn, 1, gfn + u64::from(incarnation)).context(BEHIND)?;
        }
    }
    Ok(())
}

fn orphans(kit: &mut Kit) -> anyhow::Result<()> {
    written(kit)?;
    if !hands_over(kit)? {
        return Ok(());
    }
    let slots = handed(kit)?;
    kit.restart(1).context(BEHIND)?;
    kit.hello(0).context(BEHIND)?;
    let (last, first) = slots.split_last().context("P46: no slot is told")?;
    let mapped = kit.kernel.vms[0].mapped;
    // In whatever order they are told: of those that have something mapped one is missing.
    let missing: Vec<Slot> = slots.iter().filter(|slot| slot.space == Space::Normal).take(1).copied().collect();
    let others: Vec<Slot> = first.iter().chain([last]).filter(|slot| !missing.contains(slot)).copied().collect();
    made_again(kit, &others)?;
    let early = SlotRefused::NoHandOver;
    refused(kit, 0, &SlotRequest::TakeOver, early).context("P48: a slot that has content is missing")?;
    ensure!(kit.kernel.kept == HANDED_OVER, "P48: it does not take over, and kept is {:#x}", kit.kernel.kept);
    ensure!(kit.kernel.vms[0].mapped == mapped, "P48: it does not take over, and what is mapped has changed");
    made_again(kit, &missing)?;
    done(kit, 0, &SlotRequest::TakeOver).context(BEHIND)?;
    (THERE..THERE + 256).try_for_each(|gfn| kit.read(GUEST, gfn)).context(BEHIND)
}

/// The kernel remembers what the pager before has answered, under numbers that the next one must not say again.
fn remembered(kit: &mut Kit) -> anyhow::Result<()> {
    const PAGES: u64 = 8;
    written(kit)?;
    if !hands_over(kit)? {
        return Ok(());
    }
    for n in 0..PAGES {
        kit.touch(GUEST, HOLES + n, Rights::READ)?;
        done(kit, 0, &SlotRequest::Create(ram(10, 0x3000 + n, 1)))?;
        done(kit, 0, &delete(10))?;
    }
    let slots = handed(kit)?;
    kit.restart(1).context(BEHIND)?;
    kit.hello(0).context(BEHIND)?;
    made_again(kit, &slots)?;
    done(kit, 0, &SlotRequest::TakeOver).context(BEHIND)?;
    done(kit, 0, &SlotRequest::Create(ram(9, HOLES, PAGES))).context(BEHIND)?;
    for n in 0..16 {
        let vm = &kit.kernel.vms[0];
        let again = (HOLES..HOLES + PAGES).find(|gfn| vm.remembers(*gfn, &kit.kernel.ledger) == Some(Remembered::Now));
        ensure!(again.is_none(), "P20: gfn {again:x?} is memory, and an old answer `Mmio` holds for it again");
        done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(2), Gfn(0x3100 + 32 * n)))?;
    }
    (HOLES..HOLES + PAGES).try_for_each(|gfn| kit.read(GUEST, gfn)).context("P20")
}
