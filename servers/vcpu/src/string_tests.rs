//! String instructions at ports, and those whose two ends lie in different kinds of memory.

use crate::bus::Bus;
use crate::clock::Clock;
use crate::decoded::Decoded;
use crate::emulate::Emulator;
use crate::ending::Ending;
use crate::machine::Answer;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::start;
use crate::testing::Memory;
use ipc_proto::state::{StateMask, VcpuState};
use std::vec::Vec;

const CODE: u64 = 0x10_0000;
const BUFFER: u64 = 0x20_0000;

struct Guest {
    memory: Memory,
    mmio: Mmio,
    bus: Bus,
    decoded: Decoded,
    asked_for: StateMask,
    /// What travels with the exit.
    here: StateMask,
    state: VcpuState,
}

impl Guest {
    fn new(bytes: &[u8]) -> Self {
        let mut memory = Memory::new(4 << 20);
        start::write_tables(&mut memory).unwrap();
        memory.write(CODE, bytes).unwrap();
        let bus = Bus::new(Clock::new(1_000_000), 0, 0, 4 << 20);
        let (decoded, asked_for, here) = (Decoded::new(), StateMask::empty(), StateMask::all());
        Self { memory, mmio: Mmio::new(), bus, decoded, asked_for, here, state: start::long_mode(CODE) }
    }

    fn emulator(&mut self) -> Emulator<'_, Memory> {
        let Self { memory, mmio, bus, decoded, asked_for, here, state } = self;
        Emulator { state, memory, mmio, bus, decoded, asked_for, now: 0, here: *here, changed: StateMask::empty() }
    }

    fn port(&mut self) -> Result<Answer, Ending> {
        self.emulator().port_access()
    }

    fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; len];
        self.memory.read(gpa, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn outs_sends_a_string_a_queues_room_at_a_time() {
    let mut guest = Guest::new(&[0xf3, 0x6e]);
    guest.memory.write(BUFFER, b"twenty characters...").unwrap();
    guest.state.gprs.rsi = BUFFER;
    guest.state.gprs.rcx = 20;
    guest.state.gprs.rdx = 0x3f8;
    guest.port().unwrap();
    assert_eq!((guest.state.gprs.rcx, guest.state.rip), (4, CODE));
    guest.port().unwrap();
    assert_eq!((guest.state.gprs.rcx, guest.state.rip), (0, CODE + 2));
    assert_eq!(guest.bus.uart.sent().iter().copied().collect::<Vec<_>>(), b"twenty characters...");
}

#[test]
fn ins_fills_memory_and_goes_down_when_the_direction_says_so() {
    let mut guest = Guest::new(&[0xf3, 0x66, 0x6d]);
    guest.state.gprs.rdi = BUFFER;
    guest.state.gprs.rcx = 2;
    guest.state.gprs.rdx = 0x5658;
    guest.state.rflags |= 1 << 10;
    guest.port().unwrap();
    assert_eq!(guest.bytes(BUFFER - 4, 8), [0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    assert_eq!((guest.state.gprs.rdi, guest.state.rip), (BUFFER - 4, CODE + 3));
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut guest = Guest::new(&[0xf3, 0x6c]);
    guest.state.gprs.rdx = 0x3f8;
    guest.port().unwrap();
    assert_eq!((guest.state.rip, guest.bus.unknown.total()), (CODE + 2, 0));
}

#[test]
fn a_string_can_end_the_machine() {
    let mut guest = Guest::new(&[0x6e]);
    guest.state.gprs.rsi = BUFFER;
    guest.state.gprs.rdx = 0xf4;
    assert_eq!(guest.port(), Err(Ending::TestExit(0)));
}

#[test]
fn a_byte_is_not_taken_from_a_port_when_there_is_no_place_for_it() {
    let mut guest = Guest::new(&[0x6c]);
    guest.bus.receive(b'k');
    guest.state.gprs.rdi = 1 << 32;
    guest.state.gprs.rdx = 0x3f8;
    let answer = guest.port().unwrap();
    assert!(answer.event.is_some());
    assert_eq!(guest.bus.input(0x3f8, 1, 0), u32::from(b'k'));
}

#[test]
fn movs_carries_between_memory_and_devices_and_across_pages() {
    let mut guest = Guest::new(&[0xf3, 0xa5]);
    guest.memory.write(BUFFER + 0xffe, &[1, 2, 3, 4]).unwrap();
    guest.state.gprs.rsi = BUFFER + 0xffe;
    guest.state.gprs.rdi = 0xfee0_0080;
    guest.state.gprs.rcx = 1;
    guest.emulator().memory_access(0xfee0_0080, 0x182).unwrap();
    assert_eq!(guest.mmio.load(&guest.memory, 0xfee0_0080, 4), 0x0403_0201);

    guest.state.rip = CODE;
    guest.state.gprs.rsi = 0xfee0_0080;
    guest.state.gprs.rdi = BUFFER + 0x1ffd;
    guest.state.gprs.rcx = 1;
    guest.emulator().memory_access(0xfee0_0080, 0x181).unwrap();
    assert_eq!(guest.bytes(BUFFER + 0x1ffd, 4), [1, 2, 3, 4]);
}

#[test]
fn lods_loads_the_accumulator() {
    let mut guest = Guest::new(&[0xac]);
    guest.state.gprs.rax = 0x1100;
    guest.state.gprs.rsi = 0xb_8000;
    guest.emulator().memory_access(0xb_8000, 0x181).unwrap();
    assert_eq!((guest.state.gprs.rax, guest.state.gprs.rsi), (0x11ff, 0xb_8001));
}

#[test]
fn sixteen_bit_indices_wrap_and_leave_the_rest_of_the_register() {
    let mut guest = Guest::new(&[]);
    guest.memory.write(0x1_0000, &[0xf3, 0x6e]).unwrap();
    guest.state = VcpuState { rip: 0, rflags: 2, ..VcpuState::default() };
    guest.state.cs.base = 0x1_0000;
    guest.state.ds.base = 0x2_0000;
    guest.memory.write(0x2_ffff, b"a").unwrap();
    guest.memory.write(0x2_0000, b"b").unwrap();
    guest.state.gprs.rsi = 0x7_ffff;
    guest.state.gprs.rcx = 0x5_0002;
    guest.state.gprs.rdx = 0x3f8;
    guest.port().unwrap();
    assert_eq!((guest.state.gprs.rsi, guest.state.gprs.rcx), (0x7_0001, 0x5_0000));
    assert_eq!(guest.bus.uart.sent().iter().copied().collect::<Vec<_>>(), b"ab");
}
