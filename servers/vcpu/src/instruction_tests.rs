//! The decoder's output for instructions as compilers write them at device memory.

use super::{Extend, Instruction, Operation, Register, Segment, Source, decode};
use crate::alu::Alu;
use crate::translate::Width;

const fn register(number: u8, size: u8) -> Register {
    Register { number, size, high_byte: false }
}

fn long(bytes: &[u8]) -> (Operation, u8, u8) {
    of(bytes, Width::Bits64)
}

/// Operation, size of the memory operand, length. Bytes behind the instruction do not matter.
fn of(bytes: &[u8], width: Width) -> (Operation, u8, u8) {
    let mut padded = [0xcc; 15];
    padded[..bytes.len()].copy_from_slice(bytes);
    let Instruction { operation, size, length, .. } = decode(&padded, width).unwrap();
    assert_eq!(usize::from(length), bytes.len());
    (operation, size, length)
}

#[test]
fn moves_of_every_size_both_ways() {
    use Operation::{Load, Store};
    let load = |number, size| Load(register(number, size), Extend::Zero);
    let store = |number, size| Store(Source::Register(register(number, size)));
    for (bytes, operation, size) in [
        (&[0x8a, 0x07][..], load(0, 1), 1),
        (&[0x66, 0x8b, 0x0f], load(1, 2), 2),
        (&[0x8b, 0x50, 0x20], load(2, 4), 4),
        (&[0x4c, 0x8b, 0xbf, 0, 0x10, 0, 0], load(15, 8), 8),
        (&[0x88, 0x07], store(0, 1), 1),
        (&[0x40, 0x88, 0x37], store(6, 1), 1),
        (&[0x66, 0x89, 0x0c, 0x47], store(1, 2), 2),
        (&[0x89, 0x04, 0x25, 0xf0, 0, 0xe0, 0xfe], store(0, 4), 4),
        (&[0x4d, 0x89, 0x04, 0x24], store(8, 8), 8),
        (&[0x0f, 0xc3, 0x07], store(0, 4), 4),
    ] {
        assert_eq!(long(bytes), (operation, size, bytes.len() as u8), "{bytes:02x?}");
    }
}

#[test]
fn high_bytes_are_not_the_low_bytes_of_other_registers() {
    let ah = Register { number: 0, size: 1, high_byte: true };
    assert_eq!(long(&[0x88, 0x27]).0, Operation::Store(Source::Register(ah)));
    assert_eq!(of(&[0x88, 0x27], Width::Bits32).0, Operation::Store(Source::Register(ah)));
    assert_eq!(long(&[0x40, 0x88, 0x27]).0, Operation::Store(Source::Register(register(4, 1))));
}

#[test]
fn extending_moves() {
    use Operation::Load;
    for (bytes, operation, size) in [
        (&[0x0f, 0xb6, 0x07][..], Load(register(0, 4), Extend::Zero), 1),
        (&[0x0f, 0xb7, 0x07], Load(register(0, 4), Extend::Zero), 2),
        (&[0x48, 0x0f, 0xbe, 0x07], Load(register(0, 8), Extend::Sign), 1),
        (&[0x0f, 0xbf, 0x07], Load(register(0, 4), Extend::Sign), 2),
        (&[0x48, 0x63, 0x07], Load(register(0, 8), Extend::Sign), 4),
    ] {
        assert_eq!(long(bytes), (operation, size, bytes.len() as u8), "{bytes:02x?}");
    }
}

#[test]
fn immediates_are_sign_extended() {
    let store = |value: i64| Operation::Store(Source::Immediate(value as u64));
    for (bytes, operation, size) in [
        (&[0xc6, 0x07, 0x20][..], store(0x20), 1),
        (&[0x66, 0xc7, 0x07, 0x20, 0x07], store(0x0720), 2),
        (&[0xc7, 0x07, 0xff, 0x01, 0, 0], store(0x1ff), 4),
        (&[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], store(-1), 8),
    ] {
        let (decoded, decoded_size, _) = long(bytes);
        assert_eq!(decoded_size, size);
        let Operation::Store(Source::Immediate(value)) = decoded else { panic!("{decoded:?}") };
        let Operation::Store(Source::Immediate(wanted)) = operation else { unreachable!() };
        assert_eq!(value & crate::alu::mask(size), wanted & crate::alu::mask(size), "{bytes:02x?}");
    }
}

