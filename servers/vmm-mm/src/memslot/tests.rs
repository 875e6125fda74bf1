use super::{MAX_SLOTS, MemSlots, State, rights};
use crate::pool::Pool;
use crate::testing::{FakeMachine, slot};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, Space};
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Guest-physical addresses of 40 bits.
const LIMIT: u64 = 1 << 28;

fn slots(of: &[(u16, u64, u64)]) -> Box<MemSlots> {
    let mut slots = Box::new(MemSlots::empty());
    slots.open(40);
    for (id, base, pages) in of {
        assert_eq!(slots.create(&plain(*id, *base, *pages)), Ok(()));
    }
    slots
}

fn plain(id: u16, base: u64, pages: u64) -> Slot {
    slot(id, base, pages, SlotFlags::empty())
}

fn found(slots: &mut MemSlots, gfn: u64) -> Option<u16> {
    slots.lookup(Space::Normal, Gfn(gfn)).map(|slot| slot.id().0)
}

#[test]
fn a_slot_holds_its_first_and_last_page_and_no_other() {
    let mut slots = slots(&[(7, 0x100, 3)]);
    for (gfn, id) in [(0xff, None), (0x100, Some(7)), (0x102, Some(7)), (0x103, None), (u64::MAX, None)] {
        assert_eq!(found(&mut slots, gfn), id, "gfn {gfn:#x}");
    }
}

#[test]
fn any_page_count_is_a_size() {
    let mut slots = slots(&[(1, 1, 1), (2, 2, 3), (3, 5, 7)]);
    assert_eq!(found(&mut slots, 11), Some(3));
    assert_eq!(found(&mut slots, 12), None);
}

#[test]
fn a_slot_of_no_pages_or_too_many_is_refused() {
    let slots = slots(&[]);
    for pages in [0, LIMIT + 1, u64::MAX] {
        assert_eq!(slots.check_create(&plain(1, 0, pages)), Err(SlotRefused::BadSize), "{pages} pages");
    }
    assert_eq!(slots.check_create(&plain(1, 0, LIMIT)), Ok(()));
}

#[test]
fn a_slot_beyond_the_guest_is_refused() {
    let slots = slots(&[]);
    for (base, pages) in [(LIMIT, 1), (LIMIT - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 3)] {
        assert_eq!(slots.check_create(&plain(1, base, pages)), Err(SlotRefused::BeyondGuest), "{base:#x}");
    }
    assert_eq!(slots.check_create(&plain(1, LIMIT - 1, 1)), Ok(()));
}

#[test]
fn a_slot_that_shares_a_page_is_refused_and_says_with_whom() {
    let slots = slots(&[(1, 0x10, 0x10), (2, 0x30, 0x10)]);
    for (base, pages, other) in
        [(0x0f, 2, 1), (0x10, 1, 1), (0x1f, 1, 1), (0x18, 0x20, 1), (0x20, 0x11, 2), (0x3f, 9, 2), (0, 0x100, 1)]
    {
        let refused = slots.check_create(&plain(9, base, pages));
        assert_eq!(refused, Err(SlotRefused::Overlap(SlotId(other))), "{base:#x}+{pages:#x}");
    }
    for (base, pages) in [(0x20, 0x10), (0, 0x10), (0x40, 1)] {
        assert_eq!(slots.check_create(&plain(9, base, pages)), Ok(()), "neighbours do not overlap");
    }
}

#[test]
fn a_number_is_given_once() {
    let slots = slots(&[(1, 0, 1)]);
    assert_eq!(slots.check_create(&plain(1, 100, 1)), Err(SlotRefused::Exists));
}

#[test]
fn an_unknown_flag_is_refused() {
    let mut slots = slots(&[(1, 0, 1)]);
    for flags in [SlotFlags::from_bits_retain(8), SlotFlags::from_bits_retain(1 << 31)] {
        assert_eq!(slots.check_create(&slot(2, 100, 1, flags)), Err(SlotRefused::UnknownFlag));
        assert_eq!(slots.set_flags(Space::Normal, SlotId(1), flags), Err(SlotRefused::UnknownFlag));
    }
}

