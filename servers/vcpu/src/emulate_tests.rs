//! Whole instructions on device memory, from the bytes at RIP to the registers afterwards.

use super::Emulator;
use crate::alu::flag;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::decoded::Decoded;
use crate::ending::Ending;
use crate::machine::Answer;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::start;
use crate::testing::Memory;
use ipc_proto::exit::Event;
use ipc_proto::state::{StateMask, VcpuState};

const CODE: u64 = 0x10_0000;
const APIC: u64 = 0xfee0_0080;
/// A data write to a translated linear address.
const DATA_WRITE: u64 = 0x182;

/// A guest in 64-bit mode whose next instruction is `bytes`.
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

    fn access(&mut self, gpa: u64, qualification: u64) -> Result<Answer, Ending> {
        let Self { memory, mmio, bus, decoded, asked_for, here, state } = self;
        Emulator { state, memory, mmio, bus, decoded, asked_for, now: 0, here: *here, changed: StateMask::empty() }
            .memory_access(gpa, qualification)
    }

    fn apic(&mut self) -> u64 {
        self.mmio.load(&self.memory, APIC, 4)
    }
}

#[test]
fn a_store_reaches_the_device_and_the_next_instruction_comes_next() {
    let mut guest = Guest::new(&[0x89, 0x07]);
    guest.state.gprs.rax = 0xffff_ffff_0000_0042;
    let answer = guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!((guest.apic(), guest.state.rip), (0x42, CODE + 2));
    assert_eq!((answer.write, answer.event), (StateMask::RIP, None));
    assert!(answer.flags.is_empty(), "RIP has been moved already");
}

#[test]
fn loads_fill_the_register_as_their_size_says() {
    for (bytes, value) in [
        (&[0x8b, 0x07][..], 0x84),
        (&[0x8a, 0x07], 0x1111_1111_1111_1184),
        (&[0x66, 0x8b, 0x07], 0x1111_1111_1111_0084),
        (&[0x48, 0x0f, 0xbe, 0x07], 0xffff_ffff_ffff_ff84),
        (&[0x0f, 0xbe, 0x07], 0xffff_ff84),
        (&[0x0f, 0xb6, 0x07], 0x84),
        (&[0x8a, 0x27], 0x1111_1111_1111_8411),
    ] {
        let mut guest = Guest::new(bytes);
        guest.mmio.store(&mut guest.memory, APIC, 4, 0x84);
        guest.state.gprs.rax = 0x1111_1111_1111_1111;
        guest.access(APIC, 0x181).unwrap();
        assert_eq!(guest.state.gprs.rax, value, "{bytes:02x?}");
    }
}

#[test]
fn nothing_there_reads_all_ones() {
    let mut guest = Guest::new(&[0x8b, 0x07]);
    guest.access(0xd000_0000, 0x181).unwrap();
    assert_eq!((guest.state.gprs.rax, guest.mmio.unknown.total()), (0xffff_ffff, 1));
}

#[test]
fn read_modify_write_leaves_result_and_flags() {
    let mut guest = Guest::new(&[0x81, 0x27, 0xf0, 0, 0, 0]);
    guest.mmio.store(&mut guest.memory, APIC, 4, 0xf);
    let answer = guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!(guest.apic(), 0);
    assert!(answer.write.contains(StateMask::RFLAGS | StateMask::RIP));
    assert_eq!(guest.state.rflags & (flag::ZF | flag::CF), flag::ZF);
}

#[test]
fn a_comparison_changes_flags_only() {
    let mut guest = Guest::new(&[0x83, 0x3f, 0x10]);
    guest.mmio.store(&mut guest.memory, APIC, 4, 0x0f);
    guest.access(APIC, 0x181).unwrap();
    assert_eq!(guest.apic(), 0x0f);
    assert_eq!(guest.state.rflags & (flag::CF | flag::SF), flag::CF | flag::SF);
}

#[test]
fn increments_leave_the_carry_flag() {
    let mut guest = Guest::new(&[0xff, 0x07]);
    guest.mmio.store(&mut guest.memory, APIC, 4, 0xffff_ffff);
    guest.state.rflags |= flag::CF;
    guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!(guest.apic(), 0);
    assert_eq!(guest.state.rflags & (flag::CF | flag::ZF), flag::CF | flag::ZF);
}

#[test]
fn an_exchange_swaps() {
    let mut guest = Guest::new(&[0x87, 0x07]);
    guest.mmio.store(&mut guest.memory, APIC, 4, 0x11);
    guest.state.gprs.rax = 0x22;
    guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!((guest.apic(), guest.state.gprs.rax), (0x22, 0x11));
}

#[test]
fn a_write_to_the_bios_area_is_ignored_and_an_or_there_reads_it() {
    let mut guest = Guest::new(&[0x09, 0x07]);
    guest.state.gprs.rax = 0x80;
    guest.access(0xe_0000, DATA_WRITE).unwrap();
    assert_eq!(guest.state.rflags & flag::SF, 0, "0 | 0x80 in 32 bits");
    assert_eq!(guest.mmio.load(&guest.memory, 0xe_0000, 4), 0);
}

