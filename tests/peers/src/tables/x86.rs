//! The x86_64 crate's `OffsetPageTable`.

use super::{Arena, first_pages, page};
use crate::{MOST, repeat};
use std::time::Duration;
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// Frames from the arena.
struct Frames<'a>(&'a Arena);

// SAFETY: the arena hands out each frame once.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.0.take().map(|address| PhysFrame::containing_address(PhysAddr::new(address)))
    }
}

/// A root table in the arena, with every table in place.
fn tables(arena: &mut Arena) -> OffsetPageTable<'static> {
    let base = arena.base();
    let root = arena.take().expect("the first frame");
    // SAFETY: the frame is the arena's, which lives for ever, is zeroed, and was handed out just now.
    let root = unsafe { &mut *((base + root) as *mut PageTable) };
    // SAFETY: physical addresses are offsets in the arena, which begins at `base`.
    let mut tables = unsafe { OffsetPageTable::new(root, VirtAddr::new(base)) };
    for page in first_pages() {
        assert!(map_one(&mut tables, &mut Frames(arena), page, 7).is_ok());
        assert!(tables.unmap(virt(page)).map(|(_, flush)| flush.ignore()).is_ok());
    }
    tables
}

const fn virt(page: u64) -> Page {
    Page::containing_address(VirtAddr::new_truncate(page << 12))
}

#[inline(always)]
fn map_one(
    tables: &mut OffsetPageTable<'_>,
    frames: &mut Frames<'_>,
    page: u64,
    pfn: u64,
) -> Result<(), MapToError<Size4KiB>> {
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(pfn << 12));
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: no CPU walks these tables.
    unsafe { tables.map_to(virt(page), frame, flags, frames) }.map(|flush| flush.ignore())
}

/// `map_to`.
pub fn map(times: usize) -> Duration {
    let mut arena = Arena::new();
    let mut tables = tables(&mut arena);
    let mut frames = Frames(&arena);
    repeat(times, |n| map_one(&mut tables, &mut frames, page(n), n as u64).is_ok())
}

/// `unmap`.
pub fn unmap(times: usize) -> Duration {
    let mut arena = Arena::new();
    let mut tables = tables(&mut arena);
    let mut frames = Frames(&arena);
    (0..MOST).for_each(|n| assert!(map_one(&mut tables, &mut frames, page(n), n as u64).is_ok()));
    repeat(times, |n| tables.unmap(virt(page(n))).map(|(frame, flush)| (flush.ignore(), frame).1).ok())
}
