//! One walk over every kind of table.

use super::{Access, NoTranslation, Width, translate, width};
use crate::control::{cr0, cr4};
use crate::memory::GuestMemory;
use crate::msr::efer;
use crate::testing::Memory;
use ipc_proto::state::{Segment, VcpuState};

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;

fn memory() -> Memory {
    Memory::new(16 << 20)
}

fn put(memory: &mut Memory, at: u64, entry: u64, size: usize) {
    memory.write(at, &entry.to_le_bytes()[..size]).unwrap();
}

fn get(memory: &Memory, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn paging(cr4: u64, efer: u64) -> VcpuState {
    let cs = Segment { access: if efer & efer::LMA != 0 { 0xa09b } else { 0xc09b }, ..Segment::default() };
    VcpuState { cr0: cr0::PG | cr0::PE | 1 << 16, cr3: 0x1000, cr4, efer, cs, ..VcpuState::default() }
}

fn long() -> VcpuState {
    paging(cr4::PAE, efer::LME | efer::LMA)
}

/// 4 KiB at 0x7fff_1234_5000, 2 MiB beside it, 1 GiB at 512 GiB.
fn long_tables() -> Memory {
    let mut memory = memory();
    let index = |linear: u64, level: u32| (linear >> (12 + 9 * level) & 0x1ff) * 8;
    let linear = 0x7fff_1234_5000;
    put(&mut memory, 0x1000 + index(linear, 3), 0x2000 | P | RW | US, 8);
    put(&mut memory, 0x2000 + index(linear, 2), 0x3000 | P | RW | US, 8);
    put(&mut memory, 0x3000 + index(linear, 1), 0x4000 | P | RW | US, 8);
    put(&mut memory, 0x3000 + index(linear, 1) + 8, 0x60_0000 | P | RW | PS, 8);
    put(&mut memory, 0x4000 + index(linear, 0), 1 << 63 | 0xabc000 | P | US, 8);
    put(&mut memory, 0x1008, 0x5000 | P | RW, 8);
    put(&mut memory, 0x5000, 0x4000_0000 | P | RW | PS, 8);
    memory
}

#[test]
fn four_levels_translate_every_page_size() {
    let mut memory = long_tables();
    let mut at = |linear| translate(&long(), &mut memory, linear, Access::Read);
    assert_eq!(at(0x7fff_1234_5678), Ok(0xabc678));
    assert_eq!(at(0x7fff_1240_0000 + 0x12345), Ok(0x60_0000 + 0x12345));
    assert_eq!(at((512 << 30) + 0x1234_5678), Ok(0x4000_0000 + 0x1234_5678));
}

#[test]
fn pae_has_three_levels_and_bare_pointers() {
    let mut memory = memory();
    let state = paging(cr4::PAE, 0);
    put(&mut memory, 0x1000 + 3 * 8, 0x2000 | P, 8);
    put(&mut memory, 0x2000, 0x3000 | P | RW, 8);
    put(&mut memory, 0x2008, 0x80_0000 | P | RW | PS, 8);
    put(&mut memory, 0x3000 + 5 * 8, 0x7000 | P | RW, 8);
    assert_eq!(translate(&state, &mut memory, 0xc000_5123, Access::Write), Ok(0x7123));
    assert_eq!(translate(&state, &mut memory, 0xc020_0042, Access::Write), Ok(0x80_0042));
    assert_eq!(get(&memory, 0x1018), 0x2000 | P, "pointers have no accessed bit");
}

#[test]
fn thirty_two_bit_tables_have_two_levels_and_4_mib_pages() {
    let mut memory = memory();
    put(&mut memory, 0x1000, 0x2000 | P | RW, 4);
    put(&mut memory, 0x2000 + 4 * 4, 0x9000 | P | RW, 4);
    put(&mut memory, 0x1000 + 0x300 * 4, 0x40_0000 | 1 << 13 | P | RW | PS, 4);
    let state = paging(1 << 4, 0);
    assert_eq!(translate(&state, &mut memory, 0x4567, Access::Read), Ok(0x9567));
    assert_eq!(translate(&state, &mut memory, 0xc012_3456, Access::Read), Ok(0x1_0040_0000 + 0x12_3456));
}

#[test]
fn without_paging_the_address_is_physical_and_32_bits_wide() {
    let state = VcpuState { cs: Segment { access: 0xc09b, ..Segment::default() }, ..VcpuState::default() };
    assert_eq!(translate(&state, &mut memory(), 0x1_0000_1234, Access::Read), Ok(0x1234));
}

#[test]
fn a_missing_entry_is_a_page_fault_with_its_code() {
    let mut memory = long_tables();
    let fault = |memory: &mut Memory, linear, access| translate(&long(), memory, linear, access);
    let hole = 0x7fff_1234_6000;
    assert_eq!(fault(&mut memory, hole, Access::Read), Err(NoTranslation::PageFault(hole, 0)));
    assert_eq!(fault(&mut memory, hole, Access::Write), Err(NoTranslation::PageFault(hole, 2)));
    let read_only = 0x7fff_1234_5008;
    assert_eq!(fault(&mut memory, read_only, Access::Write), Err(NoTranslation::PageFault(read_only, 3)));
}

#[test]
fn user_code_reaches_user_pages_only() {
    let mut memory = long_tables();
    let mut state = long();
    state.ss.access = 3 << 5;
    assert!(translate(&state, &mut memory, 0x7fff_1234_5000, Access::Read).is_ok());
    let supervisor = 0x7fff_1240_0000;
    let forbidden = translate(&state, &mut memory, supervisor, Access::Read);
    assert_eq!(forbidden, Err(NoTranslation::PageFault(supervisor, 5)));
}

#[test]
fn a_supervisor_writes_read_only_pages_where_write_protection_is_off() {
    let mut memory = long_tables();
    let mut state = long();
    state.cr0 &= !(1 << 16);
    assert!(translate(&state, &mut memory, 0x7fff_1234_5000, Access::Write).is_ok());
}

#[test]
fn accessed_and_dirty_bits_are_set_as_the_cpu_sets_them() {
    let mut memory = long_tables();
    let entry = 0x3000 + (0x7fff_1240_0000_u64 >> 21 & 0x1ff) * 8;
    translate(&long(), &mut memory, 0x7fff_1240_0000, Access::Read).unwrap();
    assert_eq!(get(&memory, entry) & (A | D), A);
    translate(&long(), &mut memory, 0x7fff_1240_0000, Access::Write).unwrap();
    assert_eq!(get(&memory, entry) & (A | D), A | D);
    assert_eq!(get(&memory, 0x1000 + 0xff * 8) & (A | D), A);
}

#[test]
fn a_forbidden_access_leaves_no_dirty_bit() {
    let mut memory = long_tables();
    assert!(translate(&long(), &mut memory, 0x7fff_1234_5000, Access::Write).is_err());
    assert_eq!(get(&memory, 0x4000 + 0x145 * 8) & D, 0);
}

#[test]
fn tables_outside_of_ram_are_no_walk() {
    let mut state = long();
    state.cr3 = 0xb_8000;
    assert_eq!(translate(&state, &mut memory(), 0, Access::Read), Err(NoTranslation::TableOutsideRam));
}

#[test]
fn the_width_is_the_code_segments() {
    let mut state = long();
    assert_eq!(width(&state), Width::Bits64);
    state.cs.access = 0xc09b;
    assert_eq!(width(&state), Width::Bits32, "compatibility mode");
    state.cs.access = 0x9b;
    assert_eq!(width(&state), Width::Bits16);
    state.efer = 0;
    state.cs.access = 0xa09b;
    assert_eq!(width(&state), Width::Bits16, "L means nothing outside of long mode");
}
