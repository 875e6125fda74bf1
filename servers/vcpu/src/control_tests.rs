//! Control registers: what reaches the guest's shadow, what the CPU is left to do, what is a #GP.

use super::{Control, Done, cr0, cr4, register, set_register};
use crate::msr::efer;
use ipc_proto::exit::Event;
use ipc_proto::state::{StateMask, VcpuState};

/// MOV to (0) or from (1) a control register, with a general register.
fn qualification(kind: u64, number: u64, gpr: u64) -> u64 {
    number | kind << 4 | gpr << 8
}

fn access(state: &mut VcpuState, qualification: u64) -> Done {
    Control::default().access(qualification, state)
}

fn write_cr0(state: &mut VcpuState, value: u64) -> Done {
    state.gprs.rax = value;
    access(state, qualification(0, 0, 0))
}

#[test]
fn a_kept_bit_alone_is_emulated() {
    let mut state = VcpuState { cr0: cr0::PE | cr0::ET, ..VcpuState::default() };
    let written = cr0::PE | cr0::ET | cr0::NE;
    assert!(matches!(write_cr0(&mut state, written), Done::Step(write) if write.contains(StateMask::CONTROL)));
    assert_eq!(state.cr0, written);
}

#[test]
fn a_kept_bit_together_with_paging_leaves_paging_to_the_cpu() {
    let mut state = VcpuState { cr0: cr0::PE | cr0::ET, cr4: cr4::PAE, efer: efer::LME, ..VcpuState::default() };
    let written = cr0::PG | cr0::PE | cr0::ET | cr0::NE;
    assert_eq!(write_cr0(&mut state, written), Done::Again(StateMask::CONTROL));
    assert_eq!((state.cr0, state.efer), (cr0::PE | cr0::ET | cr0::NE, efer::LME));
}

#[test]
fn a_kernel_that_keeps_paging_gets_long_mode_with_it() {
    let mut state = VcpuState { cr0: cr0::PE | cr0::ET, cr4: cr4::PAE, efer: efer::LME, ..VcpuState::default() };
    assert_eq!(write_cr0(&mut state, cr0::PG | cr0::PE | cr0::ET), Done::Step(StateMask::CONTROL | StateMask::EFER));
    assert_eq!(state.efer, efer::LME | efer::LMA);
    assert!(matches!(write_cr0(&mut state, cr0::PE), Done::Step(_)));
    assert_eq!((state.efer, state.cr0), (efer::LME, cr0::PE | cr0::ET));
}

#[test]
fn impossible_values_are_gp_and_change_nothing() {
    let before = VcpuState { cr0: cr0::PE | cr0::ET, efer: efer::LMA, ..VcpuState::default() };
    for value in [cr0::PE | cr0::NW, cr0::PG, 1 << 32 | cr0::PE] {
        let mut state = before;
        assert_eq!(write_cr0(&mut state, value), Done::Fault(Event::GENERAL_PROTECTION), "{value:#x}");
        assert_eq!(state.cr0, before.cr0);
    }
}

#[test]
fn outside_of_long_mode_the_upper_half_of_the_register_is_not_moved() {
    let mut state = VcpuState { cr0: cr0::PE | cr0::ET, ..VcpuState::default() };
    assert!(matches!(write_cr0(&mut state, 0xdead_0000_0000_0000 | cr0::PE | cr0::CD), Done::Step(_)));
    assert_eq!(state.cr0, cr0::PE | cr0::ET | cr0::CD);
}

#[test]
fn cr4_takes_no_bit_that_cpuid_does_not_offer() {
    for bit in [12, 13, 14, 17, 18, 22, 23, 24, 25] {
        let mut state = VcpuState { cr4: cr4::PAE, ..VcpuState::default() };
        state.gprs.rbx = cr4::PAE | 1 << bit;
        assert_eq!(access(&mut state, qualification(0, 4, 3)), Done::Fault(Event::GENERAL_PROTECTION), "bit {bit}");
        assert_eq!(state.cr4, cr4::PAE);
    }
    let mut state = VcpuState { cr4: 0, ..VcpuState::default() };
    state.gprs.rbx = cr4::PAE | 1 << 7;
    assert_eq!(access(&mut state, qualification(0, 4, 3)), Done::Step(StateMask::CONTROL));
    assert_eq!(state.cr4, cr4::PAE | 1 << 7);
}

#[test]
fn the_stack_pointer_can_be_source_and_destination() {
    let (rsp, cr0) = (cr0::PE | cr0::ET | cr0::NE, cr0::PE | cr0::ET);
    let mut state = VcpuState { rsp, cr0, cr3: 0x5000, ..VcpuState::default() };
    assert!(matches!(access(&mut state, qualification(0, 0, 4)), Done::Step(_)));
    assert_eq!(state.cr0 & cr0::NE, cr0::NE);
    assert_eq!(access(&mut state, qualification(1, 3, 4)), Done::Step(StateMask::RSP));
    assert_eq!(state.rsp, 0x5000);
}

#[test]
fn clts_and_lmsw_do_what_they_do() {
    let mut state = VcpuState { cr0: cr0::PE | 1 << 3, ..VcpuState::default() };
    assert_eq!(access(&mut state, 2 << 4), Done::Step(StateMask::CONTROL));
    assert_eq!(state.cr0, cr0::PE);
    assert_eq!(access(&mut state, 3 << 4 | 0xe << 16), Done::Step(StateMask::CONTROL));
    assert_eq!(state.cr0, cr0::PE | 0xe, "LMSW cannot leave protected mode");
}

#[test]
fn cr8_reads_back_four_bits() {
    let mut control = Control::default();
    let mut state = VcpuState::default();
    state.gprs.rcx = 9;
    assert_eq!(control.access(qualification(0, 8, 1), &mut state), Done::Step(StateMask::empty()));
    assert_eq!(control.access(qualification(1, 8, 15), &mut state), Done::Step(StateMask::empty()));
    assert_eq!(state.gprs.r15, 9);
    state.gprs.rcx = 16;
    assert_eq!(control.access(qualification(0, 8, 1), &mut state), Done::Fault(Event::GENERAL_PROTECTION));
}

#[test]
fn debug_registers_read_back() {
    let mut control = Control::default();
    let mut state = VcpuState::default();
    state.gprs.rdx = 0x1000;
    assert_eq!(control.debug_access(2 << 8, &mut state), Done::Step(StateMask::empty()));
    assert_eq!(control.debug_access(1 << 4 | 5 << 8, &mut state), Done::Step(StateMask::empty()));
    assert_eq!(state.gprs.rbp, 0x1000);
    assert_eq!(control.debug_access(7 | 2 << 8, &mut state), Done::Step(StateMask::DEBUG));
    assert_eq!(state.dr7, 0x1400);
}

#[test]
fn registers_are_numbered_as_instructions_encode_them() {
    let mut state = VcpuState::default();
    for number in 0..16 {
        let write = set_register(&mut state, number, 100 + number);
        assert_eq!(write == StateMask::RSP, number == 4);
    }
    assert!((0..16).all(|number| register(&state, number) == 100 + number));
    let gprs = state.gprs;
    assert_eq!((gprs.rax, gprs.rbx, state.rsp, gprs.rbp, gprs.r15), (100, 103, 104, 105, 115));
}
