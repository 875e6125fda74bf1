//! The Multiboot information (specification 3.3), read where the loader put it and believed in nothing.

use crate::module;
use guests::memory::{read, write};
use guests::report::holds;

/// Flags: which fields are there.
const SIZES: u32 = 1 << 0;
const COMMAND_LINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;
const MAP: u32 = 1 << 6;

/// Offsets of the fields.
mod at {
    pub const LOWER: u64 = 4;
    pub const UPPER: u64 = 8;
    pub const COMMAND_LINE: u64 = 16;
    pub const MODULES_COUNT: u64 = 20;
    pub const MODULES: u64 = 24;
    pub const MAP_LENGTH: u64 = 44;
    pub const MAP: u64 = 48;
}

/// Where it is, and its flags.
pub struct Information {
    address: u64,
    flags: u32,
}

/// A range of the memory map.
#[derive(Clone, Copy)]
struct Range {
    first: u64,
    length: u64,
    kind: u32,
}

const AVAILABLE: u32 = 1;

impl Information {
    pub fn at(address: u32) -> Self {
        let address = u64::from(address);
        Self { address, flags: read(address) }
    }

    fn field(&self, offset: u64) -> u64 {
        u64::from(read::<u32>(self.address + offset))
    }

    fn has(&self, flag: u32) -> Result<(), &'static str> {
        holds(self.flags & flag == flag, "its flag is clear")
    }

    /// KiB below 1 MiB and from 1 MiB on.
    pub fn sizes(&self) -> Result<(), &'static str> {
        self.has(SIZES)?;
        let (lower, upper) = (self.field(at::LOWER), self.field(at::UPPER));
        guests::line!("multiboot: {lower} KiB below 1 MiB, {upper} KiB above");
        holds((512..=640).contains(&lower), "below 1 MiB there are 512 to 640 KiB")?;
        let end = (1 << 20) + upper * 1024;
        holds(end > crate::devices::here(), "this kernel would lie behind the end of memory")?;
        holds(keeps(end - 8), "the last word does not keep what is written")
    }

    /// Ranges follow one another, memory is where this kernel is, and is not where the VGA window is.
    pub fn map(&self) -> Result<(), &'static str> {
        self.has(MAP)?;
        let (mut entry, end) = (self.field(at::MAP), self.field(at::MAP) + self.field(at::MAP_LENGTH));
        let (mut last, mut here, mut upper) = (0, false, 0);
        while entry < end {
            let size = u64::from(read::<u32>(entry));
            holds(size >= 20, "an entry is too small")?;
            let range = Range { first: read(entry + 4), length: read(entry + 12), kind: read(entry + 20) };
            guests::line!("multiboot: {:#011x} + {:#x} kind {}", range.first, range.length, range.kind);
            holds(range.first >= last, "ranges overlap or go backwards")?;
            last = range.first + range.length;
            if range.kind == AVAILABLE {
                here |= (range.first..last).contains(&crate::devices::here());
                holds(last <= 0xa_0000 || range.first >= 0x10_0000, "memory between 640 KiB and 1 MiB")?;
                if range.first == 0x10_0000 {
                    upper = range.length >> 10;
                }
            }
            entry += size + 4;
        }
        holds(entry == end, "the last entry goes beyond the map")?;
        holds(here, "no memory where this kernel is")?;
        holds(upper == self.field(at::UPPER), "map and sizes do not agree")
    }

    /// It ends in `expected`; a loader may put the kernel's name before.
    pub fn command_line(&self, expected: &[u8]) -> Result<(), &'static str> {
        self.has(COMMAND_LINE)?;
        let start = self.field(at::COMMAND_LINE);
        let len = (0..4096).find(|n| read::<u8>(start + n) == 0).ok_or("no end")?;
        holds(len >= expected.len() as u64, "too short")?;
        let first = start + len - expected.len() as u64;
        let same = expected.iter().enumerate().all(|(n, byte)| read::<u8>(first + n as u64) == *byte);
        holds(same, "something else")
    }

    /// One module, on a page of its own as the header asks, and every byte of it.
    pub fn module(&self) -> Result<(), &'static str> {
        self.has(MODULES)?;
        holds(self.field(at::MODULES_COUNT) == 1, "not exactly one")?;
        let entry = self.field(at::MODULES);
        let (first, end) = (u64::from(read::<u32>(entry)), u64::from(read::<u32>(entry + 4)));
        holds(first & 0xfff == 0, "not aligned to a page")?;
        holds(end - first == module::LENGTH, "of another length")?;
        holds((0..module::LENGTH).all(|n| read::<u8>(first + n) == module::byte(n)), "a byte is another")?;
        holds(end <= crate::devices::kernel_first() || first >= crate::devices::kernel_end(), "over this kernel")
    }
}

/// Whether the word at `address` is memory. It is left as it was: the loader may have put something there.
fn keeps(address: u64) -> bool {
    let old = read::<u64>(address);
    write(address, !old);
    let kept = read::<u64>(address) == !old;
    write(address, old);
    kept
}
