//! Random requests and accesses, against the model: what no case thought of. The same ones each time.

use super::{delete, ram, set_flags, slot};
use crate::case::Case;
use crate::kit::{GUEST, Kit, WINDOW, Who};
use anyhow::{Context, ensure};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::lifecycle::Features;
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotId, SlotReply, SlotRequest, Space, Tracking};

pub const CASES: &[Case] = &[
    Case { name: "random::a_thousand_steps_are_as_the_model_has_them", checks: &["P5", "P12", "P27", "P30"], run: one },
    Case { name: "random::another_thousand_with_overtaken_answers", checks: &["P5", "P12", "P15"], run: two },
];

/// Steps of one case.
const STEPS: u64 = 1000;

/// A sequence of numbers (splitmix64, by Sebastiano Vigna).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

fn one(kit: &mut Kit) -> anyhow::Result<()> {
    steps(kit, 1, false)
}

fn two(kit: &mut Kit) -> anyhow::Result<()> {
    steps(kit, 2, true)
}

fn steps(kit: &mut Kit, seed: u64, overtaking: bool) -> anyhow::Result<()> {
    kit.hello(0)?;
    let mut dice = Dice(seed);
    for n in 0..STEPS {
        kit.overtake = overtaking && dice.below(4) == 0;
        step(kit, &mut dice, overtaking).with_context(|| format!("seed {seed}, step {n}"))?;
        kit.overtake = false;
    }
    kit.check()
}

/// Around a few places, so that steps meet.
fn place(dice: &mut Dice) -> u64 {
    dice.below(5) * 512 + if dice.below(3) == 0 { dice.below(512) } else { dice.below(24) }
}

fn step(kit: &mut Kit, dice: &mut Dice, overtaking: bool) -> anyhow::Result<()> {
    let id = dice.below(5) as u16;
    let flags = SlotFlags::from_bits_retain(dice.below(8) as u32);
    let flags = if kit.features.contains(Features::DIRTY_LOG) { flags } else { flags - SlotFlags::LOG_DIRTY_PAGES };
    match dice.below(20) {
        0 | 1 => {
            let pages = [dice.below(24) + 1, 512, 1024, 500 + dice.below(30)][dice.below(4) as usize];
            let new =
                if dice.below(2) == 0 { ram(id, place(dice), pages) } else { slot(id, place(dice), pages, flags) };
            kit.request(0, &SlotRequest::Create(new)).map(|_| ())
        }
        2 if dice.below(3) == 0 => kit.request(0, &delete(id)).map(|_| ()),
        3 => kit.request(0, &SlotRequest::Move(Space::Normal, SlotId(id), Gfn(place(dice)))).map(|_| ()),
        4 => kit.request(0, &set_flags(id, flags)).map(|_| ()),
        5 => {
            let on = if dice.below(2) == 0 { Tracking::On } else { Tracking::Off };
            kit.request(0, &SlotRequest::Track(Space::Normal, Gfn(place(dice)), on)).map(|_| ())
        }
        6 => dirty(kit, id, overtaking),
        _ => access(kit, dice),
    }
}

fn access(kit: &mut Kit, dice: &mut Dice) -> anyhow::Result<()> {
    let vcpu = dice.below(4) as u16;
    let who = if dice.below(6) == 0 { WINDOW } else { Who { vcpu, ..GUEST } };
    let gfn = place(dice);
    match dice.below(8) {
        0..=2 => kit.read(who, gfn),
        3 if who != WINDOW => kit.touch(who, gfn, Rights::EXECUTE).map(|_| ()),
        _ => kit.write(who, gfn, 8 * dice.below(512) as usize, dice.below(u64::MAX)),
    }
}

/// All that was written is told, and nothing else unless answers were overtaken.
fn dirty(kit: &mut Kit, id: u16, overtaking: bool) -> anyhow::Result<()> {
    let (mut from, mut told) = (0, std::collections::BTreeSet::new());
    while let SlotReply::Dirty(DirtyPages { first, bits }) =
        kit.request(0, &SlotRequest::DirtyLog(Space::Normal, SlotId(id), from))?
    {
        let set = |n: &u64| bits[(n / 64) as usize] >> (n % 64) & 1 == 1;
        told.extend((0..DirtyPages::PAGES).filter(set).map(|n| first + n));
        from = first + DirtyPages::PAGES;
    }
    let Some(slot) = kit.models[0].slot_mut(id).filter(|slot| slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES)) else {
        return Ok(());
    };
    let written = std::mem::take(&mut slot.dirty);
    ensure!(written.is_subset(&told), "P30: slot {id}: written {written:x?}, told {told:x?}");
    ensure!(overtaking || told == written, "P31: slot {id}: written {written:x?}, told {told:x?}");
    Ok(())
}
