use super::{ALL_FREE, Zstore, head};
use crate::compress::{Damaged, MOST};
use crate::machine::Memory;
use crate::pool::Pool;
use crate::store::OutOfFrames;
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

fn store(frames: u64) -> (Zstore, Pool, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pool = Pool::empty();
    pool.open(0, 0, frames, &mut machine);
    (Zstore::EMPTY, pool, machine)
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn get(store: &Zstore, place: u32, machine: &FakeMachine) -> Result<Vec<u8>, Damaged> {
    let mut bytes = [0; 4096];
    store.get(place, &mut bytes, machine).map(|len| bytes[..len].to_vec())
}

#[test]
fn four_pages_of_a_quarter_fit_into_little_more_than_a_frame() {
    let (mut store, mut pool, mut machine) = store(1000);
    for n in 0..310 {
        store.put(&bytes(n as u8, 1000), &mut pool, &mut machine).expect("there is room");
    }
    // 9 units each, 31 in a frame.
    assert_eq!((store.frames(), store.pages(), store.bytes()), (90, 310, 310_000));
}

#[test]
fn without_a_frame_nothing_is_stored_and_nothing_lost() {
    let (mut store, mut pool, mut machine) = store(2);
    store.reserve(&mut pool, &mut machine);
    let first = store.put(&bytes(1, MOST), &mut pool, &mut machine).expect("a frame");
    let second = store.put(&bytes(2, MOST), &mut pool, &mut machine).expect("the spare one");
    assert_eq!(store.put(&bytes(3, MOST), &mut pool, &mut machine), Err(OutOfFrames));
    assert_eq!((get(&store, first, &machine), get(&store, second, &machine)), (Ok(bytes(1, MOST)), Ok(bytes(2, MOST))));
    store.remove(first, &mut pool, &mut machine);
    assert_eq!((store.pages(), pool.left()), (1, 0), "the first empty frame is put aside again");
    store.remove(second, &mut pool, &mut machine);
    assert_eq!((store.pages(), store.bytes(), store.frames(), pool.left()), (0, 0, 1, 1));
}

#[test]
fn a_page_that_is_damaged_is_told_from_one_that_is_not() {
    let (mut store, mut pool, mut machine) = store(10);
    let place = store.put(&bytes(7, 500), &mut pool, &mut machine).expect("a frame");
    let frame = place / 32;
    for (unit, word) in [(place % 32, 1), (place % 32, 2), (place % 32, 9), (place % 32, 0)] {
        let index = unit as usize * 32 + word;
        let right = machine.word(frame, index);
        machine.set_word(frame, index, right ^ 1 << 13);
        if word == 0 {
            // A chain that ends too early.
            machine.set_word(frame, index, 0);
        }
        assert_eq!(get(&store, place, &machine), Err(Damaged), "word {word}");
        machine.set_word(frame, index, right);
    }
    assert_eq!(get(&store, place, &machine), Ok(bytes(7, 500)));
}

proptest! {
    /// Whatever is put and removed, what is there is there, and every frame is in the pool or the store.
    #[test]
    fn the_store_is_a_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..=MOST), 1..300)) {
        const FRAMES: u64 = 60;
        let (mut store, mut pool, mut machine) = store(FRAMES);
        store.reserve(&mut pool, &mut machine);
        let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for (n, (put, which, len)) in steps.into_iter().enumerate() {
            let key = model.keys().nth(which.index(model.len().max(1))).copied();
            match key {
                Some(place) if !put => {
                    store.remove(place, &mut pool, &mut machine);
                    model.remove(&place);
                }
                _ => if let Ok(place) = store.put(&bytes(n as u8, len), &mut pool, &mut machine) {
                    prop_assert!(model.insert(place, bytes(n as u8, len)).is_none(), "one place for two");
                },
            }
            prop_assert_eq!(store.frames() + pool.left(), FRAMES);
        }
        prop_assert_eq!(store.pages(), model.len() as u64);
        for (place, bytes) in &model {
            prop_assert_eq!(get(&store, *place, &machine), Ok(bytes.clone()));
        }
        let mut frame = store.partial;
        while let Some(at) = frame.checked_sub(1) {
            let free = machine.word(at, head::FREE);
            prop_assert!(free != 0 && free != ALL_FREE, "frames of the list have room, and are not empty");
            frame = machine.word(at, head::NEXT);
        }
    }
}
