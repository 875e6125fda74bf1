//! The machine: every exit in, what the kernel is to do out.

use super::{Answer, Config, Machine};
use crate::cpuid::Cpuid;
use crate::ending::Ending;
use crate::memory::{GuestMemory, RamMap};
use crate::msr::FastStrings;
use crate::pit::HZ;
use crate::start;
use crate::testing::Memory;
use core::arch::x86_64::CpuidResult;
use ipc_proto::call::End;
use ipc_proto::exit::{Event, Exit, PortAccess, ResumeFlags};
use ipc_proto::refused::DenyReason;
use ipc_proto::state::{StateMask, VcpuState};

const IF: u64 = 1 << 9;

fn host(leaf: u32, subleaf: u32) -> CpuidResult {
    CpuidResult { eax: leaf, ebx: subleaf, ecx: 3, edx: u32::MAX }
}

struct Vm {
    machine: Machine,
    state: VcpuState,
    memory: Memory,
}

/// One tick for each count of the timer.
fn vm() -> Vm {
    let ram = RamMap::new(4 << 20);
    let config = Config { ram, cpuid: Cpuid::new(host, HZ, 46), tsc_hz: HZ, strings: FastStrings::Off, epoch: 0 };
    let mut memory = Memory::new(4 << 20);
    start::write_tables(&mut memory).unwrap();
    Vm { machine: Machine::new(&config, 0), state: start::long_mode(0x10_0000), memory }
}

impl Vm {
    fn exit(&mut self, exit: Exit, now: u64) -> Result<Answer, Ending> {
        self.machine.exit(&exit, &mut self.state, &mut self.memory, now)
    }

    fn out(&mut self, port: u16, value: u8, now: u64) -> Answer {
        self.state.gprs.rax = u64::from(value);
        self.exit(port_exit(port, 0), now).unwrap()
    }

    /// The controllers as a kernel sets them up, and a timer of 1,000 counts.
    fn start_timer(&mut self) {
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x43, 0x34), (0x40, 0xe8), (0x40, 3)] {
            self.out(port, value, 0);
        }
    }
}

/// One byte out or, with bit 3, in.
fn port_exit(port: u16, qualification: u64) -> Exit {
    Exit::Port(PortAccess::from_qualification(qualification | u64::from(port) << 16))
}

#[test]
fn cpuid_answers_all_four_registers_in_full() {
    let mut vm = vm();
    vm.state.gprs.rax = 0xffff_ffff_0000_0000;
    vm.state.gprs.rbx = u64::MAX;
    let answer = vm.exit(Exit::Cpuid, 0).unwrap();
    assert_eq!(answer, Answer::step());
    assert_eq!((vm.state.gprs.rax, vm.state.gprs.rbx, vm.state.gprs.rdx), (0x16, 0, 0xffff_ffff));
}

#[test]
fn port_reads_replace_as_much_of_rax_as_they_read() {
    for (size, rax) in [(0, 0x1111_1111_1111_11ff), (1, 0x1111_1111_1111_ffff), (3, 0xffff_ffff)] {
        let mut vm = vm();
        vm.state.gprs.rax = 0x1111_1111_1111_1111;
        assert_eq!(vm.exit(port_exit(0x5658, size | 1 << 3), 0), Ok(Answer::step()));
        assert_eq!(vm.state.gprs.rax, rax);
    }
}

#[test]
fn an_unknown_msr_is_gp_without_stepping() {
    let mut vm = vm();
    vm.state.gprs.rcx = 0x1234;
    for exit in [Exit::ReadMsr, Exit::WriteMsr] {
        assert_eq!(vm.exit(exit, 0), Ok(Answer::inject(Event::GENERAL_PROTECTION)));
    }
    assert_eq!(vm.machine.msrs.unknown.total(), 2);
}

