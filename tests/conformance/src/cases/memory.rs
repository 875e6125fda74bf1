//! What memory holds.

use super::{delete, done, ram, set_flags, slot, with, with_more_frames};
use crate::case::Case;
use crate::kit::{GUEST, Kit, WINDOW};
use anyhow::Context;
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::lifecycle::Features;
use ipc_proto::slot::{SlotFlags, SlotId, SlotRequest, Space, Tracking};

pub const CASES: &[Case] = &[
    Case { name: "memory::a_new_slot_reads_zero", checks: &["P11"], run: zero },
    Case { name: "memory::a_slot_where_another_was_reads_zero", checks: &["P11", "P25"], run: zero_again },
    Case { name: "memory::content_stays_through_every_change", checks: &["P12"], run: stays },
    Case { name: "memory::no_frame_is_in_two_places", checks: &["P13"], run: one_place },
];

fn zero(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 600)])?;
    (0..600).try_for_each(|n| kit.read(if n % 5 == 0 { WINDOW } else { GUEST }, 0x100 + n))
}

fn zero_again(kit: &mut Kit) -> anyhow::Result<()> {
    kit.hello(0)?;
    for round in 0..3 {
        done(kit, 0, &SlotRequest::Create(ram(round, 0x100 + u64::from(round), 1100)))?;
        for n in 0..1100 {
            kit.read(GUEST, 0x100 + u64::from(round) + n)?;
            kit.write(GUEST, 0x100 + u64::from(round) + n, 4088, u64::MAX)?;
        }
        done(kit, 0, &delete(round))?;
    }
    Ok(())
}

fn stays(kit: &mut Kit) -> anyhow::Result<()> {
    with_more_frames(kit)?;
    with(kit, &[ram(1, 0x200, 1024)]).context("P12")?;
    let pages: Vec<u64> = (0..1024).step_by(61).collect();
    for n in &pages {
        kit.write(GUEST, 0x200 + n, 64, n + 1).context("P12")?;
    }
    let log = if kit.features.contains(Features::DIRTY_LOG) { SlotFlags::LOG_DIRTY_PAGES } else { SlotFlags::empty() };
    let mut base = 0x200;
    for step in 0..9 {
        match step {
            0 => done(kit, 0, &set_flags(1, SlotFlags::READONLY)),
            1 => done(kit, 0, &set_flags(1, SlotFlags::PRIVATE | log)),
            2 => kit.request(0, &SlotRequest::DirtyLog(Space::Normal, SlotId(1), 0)).map(|_| ()),
            3 => done(kit, 0, &set_flags(1, SlotFlags::empty())),
            4 => {
                base = 0x8111;
                done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(1), Gfn(base)))
            }
            5 => done(kit, 0, &SlotRequest::Track(Space::Normal, Gfn(base + 61), Tracking::On)),
            6 => done(kit, 0, &SlotRequest::Create(ram(2, 0x200, 1024))),
            7 => done(kit, 0, &delete(2)),
            _ => done(kit, 0, &SlotRequest::MemoryType(0x2ff, 0xc06)),
        }?;
        for n in &pages {
            kit.read(GUEST, base + n).with_context(|| format!("P12: after step {step}"))?;
            kit.write(GUEST, base + n, 128 + 8 * step, n + step as u64)?;
        }
    }
    Ok(())
}

fn one_place(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0, 512), slot(2, 0x1000, 512, SlotFlags::READONLY)]).context("P13")?;
    kit.touch(GUEST, 0x1ff, Rights::WRITE)?;
    kit.touch(GUEST, 0x1100, Rights::READ)?;
    kit.check()?;
    for n in 0..512 {
        kit.write(GUEST, n, 0, n + 1)?;
        kit.read(GUEST, 0x1000 + n)?;
        if n % 16 == 1 {
            kit.check()?;
        }
    }
    (0..512).try_for_each(|n| kit.read(GUEST, n))
}
