use super::{Compressor, Damaged, Form, MOST, Packed, fingerprint, is_zero};
use crate::machine::{FRAME, Memory, PageBytes};
use crate::testing::FakeMachine;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

fn compressor() -> Box<Compressor> {
    Box::new(Compressor::EMPTY)
}

fn noise(seed: u64) -> PageBytes {
    let mut page = [0; FRAME];
    let mut value = seed;
    for byte in &mut page {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (value >> 56) as u8;
    }
    page
}

#[test]
fn a_page_of_zeros_costs_nothing_and_noise_is_not_stored() {
    let (mut compressor, mut machine) = (compressor(), FakeMachine::default());
    machine.clear(3);
    assert_eq!(compressor.pack(3, &machine), Packed::Zero);
    machine.write(3, &noise(1));
    assert_eq!(compressor.pack(3, &machine), Packed::TooLarge);
    machine.clear(3);
    machine.set_word(3, 1023, 1 << 24);
    assert!(
        matches!(compressor.pack(3, &machine), Packed::Bytes(1..100, Form::Repeated)),
        "one byte is not zero: the last"
    );
}

/// Pages of which LZ4 would make a fourth: it is not even tried where the sample is noise.
#[test]
fn a_sample_decides_for_the_page() {
    let (mut compressor, mut machine) = (compressor(), FakeMachine::default());
    let text: Vec<u8> = (0..FRAME).map(|n| b"a text that comes back"[n % 22]).collect();
    for (noisy, packed) in [(super::PIECES, false), ([0, FRAME / 2], true)] {
        let mut page: PageBytes = text.clone().try_into().expect("a page");
        for from in noisy {
            page[from..from + super::PIECE].copy_from_slice(&noise(from as u64)[..super::PIECE]);
        }
        machine.write(1, &page);
        assert_eq!(compressor.pack(1, &machine) != Packed::TooLarge, packed, "{noisy:?}");
    }
}

#[test]
fn what_is_not_a_page_is_damaged_and_touches_nothing() {
    let (mut compressor, mut machine) = (compressor(), FakeMachine::default());
    machine.write(3, &noise(1));
    compressor.bytes()[..100].copy_from_slice(&noise(2)[..100]);
    for len in [0, 1, 100, usize::MAX] {
        assert_eq!(compressor.unpack(len, 3, &mut machine), Err(Damaged), "{len}");
    }
    let mut page = [0; FRAME];
    machine.read(3, &mut page);
    assert_eq!(page, noise(1));
}

#[test]
fn a_fingerprint_is_the_contents() {
    let mut other = noise(1);
    other[4095] ^= 1;
    assert!(fingerprint(&noise(1)) == fingerprint(&noise(1)) && fingerprint(&noise(1)) != fingerprint(&other));
    assert!(is_zero(&[0; FRAME]) && !is_zero(&other));
}

proptest! {
    /// Runs of equal bytes between noise: whatever is stored comes back.
    #[test]
    fn what_is_packed_is_unpacked(seed in any::<u64>(), runs in prop::collection::vec((0usize..FRAME, 1usize..900, any::<u8>()), 0..12)) {
        let mut page = noise(seed);
        for (start, len, byte) in runs {
            page.iter_mut().skip(start).take(len).for_each(|at| *at = byte);
        }
        let (mut compressor, mut machine) = (compressor(), FakeMachine::default());
        machine.write(1, &page);
        if let Packed::Bytes(len, _) = compressor.pack(1, &machine) {
            prop_assert!(len <= MOST);
            compressor.unpack(len, 2, &mut machine).expect("what was packed");
            let mut back = [0; FRAME];
            machine.read(2, &mut back);
            prop_assert_eq!(back, page);
        }
    }
}
