//! Memory that is mapped before anybody touches it, because the VM's server asks for it: `KVM_PRE_FAULT_MEMORY`.
//!
//! Each page goes through the pipeline like a fault that reads, but nobody waits, so it is not counted as one.

use crate::fault::{PageFault, Prefetch};
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::policy::{Advice, Chosen, NxHuge};
use crate::resolve::PfRet;
use crate::stats::PfStats;
use crate::tdp::Mmu;
use ipc_proto::fault::{Fault, FaultKind, FaultReply, Origin, Qualification};
use ipc_proto::grant::{Gfn, Grant, Level};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::SlotRefused;

/// Pages of one request: nobody else is served meanwhile.
const MOST: u64 = 256;

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Maps `pages` pages from `first` on, a part of them at a time. Says how many are left.
    ///
    /// # Errors
    /// Why not even the first can be mapped: `NoSuchSlot`, `OutOfMemory`, `Kernel`.
    pub fn prefault(
        &mut self,
        slots: &mut MemSlots,
        (first, pages): (Gfn, u64),
        policy: &Chosen,
        stats: &mut PfStats,
    ) -> Result<u64, SlotRefused> {
        let mut done = 0;
        while done < pages.min(MOST) {
            let gfn = first.0.checked_add(done).map(Gfn).ok_or(SlotRefused::NoSuchSlot);
            match gfn.and_then(|gfn| self.prefault_page(slots, gfn, policy, stats)) {
                Ok(mapped) => done += mapped,
                Err(why) if done == 0 => return Err(why),
                // Asked again, that page is the first.
                Err(_) => break,
            }
        }
        Ok(pages.saturating_sub(done))
    }

    /// Maps the page, and says how many pages from there on are mapped then.
    pub(crate) fn prefault_page(
        &mut self,
        slots: &mut MemSlots,
        gfn: Gfn,
        policy: &Chosen,
        stats: &mut PfStats,
    ) -> Result<u64, SlotRefused> {
        let mut levels = [policy.reserve(), Level::Page].into_iter();
        loop {
            if let Some(leaf) = self.machine.mapped(self.vm, gfn) {
                return Ok(end(&leaf) - gfn.0);
            }
            let level = levels.next().ok_or(SlotRefused::Kernel(Refused::TablesThere))?;
            let grant = self.read_ahead(slots, gfn, (policy, level), stats)?;
            match self.map(&grant) {
                Ok(_) => {
                    stats.count(Prefetch::Yes, PfRet::Fixed);
                    self.counts.pages_ahead += end(&grant) - grant.gfn.0;
                }
                // It is small then.
                Err(Refused::TablesThere | Refused::BadLevel) => {}
                Err(refused) => return Err(SlotRefused::Kernel(refused)),
            }
        }
    }

    /// What a fault that reads the page would be answered with.
    fn read_ahead(
        &mut self,
        slots: &mut MemSlots,
        gfn: Gfn,
        (policy, level): (&Chosen, Level),
        stats: &mut PfStats,
    ) -> Result<Grant, SlotRefused> {
        let mmu_seq = self.machine.mmu_seq(self.vm).ok_or(SlotRefused::Kernel(Refused::BadHandle))?;
        let mut fault = PageFault::from_message(&Fault {
            vcpu: 0,
            vm: self.vm as u16,
            tables_left: u16::MAX,
            origin: Origin::Vcpu,
            kind: FaultKind::Violation,
            gpa: gfn.gpa(),
            qualification: Qualification::READ,
            idt_vectoring: 0,
            mmu_seq,
            rip: 0,
        });
        fault.prefetch = Prefetch::Yes;
        fault.nx_huge_page_workaround = policy.nx_huge() == NxHuge::On;
        match self.page_fault(&mut fault, slots, Advice { level, ..Advice::THE_PAGE }, stats) {
            Ok((_, FaultReply::Map(grant, _))) => Ok(grant),
            // Reads are emulated, or put off, only where there is no slot or it is being changed.
            Ok((_, FaultReply::Mmio(_) | FaultReply::Retry | FaultReply::Pending(_) | FaultReply::Deny(_))) => {
                Err(SlotRefused::NoSuchSlot)
            }
            Err(DenyReason::NoSlot | DenyReason::Policy | DenyReason::Internal | DenyReason::OutOfMemory) => {
                Err(SlotRefused::OutOfMemory)
            }
        }
    }
}

/// Behind the last page of a run.
const fn end(run: &Grant) -> u64 {
    run.gfn.0 + run.count as u64 * run.level.frames()
}