#[test]
fn blocking_by_sti_ends_with_the_instruction() {
    let mut guest = Guest::new(&[0x89, 0x07]);
    guest.state.interruptibility = 1;
    let answer = guest.access(APIC, DATA_WRITE).unwrap();
    assert!(answer.write.contains(StateMask::ACTIVITY));
    assert_eq!(guest.state.interruptibility, 0);
}

#[test]
fn an_instruction_that_cannot_be_emulated_ends_the_vm_with_its_bytes() {
    let mut guest = Guest::new(&[0x0f, 0x29, 0x07]);
    let Err(Ending::CannotEmulate(bytes, _)) = guest.access(APIC, DATA_WRITE) else { panic!() };
    assert_eq!(&bytes[..3], [0x0f, 0x29, 0x07]);
    let mut guest = Guest::new(&[0x89, 0x07]);
    assert!(matches!(guest.access(0xb_8ffe, DATA_WRITE), Err(Ending::CannotEmulate(..))), "across two pages");
}

#[test]
fn a_fetch_from_a_device_and_tables_in_a_device_end_the_vm() {
    let mut guest = Guest::new(&[]);
    assert!(matches!(guest.access(0xd000_0000, 0x184), Err(Ending::CannotEmulate(..))));
    assert!(matches!(guest.access(0xd000_0000, 0x081), Err(Ending::CannotEmulate(..))));
}

#[test]
fn the_instruction_is_fetched_across_pages_through_the_guests_tables() {
    let mut guest = Guest::new(&[]);
    let bytes = [0xc7, 0x04, 0x25, 0x80, 0, 0xe0, 0xfe, 0x44, 0x33, 0x22, 0x11];
    guest.memory.write(CODE + 0xffb, &bytes).unwrap();
    guest.state.rip = CODE + 0xffb;
    guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!((guest.apic(), guest.state.rip), (0x1122_3344, CODE + 0xffb + 11));
}

#[test]
fn protected_mode_adds_the_segments_base() {
    let mut guest = Guest::new(&[]);
    guest.memory.write(0x2_0010, &[0xa3, 0x80, 0, 0xe0, 0xfe]).unwrap();
    guest.state = start::protected_mode(0x10, &mut guest.memory).unwrap();
    guest.state.cs.base = 0x2_0000;
    guest.state.gprs.rax = 7;
    guest.access(APIC, DATA_WRITE).unwrap();
    assert_eq!((guest.apic(), guest.state.rip), (7, 0x15));
}

#[test]
fn a_string_to_the_screen_repeats_until_its_count_is_zero() {
    let mut guest = Guest::new(&[0xf3, 0xab]);
    guest.state.gprs.rdi = 0xb_8000;
    guest.state.gprs.rcx = 1_000;
    guest.access(0xb_8000, DATA_WRITE).unwrap();
    assert_eq!((guest.state.rip, guest.state.gprs.rcx), (CODE, 488), "again, from where it is");
    guest.access(0xb_8800, DATA_WRITE).unwrap();
    let gprs = guest.state.gprs;
    assert_eq!((guest.state.rip, gprs.rcx, gprs.rdi), (CODE + 2, 0, 0xb_8000 + 4_000));
}

#[test]
fn a_page_fault_in_a_string_is_the_guests_with_the_count_it_has_reached() {
    let mut guest = Guest::new(&[0xf3, 0xa4]);
    guest.state.gprs.rsi = 0xb_8000;
    guest.state.gprs.rdi = 0xffff_fffe;
    guest.state.gprs.rcx = 5;
    let answer = guest.access(0xb_8000, 0x181).unwrap();
    assert_eq!(answer.event, Some(Event::ExceptionWithCode(14, 2)));
    assert!(answer.write.contains(StateMask::CR2));
    assert_eq!((guest.state.cr2, guest.state.gprs.rcx, guest.state.rip), (1 << 32, 3, CODE));
}

/// mov eax, [rdi] and mov ecx, [rdi]
const TO_RAX: [u8; 2] = [0x8b, 0x07];
const TO_RCX: [u8; 2] = [0x8b, 0x0f];
const PAGE_TABLE: u64 = 0x18_0000;
const OTHER_PAGE: u64 = 0x14_0000;

impl Guest {
    /// Maps the 2 MiB in which the code lies by a table of pages, and gives the place of the entry for the code.
    fn map_pages(&mut self) -> u64 {
        for page in 0..512 {
            self.memory.write(PAGE_TABLE + page * 8, &(page << 12 | 3).to_le_bytes()).unwrap();
        }
        self.memory.write(start::place::DIRECTORIES, &(PAGE_TABLE | 3).to_le_bytes()).unwrap();
        PAGE_TABLE + (CODE >> 12) * 8
    }

    /// Runs the instruction at the beginning of the code on a register of the APIC that holds 7, and says which of RAX
    /// and RCX it went to.
    fn goes_to(&mut self) -> &'static str {
        self.mmio.store(&mut self.memory, APIC, 4, 7);
        (self.state.rip, self.state.gprs.rax, self.state.gprs.rcx) = (CODE, 0, 0);
        self.access(APIC, 0).unwrap();
        match (self.state.gprs.rax, self.state.gprs.rcx) {
            (7, 0) => "rax",
            (0, 7) => "rcx",
            _ => "neither",
        }
    }
}

