//! Too much: of messages, of memory.

use super::{delete, done, ram, with, with_more_frames};
use crate::case::Case;
use crate::kit::{GUEST, Kit, Outcome, WINDOW, Who};
use crate::setup::{Setup, VCPUS};
use anyhow::{Context, bail, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Gpa, Rights};
use ipc_proto::refused::DenyReason;
use ipc_proto::slot::{SlotId, SlotRefused, SlotReply, SlotRequest, Space};

pub const CASES: &[Case] = &[
    Case { name: "limits::ten_thousand_messages_are_answered", checks: &["P37"], run: flood },
    Case { name: "limits::hundreds_of_slots_come_and_go", checks: &["P37", "P11"], run: churn },
    Case { name: "limits::without_a_frame_access_is_denied", checks: &["P18"], run: exhausted },
    Case { name: "limits::without_a_frame_for_tables_access_is_denied", checks: &["P16"], run: no_tables },
    Case { name: "limits::a_pager_of_few_frames_goes_on", checks: &["P18", "P16"], run: few },
];

/// What is asked costs no frame, or the same one each time.
fn flood(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)]).context("P37")?;
    kit.write(GUEST, 0x120, 0, 1)?;
    for n in 0..10_000u64 {
        let who = Who { vcpu: (n % u64::from(VCPUS)) as u16, ..GUEST };
        match n % 5 {
            // Asked directly: what a kernel remembers would never reach the pager.
            0..=2 => {
                let fault = kit.fault_at(who, (0x1000 + n % 3000) << 12, Rights::WRITE, FaultKind::Violation);
                kit.fault(&fault).map(|_| ())
            }
            3 => kit.request(0, &SlotRequest::Create(ram(1, 0, 1))).map(|_| ()),
            _ => kit.ask_bytes(0, &[0x7f; 24]).map(|_| ()),
        }
        .with_context(|| format!("P37: message {n}"))?;
    }
    kit.read(GUEST, 0x120).context("P37: after ten thousand messages")?;
    done(kit, 0, &SlotRequest::Why(Gpa(0)))
}

/// Slots of 2000 pages of the 6016 frames, some hundred times: a pager that loses some of them each time has none left.
fn churn(kit: &mut Kit) -> anyhow::Result<()> {
    with_more_frames(kit)?;
    kit.hello(0)?;
    for n in 0..150u64 {
        let base = 0x1000 + n % 7 * 0x1111;
        done(kit, 0, &SlotRequest::Create(ram(1, base, 2000))).with_context(|| format!("P37: slot {n}"))?;
        for page in (0..60).map(|page| page * 33 + n % 33) {
            kit.read(GUEST, base + page).with_context(|| format!("P37: slot {n}"))?;
            kit.write(GUEST, base + page, 512, n + 1).with_context(|| format!("P37: slot {n}"))?;
        }
        done(kit, 0, &delete(1)).with_context(|| format!("P37: slot {n}"))?;
    }
    Ok(())
}

/// Creates slots until one is refused, and touches every page: each is memory, or is denied for want of it.
fn fill(kit: &mut Kit, pages: u64, most: u16) -> anyhow::Result<(u64, u64)> {
    let mut created = 0;
    for id in 0..most {
        match kit.request(0, &SlotRequest::Create(ram(id, u64::from(id) * pages, pages)))? {
            SlotReply::Done => created += 1,
            SlotReply::Refused(SlotRefused::OutOfMemory | SlotRefused::TooMany) => break,
            other => bail!("P24: slot {id}: {other:?}"),
        }
    }
    let (mut given, mut denied) = (0, 0);
    for gfn in 0..created * pages {
        let who = if gfn % 97 == 5 { WINDOW } else { GUEST };
        match kit.access(who, gfn, Rights::WRITE).context("P18")? {
            Outcome::Allowed => given += 1,
            Outcome::Denied(DenyReason::OutOfMemory) => denied += 1,
            other => bail!("P18: gfn {gfn:#x}, after {given} pages were given: {other:?}"),
        }
    }
    kit.check()?;
    Ok((given, denied))
}