#[test]
fn msr_values_travel_in_two_halves() {
    let mut vm = vm();
    vm.state.gprs.rcx = 0x277;
    (vm.state.gprs.rdx, vm.state.gprs.rax) = (0xffff_ffff_0007_0106, 0xffff_ffff_0407_0506);
    let answer = vm.exit(Exit::WriteMsr, 0).unwrap();
    assert_eq!((answer.write, answer.flags), (StateMask::PAT, ResumeFlags::ADVANCE));
    assert_eq!(vm.state.pat, 0x0007_0106_0407_0506);
    vm.exit(Exit::ReadMsr, 0).unwrap();
    assert_eq!((vm.state.gprs.rdx, vm.state.gprs.rax), (0x0007_0106, 0x0407_0506));
}

#[test]
fn a_pending_interrupt_asks_for_the_window_and_is_delivered_there() {
    let mut vm = vm();
    vm.start_timer();
    assert_eq!(vm.exit(Exit::Cpuid, 999).unwrap().flags, ResumeFlags::ADVANCE);
    let answer = vm.exit(Exit::Cpuid, 1_000).unwrap();
    assert_eq!(answer.flags, ResumeFlags::ADVANCE | ResumeFlags::WINDOW);
    let answer = vm.exit(Exit::InterruptWindow, 1_001).unwrap();
    assert_eq!((answer.event, answer.flags), (Some(Event::Interrupt(0x20)), ResumeFlags::empty()));
    assert_eq!(vm.machine.figures().interrupts, 1);
}

#[test]
fn a_window_with_nothing_left_just_goes_on() {
    let mut vm = vm();
    vm.start_timer();
    vm.exit(Exit::Cpuid, 1_000).unwrap();
    vm.out(0x21, 0xff, 1_000);
    assert_eq!(vm.exit(Exit::InterruptWindow, 1_001), Ok(Answer::again()));
}

#[test]
fn owed_ticks_come_as_soon_as_the_one_before_has_ended() {
    let mut vm = vm();
    vm.start_timer();
    vm.exit(Exit::Cpuid, 3_500).unwrap();
    for _ in 0..3 {
        let answer = vm.exit(Exit::InterruptWindow, 3_500).unwrap();
        assert_eq!((answer.event, answer.flags), (Some(Event::Interrupt(0x20)), ResumeFlags::empty()));
        vm.out(0x20, 0x20, 3_500);
    }
    assert_eq!(vm.exit(Exit::InterruptWindow, 3_500).unwrap().event, None);
}

#[test]
fn hlt_parks_and_the_timer_wakes_it_with_its_interrupt() {
    let mut vm = vm();
    vm.start_timer();
    vm.state.rflags |= IF;
    assert_eq!(vm.exit(Exit::Hlt, 100).unwrap().flags, ResumeFlags::PARK);
    assert!(vm.machine.is_halted());
    assert_eq!(vm.machine.bus.deadline(), Some(1_000));
    assert_eq!(vm.machine.tick(999), None);
    let answer = vm.machine.tick(1_000).unwrap();
    assert_eq!((answer.event, answer.flags), (Some(Event::Interrupt(0x20)), ResumeFlags::ADVANCE));
    assert!(!vm.machine.is_halted());
    assert_eq!(vm.machine.tick(1_000), None, "it is in service now");
}

#[test]
fn hlt_with_an_interrupt_pending_does_not_park() {
    let mut vm = vm();
    vm.start_timer();
    vm.state.rflags |= IF;
    let answer = vm.exit(Exit::Hlt, 1_000).unwrap();
    assert_eq!((answer.event, answer.flags), (Some(Event::Interrupt(0x20)), ResumeFlags::ADVANCE));
}

#[test]
fn a_tick_while_the_guest_runs_asks_for_the_window_only() {
    let mut vm = vm();
    vm.start_timer();
    let answer = vm.machine.tick(1_000).unwrap();
    assert_eq!(answer, Answer { flags: ResumeFlags::WINDOW, ..Answer::again() });
}

#[test]
fn hlt_behind_a_masked_timer_has_nothing_to_wait_for() {
    let mut vm = vm();
    vm.start_timer();
    vm.out(0x21, 0x01, 0);
    vm.state.rflags |= IF;
    assert_eq!(vm.exit(Exit::Hlt, 1_500).unwrap().flags, ResumeFlags::PARK);
    assert!(vm.machine.is_halted());
    assert_eq!(vm.machine.bus.deadline(), None);
}