#[test]
fn an_instruction_that_was_seen_before_is_not_decoded_again() {
    let mut guest = Guest::new(&TO_RAX);
    for _ in 0..3 {
        assert_eq!(guest.goes_to(), "rax");
    }
    assert_eq!(guest.decoded.asked(), 1);
}

#[test]
fn an_instruction_that_was_overwritten_is_the_new_one() {
    let mut guest = Guest::new(&TO_RAX);
    assert_eq!(guest.goes_to(), "rax");
    guest.memory.write(CODE, &TO_RCX).unwrap();
    assert_eq!(guest.goes_to(), "rcx");
    guest.memory.write(CODE, &TO_RAX).unwrap();
    assert_eq!(guest.goes_to(), "rax");
}

#[test]
fn a_page_that_was_mapped_elsewhere_brings_the_instruction_of_its_new_frame() {
    let mut guest = Guest::new(&TO_RAX);
    guest.memory.write(OTHER_PAGE, &TO_RCX).unwrap();
    let entry = guest.map_pages();
    assert_eq!(guest.goes_to(), "rax");
    guest.memory.write(entry, &(OTHER_PAGE | 3).to_le_bytes()).unwrap();
    assert_eq!(guest.goes_to(), "rcx", "through the leaf that was changed");
    guest.memory.write(start::place::DIRECTORIES, &(0x83u64).to_le_bytes()).unwrap();
    assert_eq!(guest.goes_to(), "rax", "through the table that was exchanged for a large page");
}

#[test]
fn other_page_tables_bring_the_instruction_that_they_map() {
    const PML4: u64 = 0x19_0000;
    const PDPT: u64 = 0x19_1000;
    const DIRECTORY: u64 = 0x19_2000;
    const TABLE: u64 = 0x19_3000;
    let mut guest = Guest::new(&TO_RAX);
    guest.memory.write(OTHER_PAGE, &TO_RCX).unwrap();
    for (place, entry) in [(PML4, PDPT), (PDPT, DIRECTORY), (DIRECTORY, TABLE), (TABLE + (CODE >> 12) * 8, OTHER_PAGE)]
    {
        guest.memory.write(place, &(entry | 3).to_le_bytes()).unwrap();
    }
    for (root, expected) in [(start::place::PML4, "rax"), (PML4, "rcx"), (start::place::PML4, "rax")] {
        guest.state.cr3 = root;
        assert_eq!(guest.goes_to(), expected);
    }
}

#[test]
fn an_instruction_across_two_pages_has_its_end_from_the_second() {
    // mov dword [rdi], imm32: the immediate lies in the second page.
    let mut guest = Guest::new(&[]);
    let last = CODE + 0xffe;
    guest.memory.write(last, &[0xc7, 0x07, 1, 0, 0, 0]).unwrap();
    guest.memory.write(OTHER_PAGE, &[2, 0, 0, 0]).unwrap();
    let entry = guest.map_pages() + 8;
    for (frame, value) in [(CODE + 0x1000, 1), (OTHER_PAGE, 2), (CODE + 0x1000, 1)] {
        guest.memory.write(entry, &(frame | 3).to_le_bytes()).unwrap();
        guest.state.rip = last;
        guest.access(APIC, 0).unwrap();
        assert_eq!((guest.apic(), guest.state.rip), (value, last + 6));
    }
    guest.memory.write(entry, &[0; 8]).unwrap();
    guest.state.rip = last;
    assert!(matches!(guest.access(APIC, 0), Err(Ending::CannotEmulate(..))), "the second page has gone");
}

#[test]
fn state_that_an_instruction_needs_and_that_is_not_there_is_asked_for_once() {
    use ipc_proto::exit::{Exit, ResumeFlags};
    for (bytes, needs) in
        [(&[0x8b, 0x27][..], StateMask::RSP), (&[0x48, 0x89, 0x27], StateMask::RSP), (&[0xaa], StateMask::SEGMENTS)]
    {
        let mut guest = Guest::new(bytes);
        guest.here = Exit::Mmio(APIC, 0).travels();
        guest.state.gprs.rdi = APIC;
        let answer = guest.access(APIC, 0).unwrap();
        assert_eq!((answer.flags, answer.write, answer.event), (ResumeFlags::MORE, needs, None), "{bytes:02x?}");
        assert_eq!((guest.asked_for, guest.state.rip), (needs, CODE), "nothing has been done yet");
        guest.here |= guest.asked_for;
        let answer = guest.access(APIC, 0).unwrap();
        assert_eq!((answer.flags, guest.state.rip), (ResumeFlags::empty(), CODE + bytes.len() as u64));
    }
    // AH is a part of RAX, though its number in the encoding is RSP's.
    let mut guest = Guest::new(&[0x88, 0x27]);
    guest.here = Exit::Mmio(APIC, 0).travels();
    assert!(guest.access(APIC, 0).unwrap().flags.is_empty());
}
