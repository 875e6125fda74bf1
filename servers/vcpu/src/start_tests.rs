//! The start states, and the tables they stand on, as the CPU would read them.

use super::{CODE, DATA, long_mode, place, protected_mode, write_tables};
use crate::memory::GuestMemory;
use crate::testing::Memory;
use crate::translate::{Access, Width, translate, width};
use ipc_proto::state::{Segment, VcpuState};

fn ready() -> Memory {
    let mut memory = Memory::new(8 << 20);
    write_tables(&mut memory).unwrap();
    memory
}

/// The hidden part of a segment register as loading `selector` from the descriptor table would set it.
fn descriptor(memory: &Memory, state: &VcpuState, selector: u64) -> Segment {
    assert!(selector + 7 <= state.gdtr.limit);
    let mut bytes = [0; 8];
    memory.read(state.gdtr.base + selector, &mut bytes).unwrap();
    let entry = u64::from_le_bytes(bytes);
    let limit = entry & 0xffff | entry >> 32 & 0xf_0000;
    let access = entry >> 40 & 0xf0ff;
    let limit = if access & 1 << 15 != 0 { limit << 12 | 0xfff } else { limit };
    Segment { selector, base: entry >> 16 & 0xff_ffff | entry >> 56 << 24, limit, access }
}

#[test]
fn the_segments_are_those_of_the_descriptor_table() {
    let mut memory = ready();
    let state = long_mode(0x10_0000);
    assert_eq!(descriptor(&memory, &state, CODE), state.cs);
    assert_eq!(descriptor(&memory, &state, DATA), state.ss);
    let state = protected_mode(0x10_0000, &mut memory).unwrap();
    assert_eq!(descriptor(&memory, &state, CODE), state.cs);
    assert_eq!(descriptor(&memory, &state, DATA), state.ds);
}

#[test]
fn the_first_4_gib_are_mapped_to_themselves() {
    let mut memory = ready();
    let state = long_mode(0x10_0000);
    for linear in [0, 0xfff, 0x20_0000, 0x1234_5678, 0xc000_0000, 0xffff_ffff] {
        assert_eq!(translate(&state, &mut memory, linear, Access::Write), Ok(linear));
    }
    assert!(translate(&state, &mut memory, 1 << 32, Access::Read).is_err());
}

#[test]
fn both_states_run_in_their_width_with_interrupts_off() {
    let mut memory = ready();
    let (long, protected) = (long_mode(1), protected_mode(2, &mut memory).unwrap());
    assert_eq!((width(&long), width(&protected)), (Width::Bits64, Width::Bits32));
    assert_eq!((long.rflags, protected.rflags), (2, 2));
    assert_eq!(protected.cr0 & (1 << 31), 0);
    assert_eq!(protected.efer, 0);
}

#[test]
fn the_tables_lie_below_64_kib() {
    let memory = ready();
    let mut rest = std::vec![0; 0x9_0000];
    memory.read(0x1_0000, &mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == 0));
}

#[test]
fn old_kernels_find_the_serial_port_and_the_size_of_conventional_memory() {
    let memory = ready();
    let mut bytes = [0; 0x15];
    memory.read(place::BDA, &mut bytes).unwrap();
    assert_eq!((&bytes[..2], &bytes[0x13..]), (&[0xf8, 0x03][..], &[0x7f, 0x02][..]));
}