fn exhausted(kit: &mut Kit) -> anyhow::Result<()> {
    // Tables for all that can be mapped are there, so they take none of the frames.
    let setup = Setup { frames: 800, tables: 80, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    kit.hello(0)?;
    // A pager that promises no more than it has comes to an end of frames only by what it gives away as tables.
    let (given, denied) = fill(kit, 32, 32).context("P18")?;
    ensure!(given >= 256, "P18: of 640 frames {given} were given, {denied} accesses were denied");
    steal_tables(kit)?;
    kit.touch(GUEST, 1 << 20, Rights::READ).context("P18: it goes on")?;
    done(kit, 0, &delete(0)).context("P18: it goes on")?;
    // But for the tables of the last two accesses, which the pager had to bring (P16).
    done(kit, 0, &SlotRequest::Create(ram(0, 0, 26))).context("P18: what was deleted is free again")?;
    kit.access(GUEST, 0, Rights::WRITE).context("P18: it goes on").map(|_| ())
}

/// Uses up table frames, again and again, at places that need some: in the end the pager has none to give.
fn steal_tables(kit: &mut Kit) -> anyhow::Result<()> {
    for round in 0..500 {
        let left = kit.kernel.vms[0].pool.lock().count();
        let taken = kit.kernel.ledger.frames.take(&mut kit.kernel.vms[0].pool.lock(), left);
        ensure!(taken.is_some(), "as many as there are can be taken");
        // Each far from the last, so that each needs tables.
        let gfn = (1 << 24) + (round << 18);
        match kit.request(0, &SlotRequest::Create(ram(100, gfn, 1)))? {
            SlotReply::Done => {}
            SlotReply::Refused(SlotRefused::OutOfMemory) => return Ok(()),
            other => bail!("P18: Create: {other:?}"),
        }
        let outcome = kit.access(GUEST, gfn, Rights::WRITE).context("P18: no tables and no frames")?;
        done(kit, 0, &delete(100))?;
        match outcome {
            Outcome::Allowed => {}
            Outcome::Denied(DenyReason::OutOfMemory) => return Ok(()),
            other => bail!("P18: in round {round} there is no frame for tables: {other:?}"),
        }
    }
    bail!("P18: it has given more tables than it has frames")
}

/// Pages that have memory lie where a table is missing, the pool is empty, and the pager has no frame to bring.
fn no_tables(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { frames: 800, tables: 80, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    kit.hello(0)?;
    done(kit, 0, &SlotRequest::Create(ram(200, 1 << 22, 2)))?;
    for gfn in [1 << 22, (1 << 22) + 1] {
        kit.access(GUEST, gfn, Rights::WRITE)?;
    }
    fill(kit, 32, 32).context("P16")?;
    steal_tables(kit)?;
    let left = kit.kernel.vms[0].pool.lock().count();
    let taken = kit.kernel.ledger.frames.take(&mut kit.kernel.vms[0].pool.lock(), left);
    ensure!(taken.is_some(), "as many as there are can be taken");
    let shown = kit.access(WINDOW, 1 << 22, Rights::READ).context("P16: a window without tables")?;
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(200), Gfn(1 << 23)))?;
    let left = kit.kernel.vms[0].pool.lock().count();
    let taken = kit.kernel.ledger.frames.take(&mut kit.kernel.vms[0].pool.lock(), left);
    ensure!(taken.is_some(), "as many as there are can be taken");
    let mapped = kit.access(GUEST, 1 << 23, Rights::READ).context("P16: a guest without tables")?;
    for outcome in [shown, mapped] {
        // One that takes a page from elsewhere has a frame after all.
        let right = matches!(outcome, Outcome::Allowed | Outcome::Denied(DenyReason::OutOfMemory));
        ensure!(right, "P16: no tables, and no frame for one: {outcome:?}");
    }
    kit.touch(GUEST, 1 << 24, Rights::READ).context("P16: it goes on").map(|_| ())
}

fn few(kit: &mut Kit) -> anyhow::Result<()> {
    for (frames, tables) in [(40, 4), (140, 16), (300, 0)] {
        let setup = Setup { frames, tables, ..kit.setup.clone() };
        kit.reboot(&setup)?;
        kit.hello(0)?;
        fill(kit, 16, 32).with_context(|| format!("P18: with {frames} frames, {tables} of them tables of each VM"))?;
    }
    Ok(())
}
