use super::{AT_ONCE, AT_START, Ahead, ENOUGH, Frame, LARGE, LOW, Pool};
use crate::machine::{Memory, WORDS};
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::collections::HashSet;
use std::vec::Vec;

fn pool(frames: u64) -> (Pool, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0, 0, frames, &mut machine);
    (pool, machine)
}

#[test]
fn every_frame_is_handed_out_once_and_then_none() {
    let start = u64::from(AT_START);
    for frames in [0, 1, start - 1, start, start + u64::from(AT_ONCE) + 1] {
        let (mut pool, mut machine) = pool(frames);
        assert_eq!(pool.left(), frames);
        let mut seen = HashSet::new();
        while let Some(frame) = pool.take_zeroed(&mut machine) {
            assert!(u64::from(frame.index()) < frames, "a frame that is not the pager's");
            assert!(seen.insert(frame.index()), "frame {} twice", frame.index());
        }
        assert_eq!(seen.len() as u64, frames);
        assert_eq!(pool.left(), 0);
    }
}

#[test]
fn a_frame_that_comes_back_dirty_goes_out_zeroed() {
    let (mut pool, mut machine) = pool(1);
    let frame = pool.take_zeroed(&mut machine).expect("one frame");
    for index in 0..WORDS {
        machine.set_word(frame.index(), index, 0x5a5a_5a5a);
    }
    pool.release(frame, &mut machine);
    let frame = pool.take_zeroed(&mut machine).expect("the same frame");
    assert!((0..WORDS).all(|index| machine.word(frame.index(), index) == 0));
}

#[test]
fn a_fault_zeroes_a_few_frames_at_most_and_none_while_some_are_zeroed() {
    let (mut pool, mut machine) = pool(2 * u64::from(AT_START));
    assert_eq!(machine.cleared, u64::from(AT_START), "at the start");
    for taken in 0..AT_START {
        assert_eq!(machine.asked_for_time, u32::from(taken > AT_START - LOW), "after {taken} frames");
        assert!(pool.take_zeroed(&mut machine).is_some());
    }
    assert_eq!(machine.cleared, u64::from(AT_START), "no frame was zeroed by who took one");
    assert!(pool.take_zeroed(&mut machine).is_some());
    assert_eq!(machine.cleared, u64::from(AT_START) + 1, "the frame itself");
    assert_eq!(pool.take_zeroed_run(16, &mut machine), (AT_START + 1, AT_ONCE), "a run is cut to what may be zeroed");
    assert_eq!(machine.cleared, u64::from(AT_START + 1 + AT_ONCE));
}

#[test]
fn frames_are_zeroed_ahead_until_enough_are() {
    let (mut pool, mut machine) = pool(4 * u64::from(AT_START));
    (0..AT_START).for_each(|_| assert!(pool.take_zeroed(&mut machine).is_some()));
    let cleared = machine.cleared;
    let mut steps = 0;
    while pool.zero_ahead(32, &mut machine) == Ahead::More {
        steps += 1;
    }
    assert_eq!((steps, machine.cleared - cleared), (ENOUGH / 32 - 1, u64::from(ENOUGH)));
    let (asked, cleared) = (machine.asked_for_time, machine.cleared);
    let runs: Vec<_> = (0..(ENOUGH - LOW) / 16).map(|_| pool.take_zeroed_run(16, &mut machine)).collect();
    assert!(runs.iter().enumerate().all(|(n, run)| *run == (AT_START + n as u32 * 16, 16)), "runs are neighbours");
    assert_eq!((machine.asked_for_time, machine.cleared), (asked, cleared));
    let _ = pool.take_zeroed(&mut machine);
    assert_eq!((machine.asked_for_time, machine.cleared), (asked + 1, cleared), "few are left: more time is asked for");
}

#[test]
fn nobody_is_asked_for_time_when_everything_is_zeroed() {
    let (mut pool, mut machine) = pool(u64::from(LOW));
    while pool.take_zeroed(&mut machine).is_some() {}
    assert_eq!((machine.asked_for_time, machine.cleared), (0, u64::from(LOW)));
    assert_eq!(pool.zero_ahead(32, &mut machine), Ahead::Enough);
}

#[test]
fn neighbours_that_are_given_back_come_out_as_neighbours() {
    let (mut pool, mut machine) = pool(64);
    let mut out: Vec<Frame> = core::iter::from_fn(|| pool.take_zeroed(&mut machine)).collect();
    out.drain(..16).for_each(|frame| pool.release(frame, &mut machine));
    out.drain(16..32).rev().for_each(|frame| pool.release(frame, &mut machine));
    assert_eq!(pool.left(), 32);
    let mut runs: Vec<_> = (0..8).map(|_| pool.take_zeroed_run(AT_ONCE, &mut machine)).collect();
    runs.sort_unstable();
    let expected: Vec<_> = (0..4).chain(8..12).map(|n| (n * AT_ONCE, AT_ONCE)).collect();
    assert_eq!(runs, expected);
    assert_eq!((pool.left(), pool.take_zeroed_run(1, &mut machine)), (0, (0, 0)));
}

