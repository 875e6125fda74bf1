//! Creating, deleting and moving slots: what is done and what is refused.

use super::{delete, done, ram, refused, slot, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit, Outcome};
use anyhow::{Context, ensure};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};

pub const CASES: &[Case] = &[
    Case { name: "slot::create_is_refused_for_each_reason", checks: &["P24"], run: create },
    Case { name: "slot::edges_touch_without_overlap", checks: &["P24"], run: edges },
    Case { name: "slot::there_is_room_for_32", checks: &["P24"], run: many },
    Case { name: "slot::a_deleted_slot_is_gone", checks: &["P25"], run: deleted },
    Case { name: "slot::a_moved_slot_has_its_content", checks: &["P26", "P12"], run: moved },
    Case { name: "slot::move_is_refused_for_each_reason", checks: &["P26"], run: move_refused },
    Case { name: "slot::spaces_are_apart", checks: &["P29"], run: spaces },
];

const fn relocate(id: u16, base: u64) -> SlotRequest {
    SlotRequest::Move(Space::Normal, SlotId(id), Gfn(base))
}

fn create(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 0x100)])?;
    kit.write(GUEST, 0x100, 0, 5)?;
    let limit = 1 << (kit.setup.bits - 12);
    let mut wrong = vec![
        (ram(2, 0x1000, 0), SlotRefused::BadSize),
        (ram(2, 0, limit + 1), SlotRefused::BadSize),
        (ram(2, 0, u64::MAX), SlotRefused::BadSize),
        (ram(2, limit, 1), SlotRefused::BeyondGuest),
        (ram(2, limit - 1, 2), SlotRefused::BeyondGuest),
        (ram(2, u64::MAX, 1), SlotRefused::BeyondGuest),
        (ram(2, u64::MAX, 2), SlotRefused::BeyondGuest),
        (ram(1, 0x1000, 16), SlotRefused::Exists),
    ];
    let overlapping = [(0x1ff, 1), (0xff, 2), (0x100, 0x100), (0, 0x101), (0x180, 0x10), (0x80, 0x200), (0x1ff, 0x100)];
    wrong.extend(overlapping.map(|(base, pages)| (ram(2, base, pages), SlotRefused::Overlap(SlotId(1)))));
    for bit in [3, 4, 16, 31] {
        let flags = SlotFlags::from_bits_retain(1 << bit);
        wrong.push((slot(2, 0x1000, 16, flags), SlotRefused::UnknownFlag));
    }
    for (slot, why) in wrong {
        refused(kit, 0, &SlotRequest::Create(slot), why).context("P24")?;
    }
    kit.read(GUEST, 0x100).context("P24: a refused Create has changed nothing")?;
    let outcome = kit.access(GUEST, 0x1000, Rights::READ)?;
    ensure!(outcome == Outcome::Mmio, "P24: a slot whose Create was refused: {outcome:?}");
    done(kit, 0, &SlotRequest::Create(ram(2, 0x1000, 16))).context("P24: the number is free still")
}

fn edges(kit: &mut Kit) -> anyhow::Result<()> {
    let limit = 1 << (kit.setup.bits - 12);
    let slots =
        [ram(1, 0x100, 0x100), ram(2, 0x200, 0x100), ram(3, 0xff, 1), ram(65535, limit - 1, 1), ram(0, 0, 0xff)];
    with(kit, &slots).context("P24")?;
    for gfn in [0, 0xfe, 0xff, 0x100, 0x1ff, 0x200, 0x2ff, limit - 1] {
        kit.write(GUEST, gfn, 0, gfn + 1).context("P24, P5")?;
    }
    for gfn in [0x300, 0x301, limit - 2] {
        kit.touch(GUEST, gfn, Rights::WRITE)?;
    }
    kit.check()
}

fn many(kit: &mut Kit) -> anyhow::Result<()> {
    kit.hello(0)?;
    for n in 0..32 {
        let smm = Slot { space: Space::Smm, ..ram(n, u64::from(n) * 16, 8) };
        done(kit, 0, &SlotRequest::Create(ram(n, u64::from(n) * 16, 8)))
            .context("P24: 32 slots of the normal space")?;
        done(kit, 0, &SlotRequest::Create(smm)).context("P24: 32 slots of the SMM space")?;
    }
    for n in (0..32).rev() {
        kit.write(GUEST, n * 16 + 7, 0, n + 1)?;
        kit.touch(GUEST, n * 16 + 8, Rights::READ)?;
    }
    (0..32).step_by(3).try_for_each(|n| done(kit, 0, &delete(n)))?;
    (0..32).try_for_each(|n| kit.read(GUEST, n * 16 + 7))
}

