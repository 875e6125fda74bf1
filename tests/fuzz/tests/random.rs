//! The promises of `fuzz_checks` for every seed, and for seeds with random changes. Ordinary
//! tests without a fuzzer; those of `words`, `postcard` and `grant` also run under Miri where there is one.

use fuzz_checks::{ALL, seed};
use proptest::prelude::*;
use proptest::sample::Index;

/// Cases of a property: an interpreter is slow.
const CASES: u32 = if cfg!(miri) { 8 } else { 512 };

fn check_of(door: &str) -> fn(&[u8]) {
    ALL.iter().find(|(name, _)| *name == door).expect("a door").1
}

fn seeds_of(door: &str) -> Vec<Vec<u8>> {
    seed::all().into_iter().filter(|(at, _, _)| *at == door).map(|(_, _, bytes)| bytes).collect()
}

#[test]
fn every_seed_keeps_every_promise() {
    for (door, check) in ALL {
        let seeds = seeds_of(door);
        assert!(seeds.len() >= 20, "{} seeds of {door}", seeds.len());
        seeds.iter().for_each(|seed| check(seed));
    }
}

#[test]
fn no_bit_of_words_makes_them_say_what_they_do_not() {
    for mut bytes in seeds_of("words") {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            check_of("words")(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A seed, some of whose bytes are others, of which some are missing, or which goes on.
fn changed(door: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let seeds = seeds_of(door);
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..8);
    let more = prop::collection::vec(any::<u8>(), 0..64);
    (any::<Index>(), changes, any::<Index>(), more).prop_map(move |(which, changes, cut, more)| {
        let mut bytes = which.get(&seeds).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len().max(1));
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        if more.len() < 16 {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes.extend(more);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_are_read_as_they_are_written(bytes in changed("words")) {
        check_of("words")(&bytes);
    }

    #[test]
    fn bytes_are_read_as_they_are_written(bytes in changed("postcard")) {
        check_of("postcard")(&bytes);
    }

    #[test]
    fn no_grant_maps_what_it_may_not(bytes in changed("grant")) {
        check_of("grant")(&bytes);
    }

    #[test]
    fn the_pager_answers_whatever_it_receives(bytes in changed("pager")) {
        check_of("pager")(&bytes);
    }
}
