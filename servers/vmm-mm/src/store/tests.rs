use super::{Backed, Note, OutOfFrames, Page, Tree};
use crate::pool::Pool;
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::collections::HashMap;

fn pool(frames: u64) -> (Pool, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0, 0, frames, &mut machine);
    (pool, machine)
}

#[test]
fn a_page_keeps_its_frame_at_every_depth() {
    for pages in [1, 1024, 1025, 1 << 20, (1 << 20) + 1, 1 << 30, (1 << 30) + 1, 1 << 40] {
        let (mut pool, mut machine) = pool(100);
        let mut tree = Tree::new(0, pages);
        for offset in [0, pages - 1, pages / 2] {
            let Ok(Backed::Fresh(first)) = tree.find_or_take(offset, &mut pool, &mut machine) else {
                assert!(tree.page(offset, &machine).frame().is_some(), "one page is in the list twice");
                continue;
            };
            let again = tree.find_or_take(offset, &mut pool, &mut machine).expect("it is there");
            assert_eq!(again, Backed::Known(tree.page(offset, &machine)), "page {offset} of {pages}");
            assert_eq!(tree.page(offset, &machine).frame(), Some(first));
        }
        tree.clear(&mut pool, &mut machine);
        assert_eq!(pool.left(), 100, "every frame comes back, nodes and all");
        assert_eq!(tree.page(0, &machine), Page::NONE);
    }
}

#[test]
fn a_full_slot_needs_no_more_than_was_promised() {
    for pages in [1, 1023, 1024, 1025, 5000] {
        let frames = Tree::frames_for(0, pages);
        let (mut pool, mut machine) = pool(frames);
        let mut tree = Tree::new(0, pages);
        for offset in 0..pages {
            assert!(matches!(tree.find_or_take(offset, &mut pool, &mut machine), Ok(Backed::Fresh(_))));
        }
        assert_eq!(pool.left(), 0, "{pages} pages need exactly {frames} frames");
    }
    assert_eq!(Tree::frames_for(0, u64::MAX), u64::MAX, "too many saturate");
}

#[test]
fn without_frames_a_page_is_refused_and_nothing_is_lost() {
    let (mut pool, mut machine) = pool(2);
    let mut tree = Tree::new(0, 4096);
    assert_eq!(tree.find_or_take(0, &mut pool, &mut machine), Err(OutOfFrames), "two nodes, no page");
    tree.clear(&mut pool, &mut machine);
    assert_eq!(pool.left(), 2);
}

/// A tree whose block at `offset` is one large page, and the pool under it.
fn large(base: u64, pages: u64, offset: u64) -> (Tree, Pool, FakeMachine, u32) {
    let (mut pool, mut machine) = pool(4096);
    let mut tree = Tree::new(base, pages);
    let frame = pool.take_large(&mut machine).expect("4096 frames have large pages");
    let first = frame.index();
    tree.set_large(offset, frame, &mut pool, &mut machine).expect("a frame for the node");
    (tree, pool, machine, first)
}

#[test]
fn a_large_page_backs_its_block_and_nothing_else() {
    // The slot begins 256 pages into a block, as the one above 1 MiB does.
    let (mut tree, mut pool, mut machine, first) = large(0x100, 2000, 0x100);
    for offset in 0x100..0x300 {
        let page = tree.page(offset, &machine);
        assert_eq!((page.frame(), page.is_large()), (Some(first + offset as u32 - 0x100), true));
        assert_eq!(tree.find_or_take(offset, &mut pool, &mut machine), Ok(Backed::Known(page)));
    }
    assert_eq!((tree.page(0xff, &machine), tree.page(0x300, &machine)), (Page::NONE, Page::NONE));
    assert!(!tree.block_is_empty(0x100, &machine) && tree.block_is_empty(0x300, &machine));
    let left = pool.left();
    tree.clear(&mut pool, &mut machine);
    assert_eq!((pool.left(), left), (4096, 4096 - 512 - 2));
}

#[test]
fn a_split_page_keeps_its_frames_and_can_be_made_whole_again() {
    let (mut tree, mut pool, mut machine, first) = large(0, 1024, 512);
    tree.split(700, &mut machine);
    for offset in 512..1024 {
        let page = tree.page(offset, &machine);
        assert_eq!((page.frame(), page.is_large()), (Some(first + offset as u32 - 512), false));
    }
    tree.note(700, Note::Dirty, &mut pool, &mut machine).expect("no frame is needed");
    assert_eq!(tree.collapse(&mut machine, |_| true), 0, "a note would be lost");
    tree.forget(Note::Dirty, &mut machine);
    assert_eq!(tree.collapse(&mut machine, |_| false), 0, "not aligned");
    assert_eq!(tree.collapse(&mut machine, |frame| frame == first), 1);
    assert!(tree.page(1023, &machine).is_large());
    tree.clear(&mut pool, &mut machine);
    assert_eq!(pool.left(), 4096);
}

#[test]
fn frames_that_do_not_lie_in_a_row_are_not_made_one_page() {
    let (mut pool, mut machine) = pool(4096);
    let mut tree = Tree::new(0, 512);
    for offset in (0..512).rev() {
        assert!(tree.find_or_take(offset, &mut pool, &mut machine).is_ok());
    }
    assert_eq!(tree.collapse(&mut machine, |_| true), 0);
}

#[test]
fn a_note_is_on_one_page_and_needs_no_frame() {
    let (mut pool, mut machine) = pool(100);
    let mut tree = Tree::new(0, 3000);
    for offset in [0, 511, 512, 2999] {
        tree.note(offset, Note::Tracked, &mut pool, &mut machine).expect("frames for nodes");
    }
    let noted = |tree: &Tree, from, machine: &FakeMachine| {
        tree.next(from, machine, |page| page.has(Note::Tracked)).map(|(offset, _)| offset)
    };
    assert_eq!(
        [0, 1, 512, 513, 3000].map(|from| noted(&tree, from, &machine)),
        [Some(0), Some(511), Some(512), Some(2999), None]
    );
    let page = tree.back(0, &mut pool, &mut machine).expect("a frame");
    assert!(page.frame().is_some() && page.has(Note::Tracked) && !page.has(Note::Dirty));
    tree.unnote(0, Note::Tracked, &mut machine);
    assert_eq!(noted(&tree, 0, &machine), Some(511));
    assert_eq!(tree.page(0, &machine).frame(), page.frame(), "the frame stays");
    assert!(!tree.block_is_empty(1, &machine) && !tree.block_is_empty(513, &machine));
}

proptest! {
    #[test]
    fn the_tree_is_a_map(
        pages in prop_oneof![1u64..3000, (1u64 << 20)..(1 << 21)],
        touched in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let (mut pool, mut machine) = pool(2000);
        let mut tree = Tree::new(0, pages);
        let mut model: HashMap<u64, u32> = HashMap::new();
        for which in touched {
            let offset = which.index(pages as usize) as u64;
            let backed = tree.find_or_take(offset, &mut pool, &mut machine);
            match model.get(&offset) {
                Some(frame) => {
                    let Ok(Backed::Known(page)) = backed else { return Err(TestCaseError::fail("not known")) };
                    prop_assert_eq!(page.frame(), Some(*frame));
                }
                None => {
                    let Ok(Backed::Fresh(frame)) = backed else { return Err(TestCaseError::fail("not fresh")) };
                    prop_assert!(model.values().all(|other| *other != frame), "one frame for two pages");
                    model.insert(offset, frame);
                }
            }
        }
        for (offset, frame) in &model {
            prop_assert_eq!(tree.page(*offset, &machine).frame(), Some(*frame));
        }
    }
}