#[test]
fn as_many_slots_as_there_is_room_for_and_one_more_is_refused() {
    const { assert!(MAX_SLOTS >= 509, "KVM has 509 user slots") };
    let mut slots = slots(&[]);
    for id in 0..MAX_SLOTS as u16 {
        assert_eq!(slots.create(&plain(id, u64::from(id) * 2, 1)), Ok(()));
    }
    let one_more = plain(9999, 1, 1);
    assert_eq!(slots.create(&one_more), Err(SlotRefused::TooMany));
    for id in 0..MAX_SLOTS as u16 {
        assert_eq!(found(&mut slots, u64::from(id) * 2), Some(id));
        assert_eq!(found(&mut slots, u64::from(id) * 2 + 1), None);
    }
    assert!(slots.remove(Space::Normal, SlotId(3)).is_ok());
    assert_eq!(slots.create(&one_more), Ok(()));
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let mut slots = slots(&[(1, 0, 1)]);
    let none = SlotId(2);
    assert_eq!(slots.remove(Space::Normal, none).err(), Some(SlotRefused::NoSuchSlot));
    assert_eq!(slots.relocate(Space::Normal, none, Gfn(9)), Err(SlotRefused::NoSuchSlot));
    assert_eq!(slots.set_flags(Space::Normal, none, SlotFlags::empty()), Err(SlotRefused::NoSuchSlot));
    assert_eq!(slots.set_state(Space::Normal, none, State::Invalid), Err(SlotRefused::NoSuchSlot));
    assert_eq!(slots.remove(Space::Smm, SlotId(1)).err(), Some(SlotRefused::NoSuchSlot));
}

#[test]
fn a_slot_may_move_over_itself_but_not_over_another() {
    let mut slots = slots(&[(1, 0x10, 0x10), (2, 0x40, 0x10)]);
    let to = |base| (Space::Normal, SlotId(1), Gfn(base));
    let (space, id, base) = to(0x31);
    assert_eq!(slots.relocate(space, id, base), Err(SlotRefused::Overlap(SlotId(2))));
    let (space, id, base) = to(LIMIT - 0xf);
    assert_eq!(slots.relocate(space, id, base), Err(SlotRefused::BeyondGuest));
    assert_eq!(found(&mut slots, 0x10), Some(1), "a refused move changes nothing");
    let (space, id, base) = to(0x18);
    assert_eq!(slots.relocate(space, id, base), Ok(()));
    assert_eq!((found(&mut slots, 0x17), found(&mut slots, 0x18)), (None, Some(1)));
    let (space, id, base) = to(0x60);
    assert_eq!(slots.relocate(space, id, base), Ok(()));
    assert_eq!((found(&mut slots, 0x45), found(&mut slots, 0x6f)), (Some(2), Some(1)), "still sorted");
}

#[test]
fn the_last_hit_is_forgotten_with_its_slot() {
    let mut slots = slots(&[(1, 0, 8), (2, 8, 8), (3, 16, 8)]);
    assert_eq!(found(&mut slots, 20), Some(3));
    assert!(slots.remove(Space::Normal, SlotId(1)).is_ok());
    assert_eq!((found(&mut slots, 20), found(&mut slots, 9), found(&mut slots, 1)), (Some(3), Some(2), None));
}

#[test]
fn the_place_of_a_slot_that_is_gone_is_not_searched() {
    // So many in one bucket that all are searched.
    let crowd: Vec<_> = (1..8).map(|n| (n, 0x10_0000 + u64::from(n), 1)).chain([(9, 0, 1)]).collect();
    let mut slots = slots(&crowd);
    for gone in 1..6 {
        assert!(slots.remove(Space::Normal, SlotId(gone)).is_ok());
        for last in [6, 7] {
            assert_eq!(found(&mut slots, 0x10_0000 + u64::from(last)), Some(last), "without {gone}");
        }
    }
}

#[test]
fn the_block_of_a_slot_that_is_gone_is_not_found() {
    let (mut pool, mut machine) = (Pool::empty(), FakeMachine::default());
    pool.open(0, 0, 64, &mut machine);
    let mut slots = slots(&[(1, 0, 64), (2, 64, 64)]);
    assert!(slots.block(Gfn(64), &mut pool, &mut machine).is_some());
    assert!(slots.remove(Space::Normal, SlotId(2)).is_ok());
    assert!(slots.block(Gfn(64), &mut pool, &mut machine).is_none());
    assert!(slots.block(Gfn(63), &mut pool, &mut machine).is_some());
}

#[test]
fn the_two_address_spaces_know_nothing_of_each_other() {
    let mut slots = slots(&[(1, 0, 8)]);
    let smm = Slot { space: Space::Smm, ..plain(1, 4, 8) };
    assert_eq!(slots.create(&smm), Ok(()), "same number, same pages");
    assert_eq!(slots.count(), 2);
    assert_eq!(found(&mut slots, 9), None);
    assert_eq!(slots.lookup(Space::Smm, Gfn(9)).map(|slot| slot.base()), Some(Gfn(4)));
}

