//! The kernel's and the tasks' page tables, and the map of all RAM through which the kernel reaches frames.
#![expect(unsafe_code, reason = "page tables and the map of RAM")]

use super::cpu::{self, Features};
use crate::ept::{self, Entry, Format, Leaf, Table, TableMemory, Tree};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::grant::{MemType, Pfn, Rights, SeenBy};

/// Where all RAM is mapped: physical address `pa` at `PHYSMAP + pa`.
pub const PHYSMAP: u64 = 0xffff_8000_0000_0000;
/// Where the kernel's image is mapped: physical address `pa` at `KERNEL + pa`.
pub const KERNEL: u64 = 0xffff_ffff_8000_0000;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Page tables of a task (SDM vol. 3A, 4.5).
pub struct UserPages;
/// Page tables of the kernel's half.
pub struct KernelPages;

impl Format for UserPages {
    fn table(pfn: Pfn) -> u64 {
        pfn.0 << 12 | PRESENT | WRITABLE | USER
    }

    fn leaf(pfn: Pfn, level: u8, rights: Rights, mem_type: MemType) -> u64 {
        KernelPages::leaf(pfn, level, rights, mem_type) & !GLOBAL | USER
    }

    fn next(entry: u64) -> Option<Pfn> {
        (entry & (PRESENT | LARGE) == PRESENT).then_some(Pfn((entry & ADDRESS) >> 12))
    }

    fn decode(entry: u64, level: u8) -> Entry {
        if entry & PRESENT == 0 {
            return Entry::Empty;
        }
        if let Some(table) = Self::next(entry).filter(|_| level > 1) {
            return Entry::Table(table);
        }
        let mut rights = Rights::READ;
        rights.set(Rights::WRITE, entry & WRITABLE != 0);
        rights.set(Rights::EXECUTE, entry & NO_EXECUTE == 0);
        let mem_type = if entry & CACHE_DISABLE == 0 { MemType::WriteBack } else { MemType::Uncacheable };
        let accessed = entry & ACCESSED != 0;
        let (pfn, dirty) = (Pfn((entry & ADDRESS) >> 12), entry & DIRTY != 0);
        Entry::Leaf(Leaf { pfn, rights, allowed: rights, mem_type, accessed, dirty, seen_by: SeenBy::Everyone })
    }
}

impl Format for KernelPages {
    fn table(pfn: Pfn) -> u64 {
        pfn.0 << 12 | PRESENT | WRITABLE
    }

    fn leaf(pfn: Pfn, level: u8, rights: Rights, mem_type: MemType) -> u64 {
        let mut entry = pfn.0 << 12 | PRESENT | GLOBAL;
        if rights.contains(Rights::WRITE) {
            entry |= WRITABLE;
        }
        if !rights.contains(Rights::EXECUTE) {
            entry |= NO_EXECUTE;
        }
        if mem_type != MemType::WriteBack {
            entry |= CACHE_DISABLE | WRITE_THROUGH;
        }
        if level > 1 {
            entry |= LARGE;
        }
        entry
    }

    fn decode(entry: u64, level: u8) -> Entry {
        UserPages::decode(entry, level)
    }

    fn next(entry: u64) -> Option<Pfn> {
        UserPages::next(entry)
    }
}

/// The places of those entries in `row` through which a page was written since this was asked last.
pub fn written(row: &[AtomicU64]) -> impl Iterator<Item = usize> {
    let dirty = row.iter().enumerate().filter(|(_, entry)| entry.load(Relaxed) & DIRTY != 0);
    dirty.inspect(|(_, entry)| _ = entry.fetch_and(!DIRTY, Relaxed)).map(|(place, _)| place)
}

/// The map of all RAM. Frames are reached as words: a task or a guest may change them at any time, an atomic word says
/// so. The kernel's own objects lie in frames that no task can name, so no word reached here is part of one.
#[derive(Clone, Copy, Debug)]
pub struct PhysMap(());

impl PhysMap {
    /// The map, once the start code or the kernel's tables have it.
    pub(super) const fn mapped() -> Self {
        Self(())
    }

    /// Fills a frame with zeros.
    pub fn clear(&self, pfn: Pfn) {
        let words = self.table(pfn).as_ptr();
        // SAFETY: the frame is mapped and its words are atomics, which any other reference to it takes into account.
        unsafe {
            asm!("rep stosq", inout("rcx") 512u64 => _, inout("rdi") words => _, in("rax") 0u64, options(nostack));
        }
    }

