//! The table's promises.

use super::{FastStrings, GeneralProtection, Msrs, PAT_RESET, efer};
use ipc_proto::state::{StateMask, VcpuState};

const CR0_PG: u64 = 1 << 31;

fn msrs() -> (Msrs, VcpuState) {
    (Msrs::new(2_400_000_000, FastStrings::On), VcpuState::default())
}

#[test]
fn an_unknown_register_is_gp_both_ways_and_is_counted() {
    let (mut msrs, mut state) = msrs();
    assert_eq!(msrs.read(0x1234, &state, 0), Err(GeneralProtection));
    assert_eq!(msrs.write(0x1234, 0, &mut state), Err(GeneralProtection));
    assert_eq!(msrs.read(0x6e0, &state, 0), Err(GeneralProtection));
    assert_eq!(msrs.unknown.iter().collect::<std::vec::Vec<_>>(), [(0x1234, 2), (0x6e0, 1)]);
}

#[test]
fn a_known_register_is_not_counted() {
    let (mut msrs, mut state) = msrs();
    for number in [0x10, 0x1b, 0x8b, 0x1a0, 0x277, 0xc000_0080] {
        assert!(msrs.read(number, &state, 0).is_ok(), "{number:#x}");
    }
    assert_eq!(msrs.write(0xce, 0, &mut state), Err(GeneralProtection));
    assert_eq!(msrs.unknown.total(), 0);
}

#[test]
fn the_time_stamp_counter_is_the_clock() {
    let (mut msrs, state) = msrs();
    assert_eq!(msrs.read(0x10, &state, 123_456), Ok(123_456));
}

#[test]
fn kept_registers_read_as_written() {
    let (mut msrs, mut state) = msrs();
    assert_eq!(msrs.read(0x1b, &state, 0), Ok(0xfee0_0900));
    assert_eq!(msrs.write(0x1a0, 0x1800, &mut state), Ok(StateMask::empty()));
    assert_eq!(msrs.read(0x1a0, &state, 0), Ok(0x1800));
}

#[test]
fn pat_goes_to_the_cpu_and_takes_valid_types_only() {
    let (mut msrs, mut state) = msrs();
    assert_eq!(msrs.read(0x277, &state, 0), Ok(PAT_RESET));
    let value = 0x0407_0506_0007_0106;
    assert_eq!(msrs.write(0x277, value, &mut state), Ok(StateMask::PAT));
    assert_eq!((state.pat, msrs.read(0x277, &state, 0)), (value, Ok(value)));
    for wrong in [2, 3, 8, 0xff] {
        assert_eq!(msrs.write(0x277, value & !0xff | wrong, &mut state), Err(GeneralProtection));
    }
}

#[test]
fn efer_takes_system_calls_long_mode_and_no_execute() {
    let (mut msrs, mut state) = msrs();
    let value = efer::SCE | efer::LME | efer::NXE;
    assert_eq!(msrs.write(0xc000_0080, value, &mut state), Ok(StateMask::EFER));
    assert_eq!(state.efer, value);
    for bit in [1, 12, 13, 14, 15, 63] {
        assert_eq!(msrs.write(0xc000_0080, value | 1 << bit, &mut state), Err(GeneralProtection), "bit {bit}");
    }
    assert_eq!(state.efer, value);
}

#[test]
fn long_mode_cannot_be_switched_while_paging_and_its_activity_is_not_the_guests_to_set() {
    let (mut msrs, mut state) = msrs();
    assert_eq!(msrs.write(0xc000_0080, efer::LMA, &mut state), Ok(StateMask::EFER));
    assert_eq!(state.efer, 0);
    state.cr0 = CR0_PG;
    assert_eq!(msrs.write(0xc000_0080, efer::LME, &mut state), Err(GeneralProtection));
    state.efer = efer::LME | efer::LMA;
    assert_eq!(msrs.write(0xc000_0080, 0, &mut state), Err(GeneralProtection));
    assert_eq!(msrs.write(0xc000_0080, efer::LME | efer::NXE, &mut state), Ok(StateMask::EFER));
    assert_eq!(state.efer, efer::LME | efer::LMA | efer::NXE);
}

#[test]
fn a_guest_is_told_of_fast_strings_where_the_host_has_them_on() {
    for (strings, bit) in [(FastStrings::Off, 0), (FastStrings::On, 1)] {
        let value = Msrs::new(1_000_000, strings).read(0x1a0, &VcpuState::default(), 0).unwrap();
        assert_eq!(value & 1, bit, "{strings:?}");
        assert_eq!(value >> 11 & 3, 3, "neither trace storage nor precise sampling");
    }
}
