//! Memory at boot: what the loader left, and frames for the kernel's objects until the system runs.
#![expect(unsafe_code, reason = "the loader's structures and the objects that are made in raw frames")]

use super::paging::{PHYSMAP, PhysMap};
use crate::ept::TableMemory;
use core::ops::Range;
use core::ptr::addr_of;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use heapless::Vec;
use ipc_proto::grant::Pfn;
use multiboot2::{BootInformation, BootInformationHeader};

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static text_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static data_end: u8;
}

/// The physical addresses that the kernel's image takes.
#[must_use]
pub fn image() -> Range<u64> {
    addr_of!(image_start) as u64..addr_of!(image_end) as u64
}

/// The kernel's mapped parts: text, read-only data, data, each from a page boundary to the next.
#[must_use]
pub fn parts() -> [Range<u64>; 3] {
    let [text, rodata, data, end] =
        [addr_of!(text_start), addr_of!(text_end), addr_of!(rodata_end), addr_of!(data_end)].map(|at| at as u64);
    [text..rodata, rodata..data, data..end]
}

/// What the loader says. `address` is the second word it entered the kernel with.
///
/// # Safety
/// `address` is the physical address of a Multiboot2 information structure that nobody changes.
#[must_use]
pub unsafe fn information(address: u64) -> Option<BootInformation<'static>> {
    let header = (PHYSMAP + address) as *const BootInformationHeader;
    // SAFETY: the caller's contract; the start code maps the first 4 GiB.
    unsafe { BootInformation::load(header) }.ok()
}

/// The bytes of a boot module.
#[must_use]
pub fn module(range: Range<u64>) -> &'static [u8] {
    // SAFETY: the frame table keeps the module's frames for ever and gives them to nobody to write.
    unsafe { slice::from_raw_parts((PHYSMAP + range.start) as *const u8, (range.end - range.start) as usize) }
}

/// A type for which zero bytes are a value.
///
/// # Safety
/// All bytes zero is a valid value of the type.
pub unsafe trait Zeroed {}

/// RAM that nobody has yet. It is used up from the end, so that what is left is one run from the beginning.
pub struct BootFrames {
    free: Vec<Range<u64>, 32>,
    memory: PhysMap,
    kernel_root: Option<Pfn>,
}

impl BootFrames {
    /// Begins with `ram` (byte ranges) without what is `taken`.
    #[must_use]
    pub fn new(ram: impl Iterator<Item = Range<u64>>, taken: &[Range<u64>]) -> Self {
        let mut frames = Self { free: Vec::new(), memory: PhysMap::mapped(), kernel_root: None };
        for range in ram {
            frames.add(range, taken);
        }
        frames
    }

    /// The map of all RAM.
    #[must_use]
    pub const fn memory(&self) -> PhysMap {
        self.memory
    }

    /// Notes which tables the kernel's half of every address space is taken from.
    pub const fn set_kernel_root(&mut self, root: Pfn) {
        self.kernel_root = Some(root);
    }

    /// Makes a root table with the kernel's half and nothing else.
    pub fn address_space(&mut self) -> Option<Pfn> {
        let root = self.cleared(1)?;
        let kernel = self.memory.table(self.kernel_root?);
        for (to, from) in self.memory.table(root).iter().zip(kernel).skip(256) {
            to.store(from.load(Relaxed), Relaxed);
        }
        Some(root)
    }

    /// Adds RAM without what is `taken`, in bytes.
    pub fn add(&mut self, range: Range<u64>, taken: &[Range<u64>]) {
        let clash = taken.iter().find(|taken| taken.start < range.end && range.start < taken.end);
        if let Some(clash) = clash {
            if range.start < clash.start {
                self.add(range.start..clash.start, taken);
            }
            if clash.end < range.end {
                self.add(clash.end..range.end, taken);
            }
            return;
        }
        let pages = range.start.div_ceil(4096)..range.end / 4096;
        if !pages.is_empty() {
            // More ranges than places: the rest stays unused.
            let _ = self.free.push(pages);
        }
    }

    /// Takes a run of `count` frames, not cleared, its first a multiple of `align` if any run has such.
    pub fn take(&mut self, count: u64, align: u64) -> Option<Pfn> {
        let fits = |range: &Range<u64>| {
            let first = range.end.checked_sub(count)? / align * align;
            (first >= range.start).then_some(first)
        };
        let (index, first) =
            self.free.iter().enumerate().rev().find_map(|(index, range)| Some((index, fits(range)?)))?;
        let range = &mut self.free[index];
        let rest = first + count..range.end;
        range.end = first;
        if !rest.is_empty() {
            let _ = self.free.push(rest);
        }
        Some(Pfn(first))
    }

    /// Takes a run of `count` cleared frames.
    pub fn cleared(&mut self, count: u64) -> Option<Pfn> {
        let first = self.take(count, 1)?;
        for pfn in first.0..first.0 + count {
            self.memory.clear(Pfn(pfn));
        }
        Some(first)
    }

    /// Makes a kernel object that lives as long as the kernel.
    pub fn place<T>(&mut self, value: T) -> Option<&'static mut T> {
        let first = self.take((size_of::<T>() as u64).div_ceil(4096), 1)?;
        let at = (PHYSMAP + (first.0 << 12)) as *mut T;
        // SAFETY: the frames are mapped, nobody else's, and page-aligned, which is enough for every type of the kernel.
        unsafe { at.write(value) };
        // SAFETY: it was just written; this is the only reference.
        Some(unsafe { &mut *at })
    }

    /// Makes a kernel object whose bytes are all zero and that lives as long as the kernel.
    pub fn place_zeroed<T: Zeroed>(&mut self) -> Option<&'static mut T> {
        let first = self.cleared((size_of::<T>() as u64).div_ceil(4096))?;
        let at = (PHYSMAP + (first.0 << 12)) as *mut T;
        // SAFETY: the frames are mapped, zero, nobody else's, and `Zeroed` says that this is a value.
        Some(unsafe { &mut *at })
    }

    /// Makes `count` counters of zero that live as long as the kernel.
    pub fn words(&mut self, count: usize) -> Option<&'static [AtomicU64]> {
        let first = self.cleared((count as u64 * 8).div_ceil(4096))?;
        // SAFETY: the frames are mapped, zero and nobody else's.
        Some(unsafe { slice::from_raw_parts((PHYSMAP + (first.0 << 12)) as *const AtomicU64, count) })
    }
}
