//! The whole way of a fault, stage after stage: KVM's `kvm_tdp_page_fault`.
//!
//! [`crate::serve`] answers the usual fault, the first touch of a page by a policy that maps one, without coming here.

use crate::backing::Backing;
use crate::dirty::Way;
use crate::fault::{PageFault, Prefetch};
use crate::handover::Standstill;
use crate::level::{self, BLOCK, Frames, GIGABYTE, gigabyte};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots};
use crate::mtrr::Mtrrs;
use crate::policy::Advice;
use crate::pool::Pool;
use crate::resolve::{PfRet, Resolution, resolve};
use crate::runs::{Room, Runs};
use crate::stats::{PfStats, VmStats};
use crate::store::{Content, Page};
use crate::track;
use crate::watch::Watch;
use core::ops::Range;
use ipc_proto::fault::{Fault, FaultReply, Origin};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
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
    pub backing: &'a mut Backing,
    pub watch: &'a mut Watch,
    pub machine: &'a mut M,
}

/// What became of a fault, and what the kernel is told; or why the access is denied.
pub(crate) type Answer = Result<(PfRet, FaultReply), DenyReason>;

/// Why a fault is not answered while the pager stands still: whoever can wait is told to instead.
pub(crate) const STANDSTILL: DenyReason = DenyReason::Policy;

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
            (Resolution::Emulate, None) | (Resolution::Ram(_), None) => return self.no_slot(fault),
            // A slot is there: other accesses to the page, or later ones, may be its own.
            (Resolution::Emulate, Some(_)) => return Ok((PfRet::Emulate, FaultReply::Mmio(0))),
            (Resolution::Retry, _) if self.backing.standstill == Standstill::No => {
                return Ok((PfRet::Retry, FaultReply::Retry));
            }
            (Resolution::Retry, _) => return Err(STANDSTILL),
        };
        fault.map_writable = slot.rights().contains(Rights::WRITE);
        let offset = slot.offset(fault.gfn());
        let page = slot.tree.page(offset, self.machine);
        if track::forbids(fault, page) {
            return Ok((PfRet::Emulate, FaultReply::Mmio(0)));
        }
        // What has no frame is not mapped. Asking would cost the kernel a walk to the next page that is.
        let leaf = page.frame().and_then(|_| self.machine.mapped(self.vm, fault.gfn()));
        let answer = self.ram(fault, slot, (page, leaf), advice, stats)?;
        // Who is denied has written nothing.
        self.note_window_write(fault, slot, page)?;
        Ok(answer)
    }

    /// The access is to memory that the slot has: it gets a page, a large one or small ones, unless it may be made already.
    fn ram(
        &mut self,
        fault: &mut PageFault,
        slot: &mut MemSlot,
        (page, leaf): (Page, Option<Grant>),
        advice: Advice,
        stats: &mut PfStats,
    ) -> Answer {
        if let Some(leaf) = leaf
            && leaf.rights.contains(fault.access())
        {
            return Ok(already_allowed(fault, leaf));
        }
        let frames = self.frames(fault, slot, page);
        level::adjust(fault, advice.level.min(self.watch.cpu.largest), slot, self.mtrrs, frames);
        if fault.goal_level > Level::Page
            && let Some(grant) = self.large(fault, slot, page)
        {
            return Ok((PfRet::Fixed, FaultReply::Map(grant, 0)));
        }
        if leaf.is_some_and(|leaf| leaf.level == Level::Page) && page.frame().is_some() {
            stats.pf_fast += 1;
        }
        let (grant, more, ahead) = self.small(fault, slot, (page, leaf), advice)?;
        stats.count_ahead(ahead);
        Ok((PfRet::Fixed, FaultReply::Map(grant, more)))
    }

    /// Nothing is mapped there and nothing shall be. The kernel may remember it, but for the window, which has no entry
    /// to remember it in.
    fn no_slot(&self, fault: &PageFault) -> Answer {
        if matches!(self.backing.standstill, Standstill::TakingOver { .. }) {
            // Its slot may come.
            return Err(STANDSTILL);
        }
        let generation = match fault.origin {
            Origin::Vcpu => self.watch.mmio.to_remember(),
            Origin::Window => 0,
        };
        Ok((PfRet::Emulate, FaultReply::Mmio(generation)))
    }

    /// A write through the window: the CPU's log does not see it.
    fn note_window_write(&mut self, fault: &PageFault, slot: &mut MemSlot, page: Page) -> Result<(), DenyReason> {
        let logged = slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES) && self.watch.way == Way::Pml;
        if !logged || fault.origin == Origin::Vcpu || !fault.write() || page.is_large() {
            return Ok(());
        }
        self.note_dirty(slot, slot.offset(fault.gfn())).map_err(|_| DenyReason::OutOfMemory)
    }

    /// Large pages that were zeroed ahead are small frames now. Says whether there were any.
    pub fn give_back_ahead(&mut self) -> bool {
        self.backing.vms[self.vm].ahead.give_back(self.pool, self.machine)
    }

    /// How the frames around the fault lie.
    fn frames(&self, fault: &PageFault, slot: &MemSlot, page: Page) -> Frames {
        let first = gigabyte(fault.gfn());
        if page.is_large()
            && slot.holds_run(first, GIGABYTE)
            && let Some(frame) = slot.tree.gigabyte(slot.offset(first), self.machine)
            && (self.first_pfn + u64::from(frame)).is_multiple_of(GIGABYTE)
        {
            return Frames::Gigabyte;
        }
        Frames::of(page, slot.tree.block_is_empty(slot.offset(fault.gfn()), self.machine))
    }

    /// The block of the fault as one large page, or its gigabyte; `None` when there are no frames for one.
    fn large(&mut self, fault: &mut PageFault, slot: &mut MemSlot, page: Page) -> Option<Grant> {
        let block = level::first(fault.gfn(), fault.goal_level);
        let offset = slot.offset(block);
        if !page.is_large() {
            let ready = self.backing.vms[self.vm].ahead.take();
            let frame = ready.or_else(|| self.pool.take_large(self.machine))?;
            self.machine.ask_for_time();
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
            level: fault.goal_level,
            rights: level::large_rights(fault, slot.rights()),
            mem_type: MemType::WriteBack,
            mmu_seq: fault.mmu_seq,
            seen_by: slot.seen_by(),
        })
    }

    /// The page of the fault, with what is mapped around it: the first grant, how many more are in their places, and
    /// how many pages come with the fault's.
    fn small(
        &mut self,
        fault: &mut PageFault,
        slot: &mut MemSlot,
        (page, leaf): (Page, Option<Grant>),
        advice: Advice,
    ) -> Result<(Grant, u8, u64), DenyReason> {
        let offset = slot.offset(fault.gfn());
        let mut window = window(fault.gfn(), u64::from(advice.around));
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
        let page = self.faultin(fault, slot, leaf.as_ref(), advice.zero)?;
        self.pool.note_low(self.machine);
        fault.pfn = self.pfn(page);
        let written = written(fault);
        let mut runs = match advice.stride {
            0 => self.gather(fault.gfn(), (fault.mmu_seq, written), slot, window),
            stride => self.gather_stride(fault, slot, (stride, advice.around)),
        };
        if let Some(leaf) = leaf
            && leaf.level == Level::Huge
        {
            self.rest_of_gigabyte(fault, slot, &mut runs);
        }
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

    /// A page of a gigabyte was taken away to map some of it small: its other blocks are large pages still.
    fn rest_of_gigabyte(&mut self, fault: &PageFault, slot: &MemSlot, runs: &mut Runs) {
        let (first, block) = (gigabyte(fault.gfn()).0, level::block(fault.gfn()).0);
        for (from, end) in [(first, block), (block + BLOCK, first + GIGABYTE)] {
            let Some(pfn) = self.pfn(slot.tree.page(slot.offset(Gfn(from)), self.machine)) else { continue };
            if from < end && slot.holds(Gfn(from)) {
                let rights = level::large_rights(fault, slot.rights());
                runs.add_large(Gfn(from), pfn, ((end - from) / BLOCK) as u16, rights, fault.mmu_seq);
            }
        }
    }

    /// What the guest may do with a page for now. `written` is the page whose write is answered: where a write is seen by
    /// the right to it, only that one gets it.
    fn rights_of(&self, slot: &MemSlot, page: Page, gfn: Gfn, written: Option<Gfn>) -> Rights {
        let rights = slot.page_rights(page);
        if self.is_protected(slot) && written != Some(gfn) { rights.difference(Rights::WRITE) } else { rights }
    }

    /// Whether a right to write in the EPT says that a page was written.
    fn is_protected(&self, slot: &MemSlot) -> bool {
        self.watch.way == Way::WriteProtect && slot.flags().contains(SlotFlags::LOG_DIRTY_PAGES)
    }

    /// The pages of `window` that the slot holds, from `at` on and then those before, as runs. Where the EPT's rights are
    /// a record, what is mapped is left as it is.
    pub fn gather(
        &mut self,
        at: Gfn,
        (mmu_seq, written): (u64, Option<Gfn>),
        slot: &mut MemSlot,
        window: Range<u64>,
    ) -> Runs {
        let mut runs = Runs::new(slot.seen_by());
        for gfn in (at.0..window.end).chain(window.start..at.0).map(Gfn) {
            if !slot.holds(gfn) || gfn != at && self.is_record(slot, gfn) {
                continue;
            }
            let Some(page) = self.page(slot, gfn) else { continue };
            let Some(pfn) = self.pfn(page) else { continue };
            if runs.add(gfn, pfn, self.rights_of(slot, page, gfn, written), mmu_seq) == Room::Full {
                break;
            }
        }
        runs
    }

    /// Whether a page is mapped whose rights say whether it was written.
    fn is_record(&mut self, slot: &MemSlot, gfn: Gfn) -> bool {
        self.is_protected(slot) && self.machine.mapped(self.vm, gfn).is_some()
    }

    /// The page of the fault and those that follow at a distance, as far as its table goes.
    fn gather_stride(&mut self, fault: &PageFault, slot: &mut MemSlot, (stride, count): (i16, u16)) -> Runs {
        let (at, table) = (fault.gfn().0, level::block(fault.gfn()));
        let mut runs = Runs::new(slot.seen_by());
        for n in 0..i64::from(count) {
            let gfn = Gfn(at.wrapping_add_signed(n * i64::from(stride)));
            if level::block(gfn) != table || !slot.holds(gfn) {
                break;
            }
            if n > 0 && self.is_record(slot, gfn) {
                continue;
            }
            let written = written(fault);
            let Some(page) = self.page(slot, gfn) else { continue };
            let Some(pfn) = self.pfn(page) else { continue };
            if runs.add(gfn, pfn, self.rights_of(slot, page, gfn, written), fault.mmu_seq) == Room::Full {
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
        if slot.image().is_some() || page.content() != Content::Nothing {
            // Nobody pays ahead for what must be worked out.
            return None;
        }
        let page = slot.tree.back(offset, self.pool, self.machine).ok()?;
        self.counts.pages_filled += 1;
        Some(page)
    }

    fn pfn(&self, page: Page) -> Option<Pfn> {
        page.frame().map(|index| Pfn(self.first_pfn + u64::from(index)))
    }
}

/// The window's own tables are missing, and the VM's pool has too few frames for them: what is mapped is shown unasked
/// otherwise.
pub fn cannot_be_shown(fault: &Fault, machine: &mut impl Kernel) -> bool {
    const WINDOW_TABLES: u16 = 3;
    fault.origin == Origin::Window
        && fault.tables_left < WINDOW_TABLES
        && machine.mapped(usize::from(fault.vm), fault.gpa.gfn()).is_some_and(|leaf| {
            leaf.seen_by == SeenBy::Everyone && leaf.rights.contains(PageFault::from_message(fault).access())
        })
}

/// The page that is written as soon as the answer is there. Who does not wait for it may never come back, for an interrupt's
/// sake, and has written nothing then.
fn written(fault: &PageFault) -> Option<Gfn> {
    (fault.write() && fault.prefetch == Prefetch::No).then(|| fault.gfn())
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
