//! Multiboot 1: both ways to say where a kernel goes, and the description it gets.

use super::{INFO, load};
use crate::load::{Image, LoadError};
use crate::memory::{GuestMemory, RamMap};
use crate::testing::Memory;
use crate::translate::{Width, width};
use ipc_proto::state::VcpuState;
use std::vec::Vec;

const MIB: u32 = 1 << 20;
const MAGIC: u32 = 0x1bad_b002;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn header(flags: u32) -> [u32; 3] {
    [MAGIC, flags, 0u32.wrapping_sub(MAGIC).wrapping_sub(flags)]
}

/// One loadable segment: where it is to be, at which virtual address, its bytes, how much room it takes.
struct Segment<'a> {
    physical: u32,
    virtual_address: u32,
    bytes: &'a [u8],
    memory: u32,
}

/// An ELF32 executable with the multiboot header right behind its program headers.
fn elf32(entry: u32, flags: u32, segments: &[Segment<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    file.extend(words(&[1, entry, 52, 0, 0]));
    for half in [52u16, 32, segments.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 52 + 32 * segments.len() as u32 + 12;
    for segment in segments {
        let len = segment.bytes.len() as u32;
        file.extend(words(&[1, offset, segment.virtual_address, segment.physical, len, segment.memory, 7, 4]));
        offset += len;
    }
    file.extend(words(&header(flags)));
    for segment in segments {
        file.extend(segment.bytes);
    }
    file
}

fn kernel(bytes: &[u8]) -> Vec<u8> {
    elf32(4 * MIB, 3, &[Segment { physical: 4 * MIB, virtual_address: 4 * MIB, bytes, memory: 0x5000 }])
}

fn try_load(kernel: &[u8], modules: &[(&str, &[u8])], line: &str) -> Result<(VcpuState, Memory), LoadError> {
    let ram = RamMap::new(16 << 20);
    let mut memory = Memory::new(16 << 20);
    let state = load(&Image { name: "kernel", kernel, modules, command_line: line, ram }, &mut memory)?;
    Ok((state, memory))
}

fn word(memory: &Memory, at: u64) -> u32 {
    let mut bytes = [0; 4];
    memory.read(at, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

fn text(memory: &Memory, at: u32) -> std::string::String {
    let mut bytes = [0; 64];
    memory.read(u64::from(at), &mut bytes).unwrap();
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap()).unwrap().into()
}

#[test]
fn an_elf_kernel_starts_in_protected_mode_with_the_magic_and_the_information() {
    let (state, memory) = try_load(&kernel(b"code"), &[], "").unwrap();
    assert_eq!((state.rip, state.gprs.rax, state.gprs.rbx), (4 << 20, 0x2bad_b002, INFO));
    assert_eq!((width(&state), state.cr0 & (1 << 31), state.rflags & (1 << 9)), (Width::Bits32, 0, 0));
    assert_eq!(word(&memory, 4 << 20), u32::from_le_bytes(*b"code"));
}

#[test]
fn a_virtual_entry_becomes_the_physical_one() {
    let high = 0xc000_0000;
    let segment = Segment { physical: 4 * MIB, virtual_address: high, bytes: b"code", memory: 0x1000 };
    assert_eq!(try_load(&elf32(high + 2, 3, &[segment]), &[], "").unwrap().0.rip, (4 << 20) + 2);
}

#[test]
fn the_information_names_memory_command_line_and_loader() {
    let (_, memory) = try_load(&kernel(b"code"), &[], "-t all").unwrap();
    let info = |offset| word(&memory, INFO + offset);
    assert_eq!(info(0) & 0b100_1101, 0b100_1101 & info(0));
    assert_eq!((info(4), info(8)), (639, 15 * 1024));
    assert_eq!(text(&memory, info(16)), "kernel -t all");
    assert_eq!(text(&memory, info(64)), "Faultline");
    assert_eq!(info(0) & 0x245, 0x245);
}

#[test]
fn the_memory_map_has_one_entry_for_each_range() {
    let (_, memory) = try_load(&kernel(b"code"), &[], "").unwrap();
    let (len, at) = (word(&memory, INFO + 44), u64::from(word(&memory, INFO + 48)));
    let mut next = at;
    let mut entries = Vec::new();
    while next < at + u64::from(len) {
        entries.push((word(&memory, next + 4), word(&memory, next + 12), word(&memory, next + 20)));
        next += u64::from(word(&memory, next)) + 4;
    }
    assert_eq!(next, at + u64::from(len));
    assert_eq!(entries, [(0, 0x9_fc00, 1), (0x9_fc00, 0x400, 2), (0xc_0000, 0x4_0000, 2), (MIB, 15 * MIB, 1)]);
}

#[test]
fn modules_lie_on_pages_behind_the_kernel_and_do_not_overlap() {
    let first = std::vec![0x11; 5_000];
    let (_, memory) = try_load(&kernel(b"code"), &[("one", &first), ("two", b"22")], "").unwrap();
    assert_eq!(word(&memory, INFO + 20), 2);
    let list = u64::from(word(&memory, INFO + 24));
    let module = |index: u64| {
        (
            word(&memory, list + 16 * index),
            word(&memory, list + 16 * index + 4),
            text(&memory, word(&memory, list + 16 * index + 8)),
        )
    };
    let start = 4 * MIB + 0x5000;
    assert_eq!(module(0), (start, start + 5_000, "one".into()));
    assert_eq!(module(1), (start + 0x2000, start + 0x2002, "two".into()));
    assert_eq!(word(&memory, u64::from(start)), 0x1111_1111);
}

/// A file whose header is at byte 8 and says that the byte at file offset 4 goes to 2 MiB.
fn by_header(load_end: u32, bss_end: u32) -> Vec<u8> {
    let flags = 1 << 16 | 3;
    let load = 2 * MIB;
    let mut file = words(&[0xdead_beef, 0x1234_5678]);
    file.extend(words(&header(flags)));
    file.extend(words(&[load + 4, load, load_end, bss_end, load + 0x24]));
    file.extend(b"code and data");
    file
}

#[test]
fn a_header_with_addresses_places_the_file_itself() {
    let (state, memory) = try_load(&by_header(0, 3 * MIB), &[("one", b"1")], "").unwrap();
    assert_eq!(state.rip, (2 << 20) + 0x24);
    assert_eq!((word(&memory, 2 << 20), word(&memory, (2 << 20) + 4)), (0x1234_5678, MAGIC));
    let list = u64::from(word(&memory, INFO + 24));
    assert_eq!(word(&memory, list), 3 * MIB, "modules are behind the zeroed part too");
    let (_, memory) = try_load(&by_header(2 * MIB + 8, 0), &[], "").unwrap();
    assert_eq!((word(&memory, (2 << 20) + 4), word(&memory, (2 << 20) + 8)), (MAGIC, 0));
}

#[test]
fn addresses_that_contradict_each_other_are_refused() {
    for (load_end, bss_end) in [(MIB, 0), (0xffff_ffff, 0), (0, 0xffff_ffff)] {
        assert!(try_load(&by_header(load_end, bss_end), &[], "").is_err(), "{load_end:#x} {bss_end:#x}");
    }
}

#[test]
fn bad_kernels_are_refused_in_words() {
    let refusal = |file: &[u8]| std::format!("{}", try_load(file, &[], "").err().unwrap());
    assert!(refusal(b"no kernel").contains("no multiboot header"));
    assert!(refusal(&words(&header(3))).contains("whole ELF file"));
    assert!(refusal(&words(&header(1 << 4))).contains("requires a feature"));
    let mut other_cpu = kernel(b"code");
    other_cpu[18] = 40;
    assert!(refusal(&other_cpu).contains("another kind of CPU"));
    let truncated = kernel(b"code");
    assert!(refusal(&truncated[..truncated.len() - 2]).contains("file ends"));
    assert!(refusal(&elf32(0, 3, &[])).contains("nothing to load") || refusal(&elf32(0, 3, &[])).contains("whole"));
}

#[test]
fn a_segment_may_lie_in_conventional_memory() {
    let segment = Segment { physical: 0x8000, virtual_address: 0x8000, bytes: b"code", memory: 0x2000 };
    let (state, memory) = try_load(&elf32(0x8000, 3, &[segment]), &[("one", b"1")], "").unwrap();
    assert_eq!((state.rip, word(&memory, 0x8000)), (0x8000, u32::from_le_bytes(*b"code")));
    let list = u64::from(word(&memory, INFO + 24));
    assert_eq!(word(&memory, list), MIB, "modules stay above 1 MiB");
}

#[test]
fn a_segment_must_lie_in_free_ram() {
    for physical in [0, 0x8_f000, 0x9_0000, 0x9_ff00, 0xb_8000, 0xf_0000, 15 * MIB + 0xf_f000] {
        let segment = Segment { physical, virtual_address: physical, bytes: b"code", memory: 0x2000 };
        let refused = try_load(&elf32(physical, 3, &[segment]), &[], "");
        assert!(matches!(refused, Err(LoadError::NoRoom(..))), "{physical:#x}");
    }
}