fn deleted(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x1f0, 0x420), ram(2, 0x1000, 16)])?;
    for gfn in [0x1f0, 0x200, 0x300, 0x400, 0x60f, 0x1000] {
        kit.write(GUEST, gfn, 8, gfn)?;
    }
    refused(kit, 0, &delete(3), SlotRefused::NoSuchSlot).context("P25")?;
    done(kit, 0, &delete(1)).context("P25")?;
    for gfn in [0x1f0, 0x300, 0x60f] {
        kit.touch(GUEST, gfn, Rights::READ).context("P25: of a deleted slot")?;
    }
    kit.read(GUEST, 0x1000).context("P25: another slot")?;
    refused(kit, 0, &delete(1), SlotRefused::NoSuchSlot).context("P25: twice")?;
    refused(kit, 0, &relocate(1, 0x9000), SlotRefused::NoSuchSlot).context("P25: it is gone")?;
    refused(kit, 0, &super::set_flags(1, SlotFlags::READONLY), SlotRefused::NoSuchSlot).context("P25: it is gone")?;
    done(kit, 0, &SlotRequest::Create(ram(1, 0x200, 64))).context("P25: its number and place are free")?;
    kit.read(GUEST, 0x200)
}

fn moved(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x200, 0x300), ram(2, 0x4000, 16)])?;
    for n in [0, 1, 0xff, 0x100, 0x2ff] {
        kit.write(GUEST, 0x200 + n, 16, 0x1000 + n)?;
    }
    // Elsewhere, by an odd distance, over a part of itself, to where it lies, back.
    for base in [0x1_0000, 0x1_2345, 0x1_2355, 0x1_2355, 0x200] {
        let before = kit.models[0].slot(1).map_or(0, |slot| slot.base);
        done(kit, 0, &relocate(1, base)).with_context(|| format!("P26: to {base:#x}"))?;
        for n in [0, 1, 0x50, 0xff, 0x100, 0x2ff] {
            kit.read(GUEST, base + n).with_context(|| format!("P26: moved from {before:#x} to {base:#x}"))?;
        }
        kit.touch(GUEST, before, Rights::READ).context("P26: where it was")?;
        kit.touch(GUEST, before + 0x2ff, Rights::READ).context("P26: where it was")?;
        kit.write(GUEST, base + 0x50, 32, base)?;
    }
    Ok(())
}

fn move_refused(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 0x100), ram(2, 0x1000, 16)])?;
    kit.write(GUEST, 0x1ff, 8, 9)?;
    let limit = 1 << (kit.setup.bits - 12);
    for (id, base, why) in [
        (3, 0x3000, SlotRefused::NoSuchSlot),
        (1, limit - 0xff, SlotRefused::BeyondGuest),
        (1, u64::MAX, SlotRefused::BeyondGuest),
        (1, u64::MAX - 0xff, SlotRefused::BeyondGuest),
        (1, 0xf01, SlotRefused::Overlap(SlotId(2))),
        (1, 0x100f, SlotRefused::Overlap(SlotId(2))),
        (2, 0x1ff, SlotRefused::Overlap(SlotId(1))),
    ] {
        refused(kit, 0, &relocate(id, base), why).context("P26")?;
    }
    kit.read(GUEST, 0x1ff).context("P26: a refused Move has changed nothing")?;
    done(kit, 0, &relocate(1, limit - 0x100)).context("P26: to the end of guest memory")?;
    kit.read(GUEST, limit - 1)
}

fn spaces(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    let smm = |id, base| SlotRequest::Create(Slot { space: Space::Smm, ..ram(id, base, 16) });
    kit.write(GUEST, 0x100, 8, 3)?;
    done(kit, 0, &smm(1, 0x100)).context("P29: the same number and place")?;
    done(kit, 0, &smm(2, 0x400)).context("P29")?;
    refused(kit, 0, &smm(2, 0x800), SlotRefused::Exists).context("P29")?;
    refused(kit, 0, &smm(3, 0x40f), SlotRefused::Overlap(SlotId(2))).context("P29")?;
    kit.touch(GUEST, 0x400, Rights::READ).context("P29: a fault is in the normal space")?;
    done(kit, 0, &SlotRequest::Create(ram(2, 0x408, 16))).context("P29")?;
    done(kit, 0, &SlotRequest::Move(Space::Smm, SlotId(1), Gfn(0x100))).context("P29")?;
    done(kit, 0, &SlotRequest::SetFlags(Space::Smm, SlotId(1), SlotFlags::READONLY)).context("P29")?;
    kit.write(GUEST, 0x100, 8, 4).context("P29: a flag of the other space")?;
    done(kit, 0, &SlotRequest::Delete(Space::Smm, SlotId(1))).context("P29")?;
    kit.read(GUEST, 0x100).context("P29: a slot of the other space is deleted")?;
    let reply = kit.request(0, &SlotRequest::Delete(Space::Smm, SlotId(1)))?;
    ensure!(reply == SlotReply::Refused(SlotRefused::NoSuchSlot), "P29: {reply:?}");
    Ok(())
}
