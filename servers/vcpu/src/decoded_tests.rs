//! What is kept is a function of bytes and width: nothing else may decide what is found.

use super::{Code, Decoded, KEPT};
use crate::instruction::{Extend, Operation, Register, Source};
use crate::translate::Width;

const RIP: u64 = 0xffff_ffff_8123_4567;

fn code(bytes: &[u8]) -> Code {
    let mut whole = [0xcc; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Code::whole(whole)
}

const fn load(number: u8, size: u8) -> Operation {
    Operation::Load(Register { number, size, high_byte: false }, Extend::Zero)
}

#[test]
fn the_same_bytes_are_decoded_once_whatever_lies_behind_them() {
    let mut decoded = Decoded::new();
    for behind in [0x00, 0x90, 0xff] {
        let mut bytes = [behind; 16];
        bytes[..2].copy_from_slice(&[0x8b, 0x07]);
        assert_eq!(decoded.decode(RIP, &Code::whole(bytes), Width::Bits64).unwrap().operation, load(0, 4));
    }
    assert_eq!(decoded.asked(), 1);
}

#[test]
fn one_byte_more_or_less_or_other_is_another_instruction() {
    let mut decoded = Decoded::new();
    // mov eax, [rdi]; mov ecx, [rdi]; mov rax, [rdi]; and again: at the same place each time.
    for _ in 0..2 {
        for (bytes, operation, length) in
            [(&[0x8b, 0x07][..], load(0, 4), 2), (&[0x8b, 0x0f], load(1, 4), 2), (&[0x48, 0x8b, 0x07], load(0, 8), 3)]
        {
            let found = decoded.decode(RIP, &code(bytes), Width::Bits64).unwrap();
            assert_eq!((found.operation, found.length), (operation, length));
        }
    }
    // Every byte of the longest form counts, in both words.
    let long = [0x48, 0xc7, 0x84, 0x88, 1, 2, 3, 4, 5, 6, 7, 8];
    for changed in 4..12 {
        let mut other = long;
        decoded.decode(RIP, &code(&long), Width::Bits64).unwrap();
        let asked = decoded.asked();
        other[changed] ^= 0x40;
        let found = decoded.decode(RIP, &code(&other), Width::Bits64).unwrap();
        assert_eq!(decoded.asked(), asked + 1, "byte {changed}");
        let immediate = i32::from_le_bytes(other[8..].try_into().unwrap());
        assert_eq!(found.operation, Operation::Store(Source::Immediate(i64::from(immediate) as u64)));
    }
}

#[test]
fn the_same_bytes_in_another_width_are_another_instruction() {
    let mut decoded = Decoded::new();
    let bytes = code(&[0x8b, 0x07]);
    for _ in 0..2 {
        assert_eq!(decoded.decode(0x100, &bytes, Width::Bits64).unwrap().operation, load(0, 4));
        assert_eq!(decoded.decode(0x100, &bytes, Width::Bits16).unwrap().operation, load(0, 2));
    }
}

#[test]
fn bytes_that_could_not_all_be_fetched_are_not_taken_for_the_whole_instruction() {
    let mut decoded = Decoded::new();
    // mov dword [rdi], 0: its last bytes are zeros, as what is missing reads.
    let whole = [0xc7, 0x07, 0, 0, 0, 0];
    decoded.decode(RIP, &code(&whole), Width::Bits64).unwrap();
    let mut part = Code::default();
    whole[..4].iter().for_each(|byte| part.push(*byte));
    assert!(decoded.decode(RIP, &part, Width::Bits64).is_err());
    whole[4..].iter().for_each(|byte| part.push(*byte));
    assert!(decoded.decode(RIP, &part, Width::Bits64).is_ok());
}

#[test]
fn what_is_no_instruction_is_not_kept() {
    let mut decoded = Decoded::new();
    for _ in 0..2 {
        assert!(decoded.decode(RIP, &code(&[0x0f, 0xff]), Width::Bits64).is_err());
    }
    assert_eq!(decoded.asked(), 2);
}

#[test]
fn instructions_close_together_are_kept_side_by_side() {
    let mut decoded = Decoded::new();
    for _ in 0..3 {
        for offset in 0..KEPT as u64 / 4 {
            decoded.decode(RIP + 3 * offset, &code(&[0x8b, 0x07]), Width::Bits64).unwrap();
        }
    }
    assert_eq!(decoded.asked(), KEPT as u64 / 4);
}