    /// Makes `bytes` the frame's content, and zeroes what is after them.
    pub fn fill(&self, pfn: Pfn, bytes: &[u8]) {
        let words = self.table(pfn);
        let (whole, rest) = bytes.as_chunks::<8>();
        let count = whole.len().min(words.len());
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: the frame is mapped, `count` words of it and of `bytes` are there, and the frame's are atomics, which any
        // other reference to it takes into account.
        unsafe {
            asm!("rep movsq", "mov rcx, {rest}", "rep stosq", rest = in(reg) words.len() - count, in("rax") 0u64,
                inout("rcx") count => _, inout("rsi") whole.as_ptr() => _, inout("rdi") words.as_ptr() => _, options(nostack));
        }
        if let Some(slot) = words.get(count) {
            slot.store(u64::from_le_bytes(last), Relaxed);
        }
    }

    /// The byte at `offset` of the frame.
    #[must_use]
    pub fn byte(&self, pfn: Pfn, offset: usize) -> u8 {
        (self.table(pfn)[offset / 8 % 512].load(Relaxed) >> (offset % 8 * 8)) as u8
    }

    /// Copies `len` bytes of one message page to another.
    pub fn copy(&self, from: Pfn, to: Pfn, len: usize) {
        let words = self.table(from).iter().zip(self.table(to));
        for (from, to) in words.take(len.div_ceil(8)) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }
}

impl TableMemory for PhysMap {
    #[inline(always)]
    fn table(&self, pfn: Pfn) -> &Table {
        // SAFETY: the kernel names frames of RAM only (table entries that it wrote itself, frames that the frame table
        // knows); all of RAM is mapped here for as long as the kernel runs.
        unsafe { &*((PHYSMAP + (pfn.0 << 12)) as *const Table) }
    }
}

/// A register page of a device below 4 GiB, mapped uncacheable by [`map_kernel`].
pub(super) const fn device(address: u64) -> *mut u8 {
    (PHYSMAP + address) as *mut u8
}

/// A part of the physical address space for the kernel's tables.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Where it is seen.
    pub at: u64,
    /// Its first byte.
    pub physical: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What the kernel may do with it.
    pub rights: Rights,
    /// How it is cached.
    pub mem_type: MemType,
}

/// Maps `mapping` in 4 KiB or 2 MiB pages, outward to full pages, in the tree below `root`.
pub fn map_kernel(
    memory: &PhysMap,
    root: Pfn,
    mapping: Mapping,
    supply: &mut impl FnMut() -> Option<Pfn>,
) -> Option<()> {
    let tree = Tree::<KernelPages, _>::new(root, memory);
    let level = if mapping.at >= KERNEL { 1 } else { 2 };
    let size = ept::pages(level) << 12;
    let mut done = mapping.physical & !(size - 1);
    let offset = mapping.at - mapping.physical;
    while done < mapping.physical + mapping.len {
        let page = (done + offset) << 16 >> 28;
        let place = tree.extend(tree.find(page, level), page, level, &mut *supply)?;
        place.table[place.index]
            .store(KernelPages::leaf(Pfn(done >> 12), level, mapping.rights, mapping.mem_type), Relaxed);
        done += size;
    }
    Some(())
}

/// An address space as CR3 takes it: the root table, the tag of its translations, and that they stay (SDM vol. 3A, 4.10.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space(u64);

/// With a tag: cached translations of it are still true.
const KEEP: u64 = 1 << 63;

impl Space {
    /// The space that no task has.
    pub const NONE: Self = Self(0);

    /// The space of root table `root` with tag `tag`, which the CPU's `features` may not have.
    #[must_use]
    pub const fn new(root: Pfn, tag: u16, features: Features) -> Self {
        Self(root.0 << 12 | if features.contains(Features::PCID) { tag as u64 & 0xfff | KEEP } else { 0 })
    }

    /// CR3 for the VMCS: exits enter this space.
    #[must_use]
    pub const fn cr3(self) -> u64 {
        self.0 & !KEEP
    }

    /// The root table.
    #[must_use]
    pub const fn root(self) -> Pfn {
        Pfn((self.0 & ADDRESS) >> 12)
    }

    /// Makes it the current space; translations of its tag stay, or go.
    #[inline(always)]
    pub fn enter(self, cached: Cached) {
        let value = match cached {
            Cached::Keep => self.0,
            Cached::Flush => self.cr3(),
        };
        // SAFETY: every space has the kernel's half; what a task sees does not concern Rust objects of the kernel.
        unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

/// What becomes of the translations that the CPU has cached for a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// They are still true.
    Keep,
    /// Some are not.
    Flush,
}

/// Forgets the translation of one page of the current space.
pub fn forget_page(address: u64) {
    // SAFETY: INVLPG only drops a cached translation.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Gives the CPU the kernel's final tables.
pub fn start(root: Pfn, features: Features) {
    cpu::enable_no_execute();
    Space(root.0 << 12).enter(Cached::Flush);
    cpu::protect(features);
}
