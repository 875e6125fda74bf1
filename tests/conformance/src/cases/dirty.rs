//! The dirty log.

use super::{done, ram, refused, set_flags, slot, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit, WINDOW, Who};
use crate::setup::Setup;
use anyhow::{Context, bail, ensure};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::lifecycle::Features;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{DirtyPages, Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use std::collections::BTreeSet;

pub const CASES: &[Case] = &[
    Case { name: "dirty::what_was_written_is_told_exactly", checks: &["P30", "P31"], run: exact },
    Case { name: "dirty::without_a_and_d_bits_too", checks: &["P30", "P31"], run: without_bits },
    Case { name: "dirty::with_the_cpus_own_log_too", checks: &["P30", "P31"], run: with_log },
    Case { name: "dirty::a_log_begins_clean", checks: &["P32"], run: begins },
    Case { name: "dirty::only_a_logged_slot_has_a_log", checks: &["P32"], run: not_logged },
    Case { name: "dirty::the_log_goes_with_the_slot", checks: &["P26", "P30"], run: moves },
    Case { name: "dirty::a_question_may_begin_anywhere", checks: &["P30"], run: anywhere },
    Case { name: "dirty::a_large_slot_has_a_whole_log", checks: &["P30", "P31"], run: far },
    Case { name: "dirty::tracking_and_other_spaces_take_no_note_away", checks: &["P30", "P29"], run: beside },
    Case { name: "dirty::an_overtaken_answer_loses_no_write", checks: &["P30"], run: overtaken },
];

const LOGGED: SlotFlags = SlotFlags::LOG_DIRTY_PAGES;

const fn ask(id: u16, from: u64) -> SlotRequest {
    SlotRequest::DirtyLog(Space::Normal, SlotId(id), from)
}

/// Whether the pager has a dirty log. One that has not is held to what P35 says, and has nothing to show here.
fn has_log(kit: &mut Kit) -> anyhow::Result<bool> {
    Ok(kit.hello(0)?.features.contains(Features::DIRTY_LOG))
}

/// Everything that is told of a slot from `from` on.
fn told(kit: &mut Kit, id: u16, mut from: u64) -> anyhow::Result<BTreeSet<u64>> {
    let mut told = BTreeSet::new();
    for _ in 0..64 {
        match kit.request(0, &ask(id, from))? {
            SlotReply::Done => return Ok(told),
            SlotReply::Dirty(DirtyPages { first, bits }) => {
                ensure!(first % 64 == 0 && first + DirtyPages::PAGES > from, "P30: from {from:#x} it tells {first:#x}");
                let set = |n: &u64| bits[(n / 64) as usize] >> (n % 64) & 1 == 1;
                told.extend((0..DirtyPages::PAGES).filter(set).map(|n| first + n));
                from = first + DirtyPages::PAGES;
            }
            other => bail!("P30: DirtyLog from {from:#x}: {other:?}"),
        }
    }
    bail!("P30: the log has no end")
}

/// What is told must be what the model has; then all is clean.
fn compare(kit: &mut Kit, id: u16) -> anyhow::Result<()> {
    let told = told(kit, id, 0)?;
    let slot = kit.models[0].slot_mut(id).context("it is there")?;
    let written = std::mem::take(&mut slot.dirty);
    if let Some(missing) = written.difference(&told).next() {
        bail!("P30: page {missing:#x} was written, and is not told: {told:x?}");
    }
    if let Some(extra) = told.difference(&written).next() {
        bail!("P31: page {extra:#x} is told, and was not written: {written:x?}");
    }
    Ok(())
}

fn exact(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[slot(1, 0x210, 1300, LOGGED), ram(2, 0x2000, 64)])?;
    for round in 0..5u64 {
        for n in 0..60 {
            let offset = (n * 37 + round * 11) % 1300;
            let who = if n % 7 == 3 { WINDOW } else { Who { vcpu: (n % 4) as u16, ..GUEST } };
            match n % 3 {
                0 => kit.read(who, 0x210 + offset)?,
                _ => kit.write(who, 0x210 + offset, 8 * n as usize, round + 1)?,
            }
            if n % 10 == 0 {
                kit.touch(GUEST, 0x210 + (offset + 5) % 1300, Rights::EXECUTE)?;
                kit.write(GUEST, 0x2000 + n, 0, 1)?;
            }
        }
        compare(kit, 1).with_context(|| format!("round {round}"))?;
        compare(kit, 1).with_context(|| format!("round {round}, asked again"))?;
    }
    Ok(())
}

fn without_bits(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { abilities: Abilities::empty(), ..kit.setup.clone() };
    kit.reboot(&setup)?;
    exact(kit)
}

fn with_log(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { abilities: Abilities::ACCESSED_DIRTY | Abilities::LOG, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    exact(kit)
}

fn begins(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[ram(1, 0x100, 256), slot(2, 0x400, 64, LOGGED)])?;
    (0..256).try_for_each(|n| kit.write(GUEST, 0x100 + n, 0, 1))?;
    done(kit, 0, &set_flags(1, LOGGED))?;
    compare(kit, 1).context("P32: written before the log began")?;
    compare(kit, 2).context("P32: a slot that logs from its creation")?;
    kit.write(GUEST, 0x150, 0, 2)?;
    kit.write(WINDOW, 0x151, 0, 2)?;
    compare(kit, 1).context("P32")?;
    kit.write(GUEST, 0x152, 0, 3)?;
    done(kit, 0, &set_flags(1, SlotFlags::empty()))?;
    kit.write(GUEST, 0x153, 0, 3)?;
    done(kit, 0, &set_flags(1, LOGGED))?;
    compare(kit, 1).context("P32: a log that begins anew")?;
    kit.write(GUEST, 0x152, 0, 4)?;
    compare(kit, 1).context("P32: after a log that began anew")?;
    kit.write(GUEST, 0x160, 0, 4)?;
    done(kit, 0, &set_flags(1, LOGGED | SlotFlags::READONLY))?;
    compare(kit, 1).context("P32: READONLY keeps the record")
}