#[test]
fn every_change_has_its_generation() {
    let mut slots = slots(&[]);
    let mut last = slots.generation();
    let mut advanced = |slots: &MemSlots| {
        let advanced = slots.generation() > last;
        last = slots.generation();
        advanced
    };
    assert_eq!(slots.create(&plain(1, 0, 1)), Ok(()));
    assert!(advanced(&slots));
    assert_eq!(slots.set_flags(Space::Normal, SlotId(1), SlotFlags::READONLY), Ok(()));
    assert!(advanced(&slots));
    assert_eq!(slots.relocate(Space::Normal, SlotId(1), Gfn(9)), Ok(()));
    assert!(advanced(&slots));
    assert!(slots.remove(Space::Normal, SlotId(1)).is_ok());
    assert!(advanced(&slots));
    assert!(slots.create(&plain(1, 0, 0)).is_err());
    assert!(!advanced(&slots), "a refusal changes nothing");
}

#[test]
fn rights_are_those_of_the_flags() {
    assert_eq!(rights(SlotFlags::empty()), Rights::all());
    assert_eq!(rights(SlotFlags::PRIVATE), Rights::all());
    assert_eq!(rights(SlotFlags::READONLY), Rights::READ | Rights::EXECUTE);
}

/// One request to the slots of a model: small numbers, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Create(u16, u64, u64),
    Remove(u16),
    Move(u16, u64),
    Flags(u16, SlotFlags),
    Lookup(u64),
}

/// A slot that lies far away makes buckets wide, so that many slots begin in one.
fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..80, 1 => (0u64..80, 1u32..20).prop_map(|(gfn, far)| gfn << far)]
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u16..12;
    prop_oneof![
        3 => (id.clone(), gfn(), 0u64..12).prop_map(|(id, base, pages)| Step::Create(id, base, pages)),
        1 => id.clone().prop_map(Step::Remove),
        2 => (id.clone(), gfn()).prop_map(|(id, base)| Step::Move(id, base)),
        1 => (id, 0u32..16).prop_map(|(id, flags)| Step::Flags(id, SlotFlags::from_bits_retain(flags))),
        4 => gfn().prop_map(Step::Lookup),
    ]
}

/// The plainest slots there are: number to base, pages and flags.
#[derive(Default)]
struct Model(BTreeMap<u16, (u64, u64, SlotFlags)>);

impl Model {
    fn at(&self, gfn: u64) -> Option<u16> {
        self.0.iter().find(|(_, (base, pages, _))| (*base..base + pages).contains(&gfn)).map(|(id, _)| *id)
    }

    fn free(&self, base: u64, pages: u64, but: Option<u16>) -> bool {
        (base..base + pages).all(|gfn| self.at(gfn).is_none() || self.at(gfn) == but)
    }
}

proptest! {
    #[test]
    fn the_slots_do_what_the_model_does(steps in prop::collection::vec(step(), 0..120)) {
        let mut slots = slots(&[]);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Create(id, base, pages) => {
                    let good = pages > 0 && !model.0.contains_key(&id) && model.free(base, pages, None);
                    prop_assert_eq!(slots.create(&plain(id, base, pages)).is_ok(), good);
                    if good { model.0.insert(id, (base, pages, SlotFlags::empty())); }
                }
                Step::Remove(id) => {
                    let removed = slots.remove(Space::Normal, SlotId(id)).ok();
                    let gone = model.0.remove(&id);
                    prop_assert_eq!(removed.map(|slot| (slot.base().0, slot.pages(), slot.flags())), gone);
                }
                Step::Move(id, base) => {
                    let pages = model.0.get(&id).map(|(_, pages, _)| *pages);
                    let good = pages.is_some_and(|pages| model.free(base, pages, Some(id)));
                    prop_assert_eq!(slots.relocate(Space::Normal, SlotId(id), Gfn(base)).is_ok(), good);
                    if good { model.0.entry(id).and_modify(|slot| slot.0 = base); }
                }
                Step::Flags(id, flags) => {
                    let good = model.0.contains_key(&id) && SlotFlags::all().contains(flags);
                    prop_assert_eq!(slots.set_flags(Space::Normal, SlotId(id), flags).is_ok(), good);
                    if good { model.0.entry(id).and_modify(|slot| slot.2 = flags); }
                }
                Step::Lookup(gfn) => prop_assert_eq!(found(&mut slots, gfn), model.at(gfn)),
            }
            prop_assert_eq!(slots.count(), model.0.len());
        }
        let edges: Vec<u64> = model.0.values().flat_map(|(base, pages, _)| [*base, base + pages - 1, base + pages]).collect();
        for gfn in (0..100).chain(edges) {
            prop_assert_eq!(found(&mut slots, gfn), model.at(gfn));
        }
    }
}
