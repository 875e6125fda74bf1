//! Linux, by the x86 boot protocol (Documentation/arch/x86/boot.rst): the 64-bit entry where the kernel has one, the
//! 32-bit entry otherwise. Also memtest86+ and everything else that comes as a bzImage.

use super::{Image, LoadError, field, place};
use crate::acpi;
use crate::memory::{GuestMemory, HIGH, RamMap, RangeKind};
use crate::start::{self, place::BOOT_DATA, place::COMMAND_LINE};
use ipc_proto::state::VcpuState;

/// Fields of the setup header, by their offset in the file and in the zero page.
mod offset {
    pub const E820_COUNT: usize = 0x1e8;
    pub const SETUP_SECTORS: usize = 0x1f1;
    pub const VIDEO_MODE: usize = 0x1fa;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER_LENGTH: usize = 0x201;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    /// What follows in the zero page is not the header.
    pub const HEADER_LIMIT: usize = 0x290;
    pub const LOADER: usize = 0x210;
    pub const LOAD_FLAGS: usize = 0x211;
    pub const CODE32_START: usize = 0x214;
    pub const INITRD: usize = 0x218;
    pub const INITRD_SIZE: usize = 0x21c;
    pub const COMMAND_LINE: usize = 0x228;
    pub const INITRD_MAX: usize = 0x22c;
    pub const ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE: usize = 0x234;
    pub const LOAD_FLAGS_64: usize = 0x236;
    pub const COMMAND_LINE_MAX: usize = 0x238;
    pub const PREFERRED: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
    pub const E820: usize = 0x2d0;
    // Only in the zero page.
    pub const EXTENDED_MEMORY: usize = 0x002;
    pub const RSDP: usize = 0x070;
    pub const EXTENDED_MEMORY_32: usize = 0x1e0;
}

const HEADER_MAGIC: [u8; 4] = *b"HdrS";
const BOOT_MAGIC: u16 = 0xaa55;
const LOADED_HIGH: u8 = 1;
const KERNEL_64: u16 = 1;
/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
const VIDEO_NORMAL: u16 = 0xffff;
/// The 64-bit entry, from the beginning of the loaded code.
const ENTRY_64: u64 = 0x200;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// What the setup header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setup {
    version: u16,
    header_end: usize,
    code_offset: usize,
    relocatable: bool,
    alignment: u64,
    preferred: u64,
    init_size: u64,
    initrd_max: u64,
    command_line_max: usize,
    has_64_bit_entry: bool,
}

impl Setup {
    fn read(file: &[u8]) -> Result<Self, LoadError> {
        const PART: &str = "the setup header";
        let byte = |offset| field::<1>(file, offset, PART).map(|[byte]| byte);
        let word = |offset| field(file, offset, PART).map(u16::from_le_bytes);
        let double = |offset| field(file, offset, PART).map(u32::from_le_bytes);
        if word(offset::BOOT_FLAG)? != BOOT_MAGIC || field(file, offset::HEADER, PART)? != HEADER_MAGIC {
            return Err(LoadError::Malformed("no Linux bzImage: the setup header's magic numbers are missing"));
        }
        let version = word(offset::VERSION)?;
        if version < 0x202 || byte(offset::LOAD_FLAGS)? & LOADED_HIGH == 0 {
            return Err(LoadError::Malformed(
                "a kernel of a boot protocol before 2.02, or one that is loaded below 1 MiB (zImage)",
            ));
        }
        let since = |first: u16| version >= first;
        let sectors = match byte(offset::SETUP_SECTORS)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        Ok(Self {
            version,
            header_end: (offset::HEADER + usize::from(byte(offset::HEADER_LENGTH)?)).min(offset::HEADER_LIMIT),
            code_offset: (sectors + 1) * 512,
            relocatable: since(0x205) && byte(offset::RELOCATABLE)? != 0,
            alignment: if since(0x205) { u64::from(double(offset::ALIGNMENT)?).max(0x1000) } else { HIGH },
            preferred: if since(0x20a) { field(file, offset::PREFERRED, PART).map(u64::from_le_bytes)? } else { HIGH },
            init_size: if since(0x20a) { u64::from(double(offset::INIT_SIZE)?) } else { 0 },
            initrd_max: if since(0x203) { u64::from(double(offset::INITRD_MAX)?) } else { 0x37ff_ffff },
            command_line_max: if since(0x206) { double(offset::COMMAND_LINE_MAX)? as usize } else { 255 },
            has_64_bit_entry: since(0x20c) && word(offset::LOAD_FLAGS_64)? & KERNEL_64 != 0,
        })
    }

    /// Where the code goes: the preferred address, or the first aligned one where there is room if it can be moved.
    fn place(&self, ram: RamMap, len: u64) -> Result<u64, LoadError> {
        let size = self.init_size.max(len);
        if self.preferred >= HIGH && ram.writable(self.preferred, size) {
            return Ok(self.preferred);
        }
        let first = HIGH.next_multiple_of(self.alignment);
        if self.relocatable && ram.writable(first, size) {
            return Ok(first);
        }
        Err(LoadError::NoRoom("the kernel", self.preferred, size))
    }
}