fn not_logged(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        with(kit, &[ram(1, 0x100, 16)])?;
        return refused(kit, 0, &ask(1, 0), SlotRefused::NotLogged).context("P32");
    }
    with(kit, &[ram(1, 0x100, 16), slot(2, 0x200, 16, LOGGED)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    for from in [0, 15, 16, u64::MAX] {
        refused(kit, 0, &ask(1, from), SlotRefused::NotLogged).context("P32")?;
        refused(kit, 0, &ask(3, from), SlotRefused::NoSuchSlot).context("P32")?;
        done(kit, 0, &ask(2, from)).context("P32: nothing was written")?;
    }
    done(kit, 0, &set_flags(2, SlotFlags::empty()))?;
    refused(kit, 0, &ask(2, 0), SlotRefused::NotLogged).context("P32: it logs no more")
}

fn moves(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[slot(1, 0x100, 256, LOGGED)])?;
    for n in [0, 63, 64, 255] {
        kit.write(GUEST, 0x100 + n, 0, 1)?;
    }
    done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x1033)))?;
    kit.write(GUEST, 0x1033 + 100, 0, 1)?;
    kit.read(GUEST, 0x1033 + 101)?;
    compare(kit, 1).context("P26: what was noted goes with the pages")?;
    kit.write(GUEST, 0x1033, 0, 2)?;
    compare(kit, 1)
}

fn anywhere(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[slot(1, 0x100, 1200, LOGGED)])?;
    for n in [3, 70, 130, 1100] {
        kit.write(GUEST, 0x100 + n, 0, 1)?;
    }
    let late = told(kit, 1, 100)?;
    ensure!(late.contains(&130) && late.contains(&1100), "P30: from 100 on 130 and 1100 are dirty: {late:?}");
    let rest = told(kit, 1, 0)?;
    let all: BTreeSet<u64> = late.union(&rest).copied().collect();
    ensure!(all == BTreeSet::from([3, 70, 130, 1100]), "P30: all that was written, whatever was asked first: {all:?}");
    kit.write(GUEST, 0x100 + 5, 0, 2)?;
    done(kit, 0, &ask(1, 70)).context("P31: nothing was written from page 70 on")?;
    let early = told(kit, 1, 0)?;
    ensure!(early == BTreeSet::from([5]), "P30: page 5 was written, and is told when it is asked for: {early:?}");
    done(kit, 0, &ask(1, 1200)).context("P30: behind the slot")?;
    done(kit, 0, &ask(1, u64::MAX)).context("P30: behind the slot")
}

/// More pages than one harvest can have.
fn far(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    let setup = Setup { frames: 34_600, tables: 256, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    with(kit, &[slot(1, 0x1_0000, 16_500, LOGGED)])?;
    for round in 1..3 {
        for n in [0, 16_383, 16_384, 16_499] {
            kit.write(GUEST, 0x1_0000 + n, 0, round)?;
            kit.read(GUEST, 0x1_0000 + n / 2)?;
        }
        compare(kit, 1)?;
    }
    Ok(())
}

/// What shrinks rights, here or in the other space, must not lose what was noted.
fn beside(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[slot(1, 0x100, 64, LOGGED)])?;
    for n in 0..6 {
        kit.write(GUEST, 0x100 + n, 0, 1)?;
    }
    done(kit, 0, &SlotRequest::Track(Space::Normal, Gfn(0x101), Tracking::On))?;
    kit.write(GUEST, 0x103, 0, 2)?;
    let other = Slot { space: Space::Smm, ..slot(1, 0x100, 64, LOGGED) };
    done(kit, 0, &SlotRequest::Create(other)).context("P29")?;
    done(kit, 0, &SlotRequest::Track(Space::Smm, Gfn(0x110), Tracking::On)).context("P29")?;
    done(kit, 0, &SlotRequest::SetFlags(Space::Smm, SlotId(1), SlotFlags::READONLY)).context("P29")?;
    done(kit, 0, &SlotRequest::Move(Space::Smm, SlotId(1), Gfn(0x102))).context("P29")?;
    done(kit, 0, &SlotRequest::Delete(Space::Smm, SlotId(1))).context("P29")?;
    compare(kit, 1)?;
    kit.write(GUEST, 0x110, 0, 2).context("P29: tracked in the other space")?;
    done(kit, 0, &SlotRequest::Track(Space::Normal, Gfn(0x101), Tracking::Off))?;
    compare(kit, 1)
}

fn overtaken(kit: &mut Kit) -> anyhow::Result<()> {
    if !has_log(kit)? {
        return Ok(());
    }
    with(kit, &[slot(1, 0x100, 256, LOGGED)])?;
    for round in 0..8 {
        for n in 0..8 {
            kit.overtake = n % 2 == 0;
            kit.write(GUEST, 0x100 + 16 * n + round, 0, round + 1)?;
            kit.overtake = false;
        }
        let told = told(kit, 1, 0)?;
        let slot = kit.models[0].slot_mut(1).context("it is there")?;
        let written = std::mem::take(&mut slot.dirty);
        ensure!(written.is_subset(&told), "P30: written {written:x?}, told {told:x?}");
    }
    Ok(())
}
