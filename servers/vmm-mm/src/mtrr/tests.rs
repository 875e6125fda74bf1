use super::{Mtrrs, NoRegister};
use ipc_proto::grant::Gfn;
use std::vec::Vec;

const ON: u64 = 1 << 11;
const FIXED_ON: u64 = 1 << 10;
const WB: u64 = 6;
const VALID: u64 = 1 << 11;

fn with(writes: &[(u32, u64)]) -> Mtrrs {
    let mut mtrrs = Mtrrs::OFF;
    for (register, value) in writes {
        mtrrs.write(*register, *value).expect("a register");
    }
    mtrrs
}

#[test]
fn switched_off_everything_is_uniform() {
    let mtrrs = with(&[(0x200, 0x10_0000), (0x201, !0xfff & 0xf_ffff_ffff | VALID), (0x2ff, WB)]);
    assert!(mtrrs.is_uniform(Gfn(0), 512));
}

#[test]
fn a_range_smaller_than_the_page_makes_it_mixed() {
    // 64 KiB uncached at 6 MiB.
    let mask = !0xffff & 0xf_ffff_ffff | VALID;
    let mtrrs = with(&[(0x200, 0x60_0000), (0x201, mask), (0x2ff, WB | ON)]);
    assert!(!mtrrs.is_uniform(Gfn(0x600), 512));
    assert!(mtrrs.is_uniform(Gfn(0x400), 512) && mtrrs.is_uniform(Gfn(0x800), 512));
    assert!(mtrrs.is_uniform(Gfn(0x600), 1) && mtrrs.is_uniform(Gfn(0x600), 16), "each small page has one type");
    assert!(!mtrrs.is_uniform(Gfn(0), 1 << 18), "nor has the gigabyte");
    let invalid = with(&[(0x200, 0x60_0000), (0x201, mask & !VALID), (0x2ff, WB | ON)]);
    assert!(invalid.is_uniform(Gfn(0x600), 512));
}

#[test]
fn a_range_of_whole_pages_is_uniform() {
    // 512 MiB write-back from 0, everything else uncached, as firmware sets it.
    let mask = !(0x2000_0000 - 1) & 0xf_ffff_ffff | VALID;
    let mtrrs = with(&[(0x200, WB), (0x201, mask), (0x2ff, ON)]);
    for gfn in [0x200, 0x1_fe00, 0x2_0000, 0x10_0000] {
        assert!(mtrrs.is_uniform(Gfn(gfn), 512), "{gfn:#x}");
    }
    assert!(!mtrrs.is_uniform(Gfn(0), 1 << 18), "the first gigabyte is half one, half the other");
}

#[test]
fn the_first_megabyte_has_types_of_its_own() {
    let all_wb = 0x0606_0606_0606_0606;
    let mut writes: Vec<(u32, u64)> = super::FIXED.iter().map(|(register, ..)| (*register, all_wb)).collect();
    writes.push((0x2ff, WB | ON | FIXED_ON));
    assert!(with(&writes).is_uniform(Gfn(0), 512), "and the same beyond it");
    writes.push((0x259, 0));
    assert!(!with(&writes).is_uniform(Gfn(0), 512), "video memory is uncached");
    assert!(with(&writes).is_uniform(Gfn(0), 128) && with(&writes).is_uniform(Gfn(0x200), 512));
    writes.push((0x259, all_wb));
    writes.push((0x2ff, ON | FIXED_ON));
    assert!(!with(&writes).is_uniform(Gfn(0), 512), "uncached beyond it");
    writes.push((0x2ff, WB | ON));
    writes.push((0x259, 0));
    assert!(with(&writes).is_uniform(Gfn(0), 512), "fixed ranges are off");
}

#[test]
fn what_is_no_register_changes_nothing() {
    let mut mtrrs = Mtrrs::OFF;
    for register in [0, 0x1ff, 0x214, 0x251, 0x270, 0x2fe, 0x300, u32::MAX] {
        assert_eq!(mtrrs.write(register, u64::MAX), Err(NoRegister), "{register:#x}");
    }
    assert_eq!(mtrrs, Mtrrs::OFF);
}
