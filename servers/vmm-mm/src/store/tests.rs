use super::{Backed, OutOfFrames, Tree};
use crate::pool::Pool;
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::collections::HashMap;

fn pool(frames: u64) -> (Pool, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(frames, &mut machine);
    (pool, machine)
}

#[test]
fn a_page_keeps_its_frame_at_every_depth() {
    for pages in [1, 1024, 1025, 1 << 20, (1 << 20) + 1, 1 << 30, (1 << 30) + 1, 1 << 40] {
        let (mut pool, mut machine) = pool(100);
        let mut tree = Tree::new(pages);
        for offset in [0, pages - 1, pages / 2] {
            assert_eq!(tree.find(offset, &machine), tree.find(offset, &machine));
            let first = tree.find_or_take(offset, &mut pool, &mut machine).expect("frames are left");
            let again = tree.find_or_take(offset, &mut pool, &mut machine).expect("it is there");
            assert_eq!(again, Backed::Present(first.index()), "page {offset} of {pages}");
            assert_eq!(tree.find(offset, &machine), Some(first.index()));
        }
        tree.clear(&mut pool, &mut machine);
        assert_eq!(pool.left(), 100, "every frame comes back, nodes and all");
        assert_eq!(tree.find(0, &machine), None);
    }
}

#[test]
fn a_full_slot_needs_no_more_than_was_promised() {
    for pages in [1, 1023, 1024, 1025, 5000] {
        let frames = Tree::frames_for(pages);
        let (mut pool, mut machine) = pool(frames);
        let mut tree = Tree::new(pages);
        for offset in 0..pages {
            assert!(matches!(tree.find_or_take(offset, &mut pool, &mut machine), Ok(Backed::Fresh(_))));
        }
        assert_eq!(pool.left(), 0, "{pages} pages need exactly {frames} frames");
    }
    assert_eq!(Tree::frames_for(u64::MAX), u64::MAX, "too many saturate");
}

#[test]
fn without_frames_a_page_is_refused_and_nothing_is_lost() {
    let (mut pool, mut machine) = pool(2);
    let mut tree = Tree::new(4096);
    assert_eq!(tree.find_or_take(0, &mut pool, &mut machine), Err(OutOfFrames), "two nodes, no page");
    tree.clear(&mut pool, &mut machine);
    assert_eq!(pool.left(), 2);
}

proptest! {
    #[test]
    fn the_tree_is_a_map(
        pages in prop_oneof![1u64..3000, (1u64 << 20)..(1 << 21)],
        touched in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let (mut pool, mut machine) = pool(2000);
        let mut tree = Tree::new(pages);
        let mut model: HashMap<u64, u32> = HashMap::new();
        for which in touched {
            let offset = which.index(pages as usize) as u64;
            let backed = tree.find_or_take(offset, &mut pool, &mut machine);
            match model.get(&offset) {
                Some(frame) => prop_assert_eq!(backed, Ok(Backed::Present(*frame))),
                None => {
                    let Ok(Backed::Fresh(frame)) = backed else { return Err(TestCaseError::fail("not fresh")) };
                    prop_assert!(model.values().all(|other| *other != frame), "one frame for two pages");
                    model.insert(offset, frame);
                }
            }
        }
        for (offset, frame) in &model {
            prop_assert_eq!(tree.find(*offset, &machine), Some(*frame));
        }
    }
}
