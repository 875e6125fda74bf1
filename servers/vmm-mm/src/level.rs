//! The page size of a mapping: KVM's `kvm_mmu_hugepage_adjust`.
//!
//! A 2 MiB page is mapped where everything agrees: the policy asks for it, the slot holds the whole block and lies in
//! guest memory as in its frames, the guest's memory types are uniform there, no write has to be seen page by page, and
//! 512 frames lie in a row. A page of 1 GiB is 512 such blocks that lie in a row themselves: nothing else says that they
//! are one. The kernel refuses a page over tables, or a small one under a large one.

use crate::fault::PageFault;
use crate::memslot::MemSlot;
use crate::mtrr::Mtrrs;
use crate::store::Page;
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::slot::SlotFlags;

/// Pages in a 2 MiB block.
pub const BLOCK: u64 = Level::Large.frames();

/// Pages in a gigabyte.
pub const GIGABYTE: u64 = Level::Huge.frames();

/// The first page of the page of that size that holds `gfn`.
#[must_use]
pub const fn first(gfn: Gfn, level: Level) -> Gfn {
    Gfn(gfn.0 & !(level.frames() - 1))
}

/// The first page of the gigabyte that holds `gfn`.
#[must_use]
pub const fn gigabyte(gfn: Gfn) -> Gfn {
    first(gfn, Level::Huge)
}

/// The first page of the block that holds `gfn`.
#[must_use]
pub const fn block(gfn: Gfn) -> Gfn {
    Gfn(gfn.0 & !(BLOCK - 1))
}

/// How the frames of a block lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Nothing has a frame yet: they may be taken in a row.
    Empty,
    /// They are one large page.
    Large,
    /// They are one of the large pages of a gigabyte that lies in a row, and in the slot.
    Gigabyte,
    /// Each page has its own.
    Small,
}

impl Frames {
    /// Of the block of a page that is known so, or empty.
    #[must_use]
    pub const fn of(page: Page, block_is_empty: bool) -> Self {
        if page.is_large() {
            Self::Large
        } else if block_is_empty {
            Self::Empty
        } else {
            Self::Small
        }
    }
}

/// Fills in `max_level`, `req_level`, `goal_level` and `huge_page_disallowed` of the fault; `wanted` is the policy's.
pub fn adjust(fault: &mut PageFault, wanted: Level, slot: &MemSlot, mtrrs: &Mtrrs, frames: Frames) {
    fault.huge_page_disallowed = fault.exec() && fault.nx_huge_page_workaround;
    let is_uniform = |level: &Level| mtrrs.is_uniform(first(fault.gfn(), *level), level.frames());
    let levels = [Level::Huge, Level::Large];
    fault.max_level = levels.into_iter().filter(|level| *level <= wanted).find(is_uniform).unwrap_or(Level::Page);
    let lies = if slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) || !slot.holds_block(block(fault.gfn())) {
        Level::Page
    } else {
        match frames {
            Frames::Gigabyte => Level::Huge,
            Frames::Large | Frames::Empty => Level::Large,
            Frames::Small => Level::Page,
        }
    };
    fault.req_level = fault.max_level.min(lies);
    fault.goal_level = if fault.huge_page_disallowed { Level::Page } else { fault.req_level };
}

/// What the guest may do with a large page of a slot with these rights: with the workaround, a fetch splits it first.
#[must_use]
pub const fn large_rights(fault: &PageFault, rights: Rights) -> Rights {
    if fault.nx_huge_page_workaround { rights.difference(Rights::EXECUTE) } else { rights }
}

#[cfg(test)]
mod tests;