#[test]
fn a_promise_is_kept_to_what_is_there() {
    let (mut pool, mut machine) = pool(100);
    assert!(!pool.promise(101));
    assert!(pool.promise(60));
    assert!(!pool.promise(41));
    assert!(!pool.promise(u64::MAX), "a sum that overflows is refused");
    assert!(pool.promise(40));
    pool.unpromise(40);
    assert_eq!(pool.take_run(10, 0, &mut machine).map(|run| run.count), Some(10));
    assert!(!pool.promise(40), "what the kernel has is not the pager's to promise");
    assert!(pool.promise(30));
}

#[test]
fn what_is_promised_is_given_away_only_where_it_is_needed() {
    let (mut pool, mut machine) = pool(20);
    assert!(pool.promise(14));
    let mut counts = |most, needed| pool.take_run(most, needed, &mut machine).map(|run| run.count);
    assert_eq!((counts(4, 0), counts(4, 1), counts(4, 0)), (Some(4), Some(2), None));
    assert_eq!(pool.take_spare(&mut machine), None, "what is kept of pages can be done without");
    assert_eq!(pool.take_run(4, 3, &mut machine).map(|run| run.count), Some(3), "a fault cannot go without tables");
    pool.unpromise(14);
    assert!(!pool.promise(12) && pool.promise(11));
}

#[test]
fn a_run_is_neighbours_and_leaves_for_good() {
    let (mut pool, mut machine) = pool(10);
    let run = pool.take_run(4, 0, &mut machine).expect("ten are there");
    assert_eq!((run.first, run.count), (6, 4), "from the end, so that pages go on getting neighbours");
    let frames: Vec<Frame> = (0..3).filter_map(|_| pool.take_zeroed(&mut machine)).collect();
    frames.into_iter().for_each(|frame| pool.release(frame, &mut machine));
    let run = pool.take_run(4, 0, &mut machine).expect("three are free");
    assert_eq!((run.first, run.count), (0, 3), "what was given back first");
    assert_eq!(pool.take_run(4, 0, &mut machine).map(|run| (run.first, run.count)), Some((3, 3)));
    assert_eq!((pool.take_run(4, 0, &mut machine), pool.donated()), (None, 10));
}

#[test]
fn frames_come_out_in_a_row() {
    let (mut pool, mut machine) = pool(384);
    for index in 0..384 {
        assert_eq!(pool.take_zeroed(&mut machine).map(|frame| frame.index()), Some(index));
    }
}

#[test]
fn a_large_page_is_aligned_in_the_machine_and_no_frame_is_lost_for_it() {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0x1003, 0, 2048, &mut machine);
    let mut large = Vec::new();
    while let Some(frame) = pool.take_large(&mut machine) {
        assert_eq!((0x1003 + frame.index()) % LARGE, 0);
        assert!(pool.is_aligned(frame.index()) && !pool.is_aligned(frame.index() + 1));
        assert!((0..LARGE).all(|n| machine.word(frame.index() + n, 5) == 0));
        large.push(frame);
    }
    assert_eq!(large.len(), 3, "2048 frames that begin out of line have three");
    assert_eq!(pool.left(), 2048 - 3 * 512);
    machine.set_word(large[0].index() + 7, 5, 9);
    pool.release_large(large.remove(0), &mut machine);
    let again = pool.take_large(&mut machine).expect("it came back");
    assert_eq!(machine.word(again.index() + 7, 5), 0, "zeroed again");
    pool.release_large(again, &mut machine);
    assert_eq!(pool.left(), 2048 - 2 * 512);
    let mut seen = HashSet::new();
    while let Some(frame) = pool.take_zeroed(&mut machine) {
        assert!(seen.insert(frame.index()));
    }
    assert_eq!(seen.len(), 2048 - 2 * 512, "when nothing else is left a large page is broken up");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken and given back in whatever order: a frame is in one hand at a time, and zero when it comes.
    #[test]
    fn the_pool_never_hands_a_frame_out_twice(
        frames in 1u64..400,
        steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..400),
    ) {
        let (mut pool, mut machine) = pool(frames);
        let mut out: Vec<Frame> = Vec::new();
        let mut gone = HashSet::new();
        for (step, which) in steps {
            match step {
                0 | 1 => match pool.take_zeroed(&mut machine) {
                    Some(frame) => {
                        prop_assert!(u64::from(frame.index()) < frames);
                        prop_assert!(!gone.contains(&frame.index()));
                        prop_assert!(out.iter().all(|other| other.index() != frame.index()));
                        prop_assert_eq!((machine.word(frame.index(), 0), machine.word(frame.index(), 7)), (0, 0));
                        machine.set_word(frame.index(), 7, 1);
                        out.push(frame);
                    }
                    None => prop_assert_eq!(out.len() + gone.len(), frames as usize),
                },
                2 if !out.is_empty() => {
                    let frame = out.swap_remove(which.index(out.len()));
                    pool.release(frame, &mut machine);
                }
                3 => if let Some(run) = pool.take_run(3, 0, &mut machine) {
                    for index in run.first..run.first + u32::from(run.count) {
                        prop_assert!(out.iter().all(|other| other.index() != index));
                        prop_assert!(gone.insert(index));
                    }
                },
                _ => {}
            }
            prop_assert_eq!(pool.left() as usize + out.len() + gone.len(), frames as usize);
        }
    }
}
