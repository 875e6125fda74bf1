use super::{Reader, Seen};
use crate::backing::guest::{Fill, Guest};
use crate::pool::Pool;
use crate::store::OutOfFrames;
use crate::testing::FakeMachine;
use ipc_proto::grant::Gfn;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const PAGES: u64 = 60;

fn guest(policy: &str, abilities: Abilities) -> Guest {
    let mut guest = Guest::new("demand", 200, PAGES, SlotFlags::empty());
    guest.machine.abilities = abilities;
    let cpu = crate::machine::Cpu { abilities, largest: ipc_proto::grant::Level::Large };
    let way = crate::dirty::Way::WriteProtect;
    assert_eq!(guest.pager.equip(cpu, Some(way)), Ok(()));
    guest.choose(policy);
    (0..PAGES).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    guest
}

/// The pages that the idle map tells of.
fn idle(guest: &mut Guest) -> Vec<u64> {
    match guest.ask(SlotRequest::Idle(Space::Normal, SlotId(1), 0)) {
        SlotReply::Idle(idle) => (0..PAGES).filter(|n| idle.bits[0] >> n & 1 == 1).collect(),
        SlotReply::Done => Vec::new(),
        other => panic!("no answer to the question: {other:?}"),
    }
}

/// What `wss` counts in the round that is under way, and the one after it begins.
fn used_in_a_round(guest: &mut Guest) -> u64 {
    let rounds = |guest: &Guest| guest.pager.policy.figure(0, 0).map(|(_, rounds)| rounds);
    let before = rounds(guest);
    while rounds(guest) == before {
        guest.notice();
    }
    guest.pager.policy.figure(0, 1).map_or(0, |(_, used)| used)
}

#[test]
fn the_idle_map_sees_what_the_policy_has_harvested() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut guest = guest("wss", abilities);
        assert_eq!(idle(&mut guest), [], "{abilities:?}: all were used");
        (10..20).for_each(|gfn| guest.read(gfn).expect("it is there"));
        (0..6).for_each(|_| guest.notice());
        let expected: Vec<u64> = (0..PAGES).filter(|gfn| !(10..20).contains(gfn)).collect();
        assert_eq!(idle(&mut guest), expected, "{abilities:?}: the policy looked several times");
        (0..6).for_each(|_| guest.notice());
        assert_eq!(idle(&mut guest).len(), 60, "{abilities:?}: and was told of once");
    }
}

#[test]
fn the_policy_sees_what_the_idle_map_has_harvested() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut guest = guest("wss", abilities);
        while used_in_a_round(&mut guest) != 0 {}
        (10..20).for_each(|gfn| guest.read(gfn).expect("it is there"));
        let _ = idle(&mut guest);
        let most = (0..3).map(|_| used_in_a_round(&mut guest)).max();
        assert_eq!(most, Some(10), "{abilities:?}: the map was asked in between");
    }
}

#[test]
fn a_page_that_the_idle_map_saw_gets_its_second_chance() {
    let mut guest = Guest::new("clock", 80, 200, SlotFlags::empty());
    for gfn in 0..160 {
        guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits");
        (0..8).for_each(|hot| guest.read(hot).expect("it fits"));
        let _ = guest.ask(SlotRequest::Idle(Space::Normal, SlotId(1), 0));
    }
    let before = guest.counts().decompressions;
    assert!(before <= 8 * 3, "{before}: they are used all the time");
}

#[test]
fn notes_go_with_the_slot_and_lack_of_frames_is_told() {
    let (mut pool, mut machine, mut seen) = (Pool::empty(), FakeMachine::default(), Seen::EMPTY);
    pool.open(0, 0, 7, &mut machine);
    assert_eq!(seen.open(Gfn(100), 50, &mut pool, &mut machine), Ok(()));
    assert_eq!(seen.open(Gfn(1 << 40), 1, &mut pool, &mut machine), Err(OutOfFrames), "beyond all notes");
    assert_eq!(seen.open(Gfn(1 << 30), 1, &mut pool, &mut machine), Err(OutOfFrames), "no frame for them");
    for gfn in [100, 127, 128, 149, 1 << 30] {
        seen.note(Reader::Policy, Gfn(gfn), &mut machine);
    }
    let told = |seen: &mut Seen, reader, first, pages, machine: &mut FakeMachine| {
        let mut told = Vec::new();
        seen.take(reader, (Gfn(first), pages), machine, |gfn| told.push(gfn.0));
        told
    };
    assert_eq!(told(&mut seen, Reader::IdleMap, 0, 1000, &mut machine), []);
    assert_eq!(told(&mut seen, Reader::Policy, 101, 28, &mut machine), [127, 128]);
    seen.forget(Gfn(149), 1, &mut machine);
    assert_eq!(told(&mut seen, Reader::Policy, 0, 1000, &mut machine), [100]);
    assert_eq!(told(&mut seen, Reader::Policy, 0, 1000, &mut machine), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the policy does meanwhile, the idle map tells what a guest that nobody else watches would be told.
    #[test]
    fn each_sees_what_was_used_since_it_asked(rounds in prop::collection::vec(
        (prop::collection::btree_set(0..PAGES, 0..20), 0..5usize), 1..8,
    )) {
        let mut guest = guest("wss", Abilities::all());
        let _ = idle(&mut guest);
        for (touched, notices) in rounds {
            for gfn in &touched {
                guest.read(*gfn).expect("it is there");
                (0..notices).for_each(|_| guest.notice());
            }
            let expected: BTreeSet<u64> = (0..PAGES).filter(|gfn| !touched.contains(gfn)).collect();
            prop_assert_eq!(idle(&mut guest).into_iter().collect::<BTreeSet<u64>>(), expected);
        }
    }
}