/// Loads the kernel, its initrd and its command line, and says in which state it starts.
///
/// # Errors
/// [`LoadError`]: what is wrong with the file, or what does not fit.
pub fn load(image: &Image<'_>, memory: &mut dyn GuestMemory) -> Result<VcpuState, LoadError> {
    let setup = Setup::read(image.kernel)?;
    let code = image.kernel.get(setup.code_offset..).ok_or(LoadError::Truncated("the real-mode part"))?;
    let start = setup.place(image.ram, code.len() as u64)?;
    let kernel_end = start + setup.init_size.max(code.len() as u64);
    start::write_tables(memory)?;
    place(memory, "the kernel", start, code)?;

    let mut page = ZeroPage::new(image.kernel, &setup)?;
    page.put(offset::CODE32_START, &(start as u32).to_le_bytes());
    load_command_line(image.command_line, &setup, memory)?;
    page.put(offset::COMMAND_LINE, &(COMMAND_LINE as u32).to_le_bytes());
    match image.modules {
        [] => {}
        [(_, initrd)] => {
            let at = place_initrd(initrd.len() as u64, kernel_end, &setup, image.ram)?;
            place(memory, "the initrd", at, initrd)?;
            page.put(offset::INITRD, &(at as u32).to_le_bytes());
            page.put(offset::INITRD_SIZE, &(initrd.len() as u32).to_le_bytes());
        }
        modules => return Err(LoadError::Modules(modules.len(), 1)),
    }
    page.describe_memory(image.ram);
    place(memory, "the zero page", BOOT_DATA, &page.0)?;

    log::info!(
        "Linux boot protocol {}.{:02}, {}-bit entry, kernel at {start:#x}",
        setup.version >> 8,
        setup.version & 0xff,
        if setup.has_64_bit_entry { 64 } else { 32 },
    );
    enter(&setup, start, memory)
}

fn enter(setup: &Setup, start: u64, memory: &mut dyn GuestMemory) -> Result<VcpuState, LoadError> {
    let mut state =
        if setup.has_64_bit_entry { start::long_mode(start + ENTRY_64) } else { start::protected_mode(start, memory)? };
    state.gprs.rsi = BOOT_DATA;
    Ok(state)
}

fn load_command_line(line: &str, setup: &Setup, memory: &mut dyn GuestMemory) -> Result<(), LoadError> {
    if line.len() > setup.command_line_max {
        return Err(LoadError::CommandLine(line.len(), setup.command_line_max));
    }
    place(memory, "the command line", COMMAND_LINE, line.as_bytes())?;
    place(memory, "the command line", COMMAND_LINE + line.len() as u64, &[0])
}

/// The highest place for the initrd that the kernel can reach and that leaves the kernel its room.
fn place_initrd(len: u64, kernel_end: u64, setup: &Setup, ram: RamMap) -> Result<u64, LoadError> {
    let end = ram.low_end().min(setup.initrd_max + 1);
    match end.checked_sub(len).map(|start| start & !0xfff) {
        Some(start) if start >= kernel_end => Ok(start),
        _ => Err(LoadError::NoRoom("the initrd, above the kernel", kernel_end, len)),
    }
}

/// `struct boot_params`.
struct ZeroPage([u8; 4096]);

impl ZeroPage {
    /// All zeros but for the setup header.
    fn new(file: &[u8], setup: &Setup) -> Result<Self, LoadError> {
        let header =
            file.get(offset::SETUP_SECTORS..setup.header_end).ok_or(LoadError::Truncated("the setup header"))?;
        let mut page = Self([0; 4096]);
        page.put(offset::SETUP_SECTORS, header);
        page.put(offset::LOADER, &[LOADER_UNDEFINED]);
        page.put(offset::VIDEO_MODE, &VIDEO_NORMAL.to_le_bytes());
        page.put(offset::RSDP, &acpi::RSDP.to_le_bytes());
        Ok(page)
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn describe_memory(&mut self, ram: RamMap) {
        let ranges = ram.firmware_map();
        for (index, range) in ranges.iter().enumerate() {
            let entry = offset::E820 + index * 20;
            let kind = match range.kind {
                RangeKind::Ram => E820_RAM,
                RangeKind::Reserved => E820_RESERVED,
            };
            self.put(entry, &range.start.to_le_bytes());
            self.put(entry + 8, &(range.end - range.start).to_le_bytes());
            self.put(entry + 16, &kind.to_le_bytes());
        }
        self.put(offset::E820_COUNT, &[ranges.len() as u8]);
        let extended = (ram.low_end() - HIGH) >> 10;
        self.put(offset::EXTENDED_MEMORY, &(extended.min(0xfc00) as u16).to_le_bytes());
        self.put(offset::EXTENDED_MEMORY_32, &(extended as u32).to_le_bytes());
    }
}

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