#[test]
fn hlt_with_interrupts_disabled_ends_the_vm() {
    assert_eq!(vm().exit(Exit::Hlt, 0), Err(Ending::Halted));
}

#[test]
fn what_the_guest_did_right_is_done_and_everything_else_is_its_failure() {
    for ending in [Ending::PowerOff, Ending::Reset, Ending::TestExit(0)] {
        assert_eq!(ending.end(), End::Done);
    }
    assert_eq!(Ending::Stranded.end(), End::GuestFailed);
    let mut vm = vm();
    for exit in [
        Exit::Hlt,
        Exit::TripleFault,
        Exit::Denied(0x1000, DenyReason::Policy),
        Exit::NoPager(0x1000, 1),
        Exit::Stuck(0x1000, 1),
        Exit::EntryFailed(33, 0),
        Exit::Other(9, 0),
        port_exit(0xf4, 0),
    ] {
        vm.state.gprs.rax = 3;
        let ending = vm.exit(exit, 0).unwrap_err();
        assert_eq!(ending.end(), End::GuestFailed, "{exit:?}");
        assert!(!std::format!("{ending}").is_empty());
    }
}

#[test]
fn an_endless_fault_is_told_with_address_and_what_was_tried() {
    let text = std::format!("{}", vm().exit(Exit::Stuck(0x10_0000, 0x182), 0).unwrap_err());
    assert!(text.contains("0x100000") && text.contains("WRITE | GVA_VALID | GVA_TRANSLATED"), "{text}");
}

#[test]
fn a_missing_pager_is_named_with_the_address() {
    let text = std::format!("{}", vm().exit(Exit::NoPager(0x10_0000, 0x184), 0).unwrap_err());
    assert!(text.contains("no pager") && text.contains("0x100000"), "{text}");
}

#[test]
fn instructions_of_machines_that_this_is_not_are_undefined() {
    let mut vm = vm();
    // VMXON, MONITOR, INVPCID.
    for exit in [Exit::Hypercall, Exit::Xsetbv, Exit::Other(27, 0), Exit::Other(39, 0), Exit::Other(58, 0)] {
        assert_eq!(vm.exit(exit, 0), Ok(Answer::inject(Event::INVALID_OPCODE)), "{exit:?}");
    }
    assert_eq!(vm.exit(Exit::CacheControl, 0), Ok(Answer::step()));
}

#[test]
fn an_intercepted_exception_goes_back_to_the_guest() {
    let mut vm = vm();
    let page_fault = Exit::Exception(1 << 31 | 1 << 11 | 3 << 8 | 14, 2);
    assert_eq!(vm.exit(page_fault, 0), Ok(Answer::inject(Event::ExceptionWithCode(14, 2))));
    assert_eq!(vm.exit(Exit::Exception(1 << 31 | 3 << 8 | 6, 0), 0), Ok(Answer::inject(Event::INVALID_OPCODE)));
}

#[test]
fn control_registers_and_memory_mapped_devices_are_reached() {
    let mut vm = vm();
    vm.state.gprs.rbx = 1 << 13;
    assert_eq!(vm.exit(Exit::ControlRegister(4 | 3 << 8), 0), Ok(Answer::inject(Event::GENERAL_PROTECTION)));
    vm.memory.write(0x10_0000, &[0x8b, 0x07]).unwrap();
    let answer = vm.exit(Exit::Mmio(0xfee0_0030, 0x181), 0).unwrap();
    assert_eq!((answer.write, vm.state.gprs.rax), (StateMask::RIP, 0x6_0014));
}

#[test]
fn every_exit_is_counted() {
    let mut vm = vm();
    for _ in 0..3 {
        vm.exit(Exit::Cpuid, 0).unwrap();
    }
    assert_eq!(vm.machine.figures().exits, 3);
}

/// What a machine shows of itself after an exit, for comparing two of them.
fn seen(vm: &Vm) -> std::string::String {
    std::format!("{:?} {:?} {:?}", vm.machine.bus, vm.state.gprs, vm.machine.figures())
}

