//! Multiboot 1 (Multiboot Specification 0.6.96): an ELF kernel, or any file whose header says itself where it goes,
//! entered in 32-bit protected mode with a description of the machine in EBX.

use super::{Image, LoadError, field, place};
use crate::memory::{GuestMemory, HIGH, RangeKind};
use crate::start;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, PT_LOAD};
use elf::endian::AnyEndian;
use ipc_proto::state::VcpuState;

/// The header is in the first so many bytes of the file.
const SEARCHED: usize = 8192;
const HEADER_MAGIC: u32 = 0x1bad_b002;
/// In EAX at the entry.
const LOADED_MAGIC: u64 = 0x2bad_b002;

/// Requirements in the header's flags that a loader must know.
const REQUIRED: u32 = 0xffff;
/// Modules on page boundaries, memory information, a video mode: the first two always hold, the third is a wish.
const KNOWN: u32 = 0b111;
const HAS_ADDRESSES: u32 = 1 << 16;

/// What of the information structure is valid.
const INFO_FLAGS: u32 = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME;
const INFO_MEMORY: u32 = 1 << 0;
const INFO_COMMAND_LINE: u32 = 1 << 2;
const INFO_MODULES: u32 = 1 << 3;
const INFO_MEMORY_MAP: u32 = 1 << 6;
const INFO_LOADER_NAME: u32 = 1 << 9;

/// Where the parts of the information go: at the end of conventional memory, as old kernels begin at its beginning.
const INFO: u64 = 0x9_0000;
const INFO_LEN: usize = 120;
const MEMORY_MAP: u64 = INFO + 0x100;
const MODULE_LIST: u64 = INFO + 0x200;
const STRINGS: u64 = INFO + 0x1000;
const STRINGS_END: u64 = INFO + 0x3000;
/// What lies below holds BIOS data and the descriptor table.
const FIRST_FREE: u64 = 0x1000;
const PAGE: u64 = 0x1000;
const LOADER_NAME: &str = "Faultline";

/// The header's own idea of where the kernel goes.
#[derive(Clone, Copy)]
struct Addresses {
    header: u32,
    load: u32,
    load_end: u32,
    bss_end: u32,
    entry: u32,
}

/// Loads the kernel and its modules and says in which state it starts.
///
/// # Errors
/// [`LoadError`]: what is wrong with the file, or what does not fit.
pub fn load(image: &Image<'_>, memory: &mut dyn GuestMemory) -> Result<VcpuState, LoadError> {
    let (at, addresses) = find_header(image.kernel)?;
    start::write_bios_data(memory)?;
    let (entry, end) = match addresses {
        Some(addresses) => load_by_header(image, at, addresses, memory)?,
        None => load_elf(image, memory)?,
    };
    describe(image, end, memory)?;
    log::info!("multiboot kernel, entry at {entry:#x}, end at {end:#x}");
    let mut state = start::protected_mode(entry, memory)?;
    state.gprs.rax = LOADED_MAGIC;
    state.gprs.rbx = INFO;
    Ok(state)
}

fn find_header(file: &[u8]) -> Result<(usize, Option<Addresses>), LoadError> {
    const PART: &str = "the multiboot header";
    let double = |at| field(file, at, PART).map(u32::from_le_bytes);
    let is_header = |at: &usize| match (double(*at), double(*at + 4), double(*at + 8)) {
        (Ok(HEADER_MAGIC), Ok(flags), Ok(sum)) => HEADER_MAGIC.wrapping_add(flags).wrapping_add(sum) == 0,
        _ => false,
    };
    let at = (0..SEARCHED.min(file.len()))
        .step_by(4)
        .find(is_header)
        .ok_or(LoadError::Malformed("no multiboot header in the first 8 KiB of the file"))?;
    let flags = double(at + 4)?;
    if flags & REQUIRED & !KNOWN != 0 {
        return Err(LoadError::Malformed("the multiboot header requires a feature that no loader has"));
    }
    if flags & HAS_ADDRESSES == 0 {
        return Ok((at, None));
    }
    let addresses = Addresses {
        header: double(at + 12)?,
        load: double(at + 16)?,
        load_end: double(at + 20)?,
        bss_end: double(at + 24)?,
        entry: double(at + 28)?,
    };
    Ok((at, Some(addresses)))
}

/// What is not in the file is zero: fresh memory is, so it is only checked that it is there.
fn room(image: &Image<'_>, part: &'static str, range: Range<u64>) -> Result<(), LoadError> {
    let len = range.end - range.start;
    let free = range.start >= FIRST_FREE && (range.end <= INFO || range.start >= HIGH);
    if free && image.ram.writable(range.start, len) { Ok(()) } else { Err(LoadError::NoRoom(part, range.start, len)) }
}

/// Entry and end of a kernel whose header says where it goes.
fn load_by_header(
    image: &Image<'_>,
    at: usize,
    addresses: Addresses,
    memory: &mut dyn GuestMemory,
) -> Result<(u64, u64), LoadError> {
    const WRONG: LoadError = LoadError::Malformed("the addresses in the multiboot header contradict each other");
    let before_header = addresses.header.checked_sub(addresses.load).ok_or(WRONG)?;
    let first = at.checked_sub(before_header as usize).ok_or(WRONG)?;
    let rest = &image.kernel[first..];
    let bytes = if addresses.load_end == 0 {
        rest
    } else {
        let len = addresses.load_end.checked_sub(addresses.load).ok_or(WRONG)?;
        rest.get(..len as usize).ok_or(LoadError::Truncated("what the multiboot header says is to be loaded"))?
    };
    let start = u64::from(addresses.load);
    let end = (start + bytes.len() as u64).max(u64::from(addresses.bss_end));
    room(image, "the kernel", start..end)?;
    place(memory, "the kernel", start, bytes)?;
    Ok((u64::from(addresses.entry), end))
}

