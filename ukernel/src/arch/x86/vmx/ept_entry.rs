//! EPT entries (SDM vol. 3C, tables 29-1 to 29-7) and the EPT pointer (table 25-9).
//!
//! A leaf has the rights that were granted in bits 54:52, which the CPU ignores, and those that the CPU goes by in bits
//! 2:0: some of them, when a harvest has taken the others to see whether they are used. Bit 55 is ignored too: it says that no
//! window shows the page.

use super::root::EptCapabilities;
use crate::ept::{Entry, Format, Leaf};
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::memop::Harvest;

const RIGHTS: u64 = 0b111;
/// Where the granted rights are.
const GRANTED: u32 = 52;
/// Where it is whether windows show the page.
const SEEN_BY: u32 = 55;
/// Rights of an entry that no mapping has: writable but not readable.
const MISCONFIGURED: u64 = 0b110;
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
        pfn.0 << 12 | leaf_bits(rights, mem_type) | size
    }

    #[inline(always)]
    fn next(entry: u64) -> Option<Pfn> {
        // The lowest byte of a table's entry is `table`'s, whatever the CPU noted beside it; a leaf's has `IGNORE_PAT`.
        (entry as u8 == RIGHTS as u8).then_some(Pfn(entry >> 12))
    }

    #[inline(always)]
    fn decode(entry: u64, level: u8) -> Entry {
        if entry >> GRANTED & RIGHTS == 0 {
            return Self::next(entry).filter(|_| level > 1).map_or(Entry::Empty, Entry::Table);
        }
        Entry::Leaf(Leaf {
            pfn: Pfn((entry & ADDRESS) >> 12),
            rights: Rights::from_bits_truncate((entry >> GRANTED & RIGHTS) as u8),
            allowed: Rights::from_bits_truncate((entry & RIGHTS) as u8),
            mem_type: MemType::from_number(entry >> 3 & 7).unwrap_or(MemType::Uncacheable),
            accessed: entry & ACCESSED != 0,
            dirty: entry & DIRTY != 0,
            seen_by: SeenBy::from_bit(entry >> SEEN_BY),
        })
    }
}

/// The bits of a leaf of `level`, 4 KiB or 2 MiB, all but its frame, that the first word of a reply asks for: `Map` of one
/// page of that level that can be read, of a valid memory type, with nothing more. Any other word is looked at more closely
/// elsewhere.
#[inline(always)]
#[must_use]
pub fn page_bits(head: u64, level: Level) -> Option<u64> {
    const SHAPE: u64 = 0xff << 10;
    if head & !SHAPE != MAP_ONE & !SHAPE {
        return None;
    }
    let bits = if level == Level::Page { &PAGE_BITS } else { &LARGE_BITS }[((head & SHAPE) >> 10) as usize];
    if bits == 0 { None } else { Some(bits) }
}

/// The same of a run: how many pages of 4 KiB, and the bits of a leaf.
#[inline(always)]
#[must_use]
pub fn run_bits(head: u64) -> Option<(usize, u64)> {
    const COUNT: u64 = 0x3ff;
    let count = head & COUNT;
    page_bits(head - count + 1, Level::Page).map(|bits| (count as usize, bits))
}

/// The first word of a `Map` of one page, without level, rights and type (bits 17:10).
const MAP_ONE: u64 = {
    let grant = Grant {
        gfn: Gfn(0),
        pfn: Pfn(0),
        count: 1,
        level: Level::Page,
        rights: Rights::empty(),
        mem_type: MemType::Uncacheable,
        mmu_seq: 0,
        seen_by: SeenBy::Everyone,
    };
    FaultReply::Map(grant, 0).to_words(TopUp { first: 0, count: 0 })[0]
};

static PAGE_BITS: [u64; 256] = bits_of(Level::Page);
static LARGE_BITS: [u64; 256] = bits_of(Level::Large);

/// By level, rights and type as in bits 17:10 of a grant's shape; 0 for what is no ordinary page of `level`.
const fn bits_of(level: Level) -> [u64; 256] {
    let mut all = [0; 256];
    let mut shape = 0;
    while shape < 256 {
        let rights = Rights::from_bits_truncate((shape >> 2) as u8);
        if shape & 3 == level as usize
            && rights.contains(Rights::READ)
            && let Some(mem_type) = MemType::from_number(shape as u64 >> 5)
        {
            all[shape] = leaf_bits(rights, mem_type) | if level as u8 > 1 { LARGE } else { 0 };
        }
        shape += 1;
    }
    all
}

/// The bits of a 4 KiB leaf beside its frame.
const fn leaf_bits(rights: Rights, mem_type: MemType) -> u64 {
    let rights = rights.bits() as u64;
    rights | rights << GRANTED | (mem_type as u64) << 3 | IGNORE_PAT
}

/// The bits of a leaf that say who sees the page.
#[inline(always)]
#[must_use]
pub const fn seen_by(who: SeenBy) -> u64 {
    (who as u64) << SEEN_BY
}

/// The bits of a leaf that say that `mode` reports it, and that go when it does and takes anything.
#[must_use]
pub const fn reported_by(mode: Harvest) -> u64 {
    match mode {
        Harvest::WriteProtect | Harvest::LookWritable => Rights::WRITE.bits() as u64,
        Harvest::Dirty | Harvest::LookDirty | Harvest::Log => DIRTY,
        Harvest::Accessed => ACCESSED,
        Harvest::Hide => RIGHTS,
    }
}

/// The bits that a leaf must lose to have no right outside of `keep`, granted or allowed.
#[must_use]
pub const fn lost(keep: Rights) -> u64 {
    let lost = RIGHTS & !(keep.bits() as u64);
    lost | lost << GRANTED
}

/// The bits that a leaf gets when a granted access is made for which the CPU has no right any more: the rights of that
/// access, and those that tell a later harvest nothing wrong.
#[must_use]
pub const fn given_back(leaf: &Leaf, tried: Rights) -> u64 {
    let written = tried.contains(Rights::WRITE);
    let rights = leaf.rights.bits() & if written { !0 } else { !Rights::WRITE.bits() };
    rights as u64
}

/// The bits that the CPU would have set for an access that it does not see.
#[must_use]
pub const fn traces(tried: Rights) -> u64 {
    ACCESSED | if tried.contains(Rights::WRITE) { DIRTY } else { 0 }
}

/// The entry of a page whose accesses go to the VM's server while the VM's slots have that generation.
#[must_use]
pub const fn remembered(generation: u64) -> u64 {
    generation << 12 | MISCONFIGURED
}

/// The EPT pointer for the tree below `root`: write-back tables, four levels, A/D bits where the CPU has them.
#[must_use]
pub fn pointer(root: Pfn, capabilities: EptCapabilities) -> u64 {
    let traces = if capabilities.contains(EptCapabilities::ACCESSED_DIRTY) { 1 << 6 } else { 0 };
    root.0 << 12 | 6 | 3 << 3 | traces
}

#[cfg(test)]
mod tests;
