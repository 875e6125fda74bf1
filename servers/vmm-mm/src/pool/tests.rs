use super::{BATCH, Frame, LARGE, Pool};
use crate::machine::{Memory, WORDS};
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::collections::HashSet;
use std::vec::Vec;

fn pool(frames: u64) -> (Pool, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0, frames, &mut machine);
    (pool, machine)
}

#[test]
fn every_frame_is_handed_out_once_and_then_none() {
    for frames in [0, 1, BATCH as u64 - 1, BATCH as u64, 3 * BATCH as u64 + 7] {
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
fn the_start_zeroes_a_batch_and_a_batch_lasts() {
    let (mut pool, mut machine) = pool(1000);
    assert_eq!(machine.cleared, BATCH as u64);
    for _ in 0..BATCH {
        assert!(pool.take_zeroed(&mut machine).is_some());
    }
    assert_eq!(machine.cleared, BATCH as u64, "no fault of a batch zeroes a frame");
    assert!(pool.take_zeroed(&mut machine).is_some());
    assert_eq!(machine.cleared, 2 * BATCH as u64);
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
    assert_eq!(pool.take_run(10, &mut machine).map(|run| run.count), Some(1), "the rest is stocked");
    assert!(!pool.promise(40), "what the kernel has is not the pager's to promise");
    assert!(pool.promise(39));
}

#[test]
fn a_run_is_neighbours_and_leaves_for_good() {
    let (mut pool, mut machine) = pool(BATCH as u64 + 5);
    let run = pool.take_run(4, &mut machine).expect("five are untouched");
    assert_eq!((run.first, run.count), (BATCH as u32, 4));
    let run = pool.take_run(4, &mut machine).expect("one is untouched");
    assert_eq!((run.first, run.count), (BATCH as u32 + 4, 1));
    let mut seen = HashSet::new();
    while let Some(run) = pool.take_run(4, &mut machine) {
        assert_eq!(run.count, 1, "of what is stocked or free, one at a time");
        assert!(seen.insert(run.first) && run.first < BATCH as u32);
    }
    assert_eq!(seen.len(), BATCH);
    assert_eq!(pool.donated(), BATCH as u64 + 5);
}

#[test]
fn frames_come_out_in_a_row() {
    let (mut pool, mut machine) = pool(3 * BATCH as u64);
    for index in 0..3 * BATCH as u32 {
        assert_eq!(pool.take_zeroed(&mut machine).map(|frame| frame.index()), Some(index));
    }
}

#[test]
fn a_large_page_is_aligned_in_the_machine_and_no_frame_is_lost_for_it() {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0x1003, 2048, &mut machine);
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
                3 => if let Some(run) = pool.take_run(3, &mut machine) {
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
