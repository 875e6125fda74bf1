//! page_table_multiarch's `PageTable64`, as hypervisors use it for EPT: with metadata of their own.

use super::{Arena, first_pages, page};
use crate::repeat;
use page_table_multiarch::{MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// What the crate is to know of the tables: four levels, and no CPU that walks them.
struct Shape;

impl PagingMetaData for Shape {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = memory_addr::VirtAddr;

    fn flush_tlb(_: Option<Self::VirtAddr>) {}
}

thread_local! {
    /// The crate asks for frames without saying for which tables.
    static ARENA: RefCell<Option<Arena>> = const { RefCell::new(None) };
    /// Where frame 0 is.
    static BASE: Cell<usize> = const { Cell::new(0) };
}

/// Frames from the arena.
struct Frames;

impl PagingHandler for Frames {
    fn alloc_frames(_: usize, _: usize) -> Option<memory_addr::PhysAddr> {
        ARENA.with_borrow(|arena| Some((arena.as_ref()?.take()? as usize).into()))
    }

    fn dealloc_frames(_: memory_addr::PhysAddr, _: usize) {}

    #[inline(always)]
    fn phys_to_virt(address: memory_addr::PhysAddr) -> memory_addr::VirtAddr {
        (BASE.get() + address.as_usize()).into()
    }
}

type Tables = PageTable64<Shape, page_table_entry::x86_64::X64PTE, Frames>;

/// `map`, with a cursor of its own each time, as a fault would.
pub fn map(times: usize) -> Duration {
    let mut arena = Arena::new();
    BASE.set(arena.base() as usize);
    ARENA.set(Some(arena));
    let mut tables = Tables::try_new().expect("the first frame");
    for page in first_pages() {
        assert!(map_one(&mut tables, page, 7));
        assert!(tables.cursor().unmap(((page << 12) as usize).into()).is_ok());
    }
    repeat(times, |n| map_one(&mut tables, page(n), n as u64))
}

#[inline(always)]
fn map_one(tables: &mut Tables, page: u64, pfn: u64) -> bool {
    let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    let (from, to) = ((page << 12) as usize, (pfn << 12) as usize);
    tables.cursor().map(from.into(), to.into(), PageSize::Size4K, flags).is_ok()
}