/// Entry and end of an ELF kernel.
fn load_elf(image: &Image<'_>, memory: &mut dyn GuestMemory) -> Result<(u64, u64), LoadError> {
    const BROKEN: LoadError = LoadError::Malformed("neither addresses in the multiboot header nor a whole ELF file");
    let file = ElfBytes::<AnyEndian>::minimal_parse(image.kernel).map_err(|_| BROKEN)?;
    if !matches!(file.ehdr.e_machine, EM_386 | EM_X86_64) {
        return Err(LoadError::Malformed("an ELF file for another kind of CPU"));
    }
    let mut entry = file.ehdr.e_entry;
    let mut end = 0;
    for segment in file.segments().ok_or(BROKEN)?.iter().filter(|segment| segment.p_type == PT_LOAD) {
        if segment.p_memsz == 0 {
            continue;
        }
        let bytes = file.segment_data(&segment).map_err(|_| LoadError::Truncated("a segment of the ELF file"))?;
        let len = segment.p_memsz.max(segment.p_filesz);
        let wraps = LoadError::Malformed("a segment of the ELF file goes beyond the address space");
        let segment_end = segment.p_paddr.checked_add(len).ok_or(wraps)?;
        room(image, "a segment of the kernel", segment.p_paddr..segment_end)?;
        place(memory, "a segment of the kernel", segment.p_paddr, bytes)?;
        end = end.max(segment_end);
        // The entry is a virtual address: the CPU begins without paging, at the physical one.
        if (segment.p_vaddr..segment.p_vaddr.saturating_add(len)).contains(&file.ehdr.e_entry) {
            entry = file.ehdr.e_entry - segment.p_vaddr + segment.p_paddr;
        }
    }
    if end == 0 {
        return Err(LoadError::Malformed("an ELF file with nothing to load"));
    }
    Ok((entry, end))
}

/// Strings one after another, each ending with a zero byte.
struct Strings {
    next: u64,
}

impl Strings {
    fn put(&mut self, parts: &[&str], memory: &mut dyn GuestMemory) -> Result<u32, LoadError> {
        let start = self.next;
        for part in parts {
            place(memory, "a command line", self.next, part.as_bytes())?;
            self.next += part.len() as u64;
        }
        place(memory, "a command line", self.next, &[0])?;
        self.next += 1;
        if self.next > STRINGS_END {
            return Err(LoadError::NoRoom("command lines and names", start, self.next - start));
        }
        Ok(start as u32)
    }
}

/// Places the modules behind the kernel and writes the information structure.
fn describe(image: &Image<'_>, kernel_end: u64, memory: &mut dyn GuestMemory) -> Result<(), LoadError> {
    let mut strings = Strings { next: STRINGS };
    // The first word of a multiboot command line is the kernel's own name.
    let separator = if image.command_line.is_empty() { "" } else { " " };
    let command_line = strings.put(&[image.name, separator, image.command_line], memory)?;
    let mut next = kernel_end.max(HIGH).next_multiple_of(PAGE);
    for (index, (name, bytes)) in image.modules.iter().enumerate() {
        let end = next + bytes.len() as u64;
        room(image, "a module", next..end)?;
        place(memory, "a module", next, bytes)?;
        let entry = [next as u32, end as u32, strings.put(&[name], memory)?, 0];
        put_words(memory, MODULE_LIST + index as u64 * 16, &entry)?;
        next = end.next_multiple_of(PAGE);
    }
    let map_len = write_memory_map(image, memory)?;
    let loader_name = strings.put(&[LOADER_NAME], memory)?;

    let mut info = [0u32; INFO_LEN / 4];
    info[0] = INFO_FLAGS;
    info[1] = 639;
    info[2] = ((image.ram.low_end() - HIGH) >> 10) as u32;
    info[4] = command_line;
    info[5] = image.modules.len() as u32;
    info[6] = MODULE_LIST as u32;
    info[11] = map_len;
    info[12] = MEMORY_MAP as u32;
    info[16] = loader_name;
    put_words(memory, INFO, &info)
}

fn put_words(memory: &mut dyn GuestMemory, at: u64, words: &[u32]) -> Result<(), LoadError> {
    for (index, word) in words.iter().enumerate() {
        place(memory, "the multiboot information", at + index as u64 * 4, &word.to_le_bytes())?;
    }
    Ok(())
}

/// Writes the memory map and says how many bytes it has.
fn write_memory_map(image: &Image<'_>, memory: &mut dyn GuestMemory) -> Result<u32, LoadError> {
    const ENTRY: u32 = 24;
    let ranges = image.ram.firmware_map();
    for (index, range) in ranges.iter().enumerate() {
        let (start, len) = (range.start, range.end - range.start);
        let kind = match range.kind {
            RangeKind::Ram => 1,
            RangeKind::Reserved => 2,
        };
        // The size field does not count itself.
        let words = [ENTRY - 4, start as u32, (start >> 32) as u32, len as u32, (len >> 32) as u32, kind];
        put_words(memory, MEMORY_MAP + index as u64 * u64::from(ENTRY), &words)?;
    }
    Ok(ranges.len() as u32 * ENTRY)
}

#[cfg(test)]
#[path = "multiboot_tests.rs"]
mod tests;