#[test]
fn arithmetic_in_both_directions() {
    use Operation::{Compute, Modify};
    let eax = register(0, 4);
    for (bytes, operation) in [
        (&[0x09, 0x07][..], Modify(Alu::Or, Source::Register(eax))),
        (&[0x23, 0x07], Compute(Alu::And, eax)),
        (&[0x33, 0x07], Compute(Alu::Xor, eax)),
        (&[0x83, 0x07, 0x01], Modify(Alu::Add, Source::Immediate(1))),
        (&[0x29, 0x07], Modify(Alu::Sub, Source::Register(eax))),
        (&[0x3b, 0x07], Compute(Alu::Cmp, eax)),
        (&[0x39, 0x07], Modify(Alu::Cmp, Source::Register(eax))),
        (&[0xf7, 0x07, 0, 0x10, 0, 0], Modify(Alu::Test, Source::Immediate(0x1000))),
        (&[0x85, 0x07], Modify(Alu::Test, Source::Register(eax))),
        (&[0x11, 0x07], Modify(Alu::Adc, Source::Register(eax))),
        (&[0x1b, 0x07], Compute(Alu::Sbb, eax)),
        (&[0xff, 0x07], Operation::Step(Alu::Add)),
        (&[0xff, 0x0f], Operation::Step(Alu::Sub)),
        (&[0xf7, 0x1f], Operation::Negate),
        (&[0xf7, 0x17], Operation::Invert),
        (&[0x87, 0x07], Operation::Exchange(eax)),
        (&[0xf0, 0x01, 0x07], Modify(Alu::Add, Source::Register(eax))),
    ] {
        assert_eq!(long(bytes), (operation, 4, bytes.len() as u8), "{bytes:02x?}");
    }
}

#[test]
fn strings_know_their_repetition_address_size_and_segment() {
    let decoded = |bytes: &[u8], width| {
        let Instruction { operation, size, repeats, address_size, .. } = decode(bytes, width).unwrap();
        (operation, size, repeats, address_size)
    };
    use Operation::{LoadString, MoveString, PortToString, StoreString, StringToPort};
    assert_eq!(decoded(&[0xf3, 0x48, 0xab], Width::Bits64), (StoreString, 8, true, 8));
    assert_eq!(decoded(&[0x67, 0xf3, 0xa4], Width::Bits64), (MoveString, 1, true, 4));
    assert_eq!(decoded(&[0xf3, 0x66, 0xab], Width::Bits32), (StoreString, 2, true, 4));
    assert_eq!(decoded(&[0x64, 0xad], Width::Bits32), (LoadString, 4, false, 4));
    assert_eq!(decoded(&[0x26, 0xa5], Width::Bits16), (MoveString, 2, false, 2));
    assert_eq!(decoded(&[0xf3, 0x6e], Width::Bits64), (StringToPort, 1, true, 8));
    assert_eq!(decoded(&[0x66, 0x6d], Width::Bits64), (PortToString, 2, false, 8));
    assert_eq!(decoded(&[0x6f], Width::Bits32), (StringToPort, 4, false, 4));

    let source = |bytes: &[u8], width| decode(bytes, width).unwrap().source_segment;
    assert_eq!(source(&[0xf3, 0xa4], Width::Bits64), Segment::Ds);
    assert_eq!(source(&[0x6e], Width::Bits32), Segment::Ds);
    assert_eq!(source(&[0x65, 0xac], Width::Bits64), Segment::Gs);
    assert_eq!(source(&[0x64, 0xad], Width::Bits32), Segment::Fs);
    assert_eq!(source(&[0x26, 0xa5], Width::Bits16), Segment::Es);
    assert_eq!(source(&[0x2e, 0x6e], Width::Bits16), Segment::Cs);
}

#[test]
fn the_modes_read_the_same_bytes_differently() {
    let bytes = [0x8b, 0x07];
    assert_eq!(of(&bytes, Width::Bits64).1, 4);
    assert_eq!(of(&bytes, Width::Bits32).1, 4);
    assert_eq!(of(&bytes, Width::Bits16).1, 2);
    assert_eq!(of(&[0xa1, 0x34, 0x12], Width::Bits16), (Operation::Load(register(0, 2), Extend::Zero), 2, 3));
    assert_eq!(of(&[0xa3, 0xf0, 0, 0xe0, 0xfe], Width::Bits32).0, Operation::Store(Source::Register(register(0, 4))));
}

#[test]
fn what_is_not_emulated_is_refused() {
    // MOVAPS, LEA, CALL through memory, an invalid opcode, nothing.
    for bytes in [&[0x0f, 0x28, 0x07][..], &[0x48, 0x8d, 0x07], &[0xff, 0x17], &[0x0f, 0x0b], &[]] {
        assert!(decode(bytes, Width::Bits64).is_err(), "{bytes:02x?}");
    }
}
