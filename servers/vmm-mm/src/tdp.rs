//! The whole way of a fault, stage after stage: KVM's `kvm_tdp_page_fault`.
//!
//! [`crate::serve`] answers the usual fault, the first touch of a page by a policy that maps one, without coming here.

use crate::fault::PageFault;
use crate::level::{self, BLOCK, Frames};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots};
use crate::mtrr::Mtrrs;
use crate::policy::Advice;
use crate::pool::Pool;
use crate::resolve::{PfRet, Resolution, resolve};
use crate::runs::{Room, Runs};
use crate::stats::{PfStats, VmStats};
use crate::store::{Note, Page};
use crate::track;
use core::ops::Range;
use ipc_proto::fault::{FaultReply, Origin};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{SlotFlags, Space};

/// What the stages work on: one VM's share of the pager, and the machine.
pub(crate) struct Mmu<'a, M> {
    /// The VM's place in the manifest.
    pub vm: usize,
    pub pool: &'a mut Pool,
    /// The pfn of the frame with index 0.
    pub first_pfn: u64,
    pub mtrrs: &'a Mtrrs,
    pub counts: &'a mut VmStats,
    pub machine: &'a mut M,
}

type Answer = Result<(PfRet, FaultReply), DenyReason>;

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Answers the fault: what became of it, and what the kernel is told.
    ///
    /// # Errors
    /// Why the access is denied.
    pub fn page_fault(
        &mut self,
        fault: &mut PageFault,
        slots: &mut MemSlots,
        advice: Advice,
        stats: &mut PfStats,
    ) -> Answer {
        let slot = slots.lookup(Space::Normal, fault.gfn());
        fault.slot = slot.as_deref().map(MemSlot::id);
        let slot = match (resolve(fault, slot.as_deref()), slot) {
            (Resolution::Ram(_), Some(slot)) => slot,
            (Resolution::Emulate, _) | (Resolution::Ram(_), None) => return Ok((PfRet::Emulate, FaultReply::Mmio)),
            (Resolution::Retry, _) => return Ok((PfRet::Retry, FaultReply::Retry)),
        };
        fault.map_writable = slot.rights().contains(Rights::WRITE);
        let offset = slot.offset(fault.gfn());
        let page = slot.tree.page(offset, self.machine);
        if track::forbids(fault, page) {
            return Ok((PfRet::Emulate, FaultReply::Mmio));
        }
        let leaf = self.machine.mapped(self.vm, fault.gfn());
        if let Some(leaf) = leaf
            && leaf.rights.contains(fault.access())
        {
            return Ok(already_allowed(fault, leaf));
        }
        let frames = Frames::of(page, slot.tree.block_is_empty(offset, self.machine));
        level::adjust(fault, advice.level, slot, self.mtrrs, frames);
        if fault.goal_level == Level::Large
            && let Some(grant) = self.large(fault, slot, page)
        {
            return Ok((PfRet::Fixed, FaultReply::Map(grant, 0)));
        }
        if leaf.is_some_and(|leaf| leaf.level == Level::Page) && page.frame().is_some() {
            stats.pf_fast += 1;
        }
        let (grant, more, ahead) = self.small(fault, slot, (page, leaf), advice.around)?;
        stats.count_ahead(ahead);
        Ok((PfRet::Fixed, FaultReply::Map(grant, more)))
    }

    /// The block of the fault as one large page; `None` when there are no frames for one.
    fn large(&mut self, fault: &mut PageFault, slot: &mut MemSlot, page: Page) -> Option<Grant> {
        let block = level::block(fault.gfn());
        let offset = slot.offset(block);
        if !page.is_large() {
            let frame = self.pool.take_large(self.machine)?;
            slot.tree.set_large(offset, frame, self.pool, self.machine).ok()?;
            self.counts.pages_filled += BLOCK;
        }
        let pfn = self.pfn(slot.tree.page(offset, self.machine))?;
        fault.pfn = Some(Pfn(pfn.0 + fault.gfn().0 - block.0));
        self.counts.large_pages += 1;
        Some(Grant {
            gfn: block,
            pfn,
            count: 1,
            level: Level::Large,
            rights: level::large_rights(fault, slot.rights()),
            mem_type: MemType::WriteBack,
            mmu_seq: fault.mmu_seq,
        })
    }

    /// The page of the fault, with what is mapped around it: the first grant, how many more are in their places, and
    /// how many pages come with the fault's.
    fn small(
        &mut self,
        fault: &mut PageFault,
        slot: &mut MemSlot,
        (page, leaf): (Page, Option<Grant>),
        around: u16,
    ) -> Result<(Grant, u8, u64), DenyReason> {
        let offset = slot.offset(fault.gfn());
        let mut window = window(fault.gfn(), u64::from(around));
        if let Some(leaf) = leaf
            && leaf.level > Level::Page
        {
            self.unmap_large(fault, &leaf)?;
        }
        if page.is_large() {
            slot.tree.split(offset, self.machine);
            self.counts.splits += 1;
            // Their frames are there: nobody shall fault 511 times for them.
            window = self::window(fault.gfn(), BLOCK);
        }
        let page = self.page(slot, fault.gfn()).ok_or(DenyReason::OutOfMemory)?;
        if fault.write() && slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) {
            let noted = slot.tree.note(offset, Note::Dirty, self.pool, self.machine);
            noted.map_err(|_| DenyReason::OutOfMemory)?;
        }
        fault.pfn = self.pfn(page);
        let runs = self.gather(fault.gfn(), fault.mmu_seq, slot, window);
        let [first, further @ ..] = runs.grants() else { return Err(DenyReason::Internal) };
        for (place, grant) in further.iter().enumerate() {
            self.machine.further(place, grant.claim());
        }
        let ahead = runs.pages() - 1;
        self.counts.pages_ahead += ahead;
        // There are fewer than 32.
        Ok((*first, further.len() as u8, ahead))
    }

    /// Takes the large page away under which small ones are to be mapped. That advances the sequence number: the
    /// fault's grants are worked out under the new one.
    fn unmap_large(&mut self, fault: &mut PageFault, leaf: &Grant) -> Result<(), DenyReason> {
        self.machine.unmap(self.vm, leaf.gfn, leaf.level.frames()).map_err(|refused| not_unmapped(leaf, refused))?;
        fault.mmu_seq = self.machine.mmu_seq(self.vm).ok_or(DenyReason::Internal)?;
        Ok(())
    }

    /// The pages of `window` that the slot holds, from `at` on and then those before, as runs.
    pub fn gather(&mut self, at: Gfn, mmu_seq: u64, slot: &mut MemSlot, window: Range<u64>) -> Runs {
        let mut runs = Runs::default();
        for gfn in (at.0..window.end).chain(window.start..at.0).map(Gfn) {
            if !slot.holds(gfn) {
                continue;
            }
            let Some(page) = self.page(slot, gfn) else { continue };
            let Some(pfn) = self.pfn(page) else { continue };
            if runs.add(gfn, pfn, slot.page_rights(page), mmu_seq) == Room::Full {
                break;
            }
        }
        runs
    }

    /// The page with its frame: KVM's `kvm_faultin_pfn`. `None` without a frame.
    fn page(&mut self, slot: &mut MemSlot, gfn: Gfn) -> Option<Page> {
        let offset = slot.offset(gfn);
        let page = slot.tree.page(offset, self.machine);
        if page.frame().is_some() {
            return Some(page);
        }
        let page = slot.tree.back(offset, self.pool, self.machine).ok()?;
        self.counts.pages_filled += 1;
        Some(page)
    }

    fn pfn(&self, page: Page) -> Option<Pfn> {
        page.frame().map(|index| Pfn(self.first_pfn + u64::from(index)))
    }
}

/// Nothing has to be mapped. A window has entries of its own, which appear when the kernel is told again.
fn already_allowed(fault: &PageFault, leaf: Grant) -> (PfRet, FaultReply) {
    match fault.origin {
        Origin::Vcpu => (PfRet::Spurious, FaultReply::Retry),
        Origin::Window => (PfRet::Fixed, FaultReply::Map(Grant { mmu_seq: fault.mmu_seq, ..leaf }, 0)),
    }
}

/// `count` pages at a multiple of that, with `gfn` among them, cut to one table.
fn window(gfn: Gfn, count: u64) -> Range<u64> {
    let count = count.max(1);
    let block = level::block(gfn).0;
    let first = gfn.0 - gfn.0 % count;
    first.max(block)..(first + count).min(block + BLOCK)
}

fn not_unmapped(leaf: &Grant, refused: Refused) -> DenyReason {
    log::error!("the large page at gfn {:#x} cannot be split: {refused}", leaf.gfn.0);
    DenyReason::Internal
}

#[cfg(test)]
mod tests;
