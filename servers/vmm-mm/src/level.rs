//! The page size of a mapping: KVM's `kvm_mmu_hugepage_adjust`.
//!
//! A 2 MiB page is mapped where everything agrees: the policy asks for it, the slot holds the whole block and lies in
//! guest memory as in its frames, the guest's memory types are uniform there, no write has to be seen page by page, and
//! 512 frames lie in a row. The kernel refuses a page over tables, or a small one under a large one.

use crate::fault::PageFault;
use crate::memslot::MemSlot;
use crate::mtrr::Mtrrs;
use crate::store::Page;
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::slot::SlotFlags;

/// Pages in a 2 MiB block.
pub const BLOCK: u64 = Level::Large.frames();

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
    fault.max_level = match wanted {
        Level::Page => Level::Page,
        Level::Large | Level::Huge if !mtrrs.is_uniform(block(fault.gfn()), BLOCK) => Level::Page,
        // No pool of ours has a gigabyte in a row.
        Level::Large | Level::Huge => Level::Large,
    };
    let lies_so = slot.holds_block(block(fault.gfn())) && frames != Frames::Small;
    let logged = slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES);
    fault.req_level = if lies_so && !logged { fault.max_level } else { Level::Page };
    fault.goal_level = if fault.huge_page_disallowed { Level::Page } else { fault.req_level };
}

/// What the guest may do with a large page of a slot with these rights: with the workaround, a fetch splits it first.
#[must_use]
pub const fn large_rights(fault: &PageFault, rights: Rights) -> Rights {
    if fault.nx_huge_page_workaround { rights.difference(Rights::EXECUTE) } else { rights }
}

#[cfg(test)]
mod tests;
