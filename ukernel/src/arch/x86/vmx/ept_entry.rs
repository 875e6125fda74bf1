//! EPT entries (SDM vol. 3C, tables 29-1 to 29-7) and the EPT pointer (table 25-9).

use super::root::EptCapabilities;
use crate::ept::{Entry, Format, Leaf};
use ipc_proto::grant::{MemType, Pfn, Rights};

const RIGHTS: u64 = 0b111;
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The bits that the CPU sets in a leaf by itself.
pub const TRACES: u64 = ACCESSED | DIRTY;

/// The format of EPT tables.
pub struct EptFormat;

impl Format for EptFormat {
    #[inline(always)]
    fn table(pfn: Pfn) -> u64 {
        pfn.0 << 12 | RIGHTS
    }

    #[inline(always)]
    fn leaf(pfn: Pfn, level: u8, rights: Rights, mem_type: MemType) -> u64 {
        let size = if level > 1 { LARGE } else { 0 };
        pfn.0 << 12 | rights.bits() as u64 | (mem_type as u64) << 3 | IGNORE_PAT | size
    }

    #[inline(always)]
    fn decode(entry: u64, level: u8) -> Entry {
        if entry & RIGHTS == 0 {
            return Entry::Empty;
        }
        if level > 1 && entry & LARGE == 0 {
            return Entry::Table(Pfn((entry & ADDRESS) >> 12));
        }
        Entry::Leaf(Leaf {
            pfn: Pfn((entry & ADDRESS) >> 12),
            rights: Rights::from_bits_truncate((entry & RIGHTS) as u8),
            mem_type: MemType::from_number(entry >> 3 & 7).unwrap_or(MemType::Uncacheable),
            accessed: entry & ACCESSED != 0,
            dirty: entry & DIRTY != 0,
        })
    }
}

/// The EPT pointer for the tree below `root`: write-back tables, four levels, A/D bits where the CPU has them.
#[must_use]
pub fn pointer(root: Pfn, capabilities: EptCapabilities) -> u64 {
    let traces = if capabilities.contains(EptCapabilities::ACCESSED_DIRTY) { 1 << 6 } else { 0 };
    root.0 << 12 | 6 | 3 << 3 | traces
}

#[cfg(test)]
mod tests;