#[test]
fn an_exit_that_is_answered_at_once_is_answered_as_in_full() {
    // Every port of the machine, in and out, with values that mean something to the controllers, the serial port (with
    // and without its divisor) and the timer; no time passes.
    let ports =
        [0x20..=0x21, 0xa0..=0xa1, 0x40..=0x43, 0x60..=0x61, 0x70..=0x71, 0x80..=0x80, 0x3f8..=0x3ff, 0x2f8..=0x2ff];
    let mut at_once = 0;
    for value in [0x00, 0x01, 0x0b, 0x0f, 0x20, 0x34, 0x60, 0x80, 0x83, 0xff] {
        for port in ports.iter().cloned().flatten() {
            for direction in [0, 1 << 3] {
                let (mut quick, mut full) = (vm(), vm());
                for vm in [&mut quick, &mut full] {
                    vm.start_timer();
                    for (port, value) in [(0x3fc, 8), (0x3f9, 3), (0x3fb, value & 0x80), (0x3f8, 1)] {
                        vm.out(port, value, 0);
                    }
                    vm.state.gprs.rax = 0x1122_3344_5566_7700 | u64::from(value);
                }
                let (exit, before) = (port_exit(port, direction), seen(&quick));
                let Some(flags) = quick.machine.exit_at_once(&exit, &mut quick.state) else {
                    assert_eq!(seen(&quick), before, "nothing has happened yet");
                    continue;
                };
                at_once += 1;
                assert_eq!(full.exit(exit, 0), Ok(Answer { flags, ..Answer::again() }), "{port:#x} {value:#x}");
                assert_eq!(seen(&quick), seen(&full), "{port:#x} {value:#x}");
                assert_eq!(quick.machine.bus.deadline(), full.machine.bus.deadline());
            }
        }
    }
    assert!(at_once > 100, "only {at_once} were answered at once");
}

#[test]
fn what_changes_a_deadline_or_wakes_the_console_is_not_answered_at_once() {
    for (port, value) in
        [(0x21, 1), (0x20, 0x11), (0x40, 1), (0x43, 0x34), (0x71, 1), (0x604, 0x20), (0xcf9, 6), (0x3f8, 1)]
    {
        let mut vm = vm();
        vm.state.gprs.rax = value;
        assert_eq!(vm.machine.exit_at_once(&port_exit(port, 0), &mut vm.state), None, "{port:#x}");
    }
    let mut vm = vm();
    for exit in [
        Exit::Hlt,
        Exit::InterruptWindow,
        Exit::Mmio(0, 0),
        Exit::Port(PortAccess::from_qualification(0x3f8 << 16 | 1 << 4)),
    ] {
        assert_eq!(vm.machine.exit_at_once(&exit, &mut vm.state), None);
    }
}

#[test]
fn a_byte_behind_others_needs_nobody_until_the_queue_is_nearly_full() {
    let mut vm = vm();
    vm.out(0x3f8, b'a', 0);
    let send = port_exit(0x3f8, 0);
    let more = (0..crate::uart::SENT).take_while(|_| vm.machine.exit_at_once(&send, &mut vm.state).is_some()).count();
    let sent = 1 + more;
    assert_eq!(sent, crate::uart::SENT - crate::uart::KEPT_ROOM);
    assert_eq!(vm.machine.bus.uart.sent().len(), sent);
}

#[test]
fn what_was_asked_for_beside_an_exit_is_there_when_it_comes_again_and_only_then() {
    let mut vm = vm();
    // mov [rdi], esp
    vm.memory.write(0x10_0000, &[0x89, 0x27]).unwrap();
    vm.state.rsp = 0x1234;
    for _ in 0..2 {
        vm.state.rip = 0x10_0000;
        let asks = Answer { flags: ResumeFlags::MORE, write: StateMask::RSP, event: None };
        assert_eq!(vm.exit(Exit::Mmio(0xfee0_0080, 0), 0), Ok(asks));
        assert_eq!(vm.exit(Exit::Mmio(0xfee0_0080, 0), 0).unwrap().write, StateMask::RIP);
        assert_eq!(vm.state.rip, 0x10_0002);
    }
}
