//! The pager: receive, resolve, reply. Here a fault's stages are put together and its answer becomes words.

use crate::fault::PageFault;
use crate::faultin::faultin;
use crate::history::History;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::mtrr::Mtrrs;
use crate::policy::{Advice, Chosen, Demand, NxHuge};
use crate::pool::Pool;
use crate::resolve::PfRet;
use crate::stats::{PfStats, VmStats};
use crate::store::Backed;
use crate::tdp::Mmu;
use ipc_proto::fault::{Fault, FaultReply, Origin, TopUp};
use ipc_proto::grant::{Gpa, Grant, Level, MemType, Pfn, Rights};
use ipc_proto::manifest::{MAX_VCPUS, MAX_VMS};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::Space;
use ipc_proto::words::Words;

/// With fewer table frames left than this in a VM's pool, a reply brings more. One fault needs three at most.
pub const TABLES_LOW: u16 = 8;
/// How many table frames a reply brings.
pub const TABLES_BATCH: u16 = 32;

/// The word of a reply that brings no table frames.
const NOTHING: u64 = 0;

/// The whole state of the server.
pub struct Pager {
    pub(crate) pool: Pool,
    pub(crate) vms: [VmMemory; MAX_VMS],
    pub(crate) policy: Chosen,
    /// The pfn of the frame with index 0.
    pub(crate) first_pfn: u64,
}

/// What the pager knows of one VM.
pub(crate) struct VmMemory {
    pub(crate) slots: MemSlots,
    pub(crate) greeted: Greeted,
    pub(crate) vcpus: [PfStats; MAX_VCPUS],
    pub(crate) stats: VmStats,
    pub(crate) mtrrs: Mtrrs,
    pub(crate) history: History,
}

/// Whether the VM's server has said `Hello` in a version that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeted {
    No,
    Yes,
}

impl VmMemory {
    const NONE: Self = Self {
        slots: MemSlots::empty(),
        greeted: Greeted::No,
        vcpus: [PfStats::ZERO; MAX_VCPUS],
        stats: VmStats::ZERO,
        mtrrs: Mtrrs::OFF,
        history: History::EMPTY,
    };
}

impl Pager {
    /// A pager that owns nothing yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            pool: Pool::empty(),
            vms: [const { VmMemory::NONE }; MAX_VMS],
            policy: Chosen::Demand(Demand),
            first_pfn: 0,
        }
    }

    /// Takes over `frames` frames from `first_pfn` on, for guests with that many bits of guest-physical address.
    pub fn open(
        &mut self,
        first_pfn: u64,
        frames: u64,
        guest_physical_bits: u8,
        policy: Chosen,
        memory: &mut impl Memory,
    ) {
        self.first_pfn = first_pfn;
        self.policy = policy;
        self.pool.open(first_pfn, frames, memory);
        for vm in &mut self.vms {
            vm.slots.open(guest_physical_bits);
        }
    }

    /// The frames of the pager.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The words that answer `fault`.
    // What is rare is called with words and hands back words: a fault or an answer that a call may see must live in
    // memory, and then every fault would be stored and loaded on its way from register to register.
    #[inline(always)]
    pub fn answer<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> Words {
        let top_up =
            if fault.tables_left < TABLES_LOW { self.top_up(fault.vm, fault.tables_left, machine) } else { NOTHING };
        let page_fault = PageFault::from_message(fault);
        let advice = self.policy.advise(&page_fault);
        if advice == Advice::THE_PAGE
            && let Some(grant) = self.first_touch(fault, &page_fault, machine)
        {
            return FaultReply::Map(grant, 0).to_words(TopUp::from_word(top_up));
        }
        let mut reply = [0; 6];
        self.whole_way(&fault.to_words(), advice, top_up, &mut reply, machine);
        let [w0, w1, w2, w3, w4, w5] = reply;
        [w0, w1, w2, w3, w4, w5]
    }

    /// The usual fault: a page of a slot without flags is touched for the first time. `None` for any other, of which
    /// nothing has been counted yet.
    #[inline(always)]
    fn first_touch<M: Memory + Kernel>(
        &mut self,
        fault: &Fault,
        page_fault: &PageFault,
        machine: &mut M,
    ) -> Option<Grant> {
        let vm = self.vms.get_mut(usize::from(fault.vm))?;
        let stats = vm.vcpus.get_mut(usize::from(fault.vcpu))?;
        let slot = vm.slots.lookup(Space::Normal, page_fault.gfn())?;
        if !slot.is_plain() || page_fault.rsvd() {
            return None;
        }
        let Ok(Backed::Fresh(frame)) = faultin(page_fault, slot, &mut self.pool, machine) else { return None };
        vm.stats.pages_filled += 1;
        if fault.origin == Origin::Window {
            vm.stats.window_faults += 1;
        }
        stats.count(page_fault.prefetch, PfRet::Fixed);
        Some(grant(page_fault, Pfn(self.first_pfn + u64::from(frame)), slot.rights()))
    }

    /// Every stage, for the fault in `words`; the answer goes to `reply`.
    #[cold]
    #[inline(never)]
    fn whole_way<M: Memory + Kernel>(
        &mut self,
        words: &Words,
        advice: Advice,
        top_up: u64,
        reply: &mut Words,
        machine: &mut M,
    ) {
        // They are the words of a fault.
        let Ok(fault) = Fault::from_words(words) else { return };
        *reply = self.decide(&fault, advice, machine).to_words(TopUp::from_word(top_up));
    }

    fn decide<M: Memory + Kernel>(&mut self, fault: &Fault, advice: Advice, machine: &mut M) -> FaultReply {
        let Self { pool, vms, policy, first_pfn } = self;
        let Some(vm) = vms.get_mut(usize::from(fault.vm)) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let VmMemory { slots, vcpus, stats: counts, mtrrs, history, .. } = vm;
        let Some(stats) = vcpus.get_mut(usize::from(fault.vcpu)) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let mut page_fault = PageFault::from_message(fault);
        page_fault.nx_huge_page_workaround = policy.nx_huge() == NxHuge::On;
        let mut mmu = Mmu { vm: usize::from(fault.vm), pool, first_pfn: *first_pfn, mtrrs, counts, machine };
        let answer = mmu.page_fault(&mut page_fault, slots, advice, stats);
        history.note(fault, page_fault.slot, answer.ok().map(|(result, _)| result));
        match answer {
            Ok((result, reply)) => {
                if fault.origin == Origin::Window && matches!(reply, FaultReply::Map(..)) {
                    counts.window_faults += 1;
                }
                stats.count(page_fault.prefetch, result);
                reply
            }
            Err(reason) => {
                stats.count_denied();
                log::error!("vm {} vcpu {}: gpa {:#x} is denied: {reason}", fault.vm, fault.vcpu, fault.gpa.0);
                FaultReply::Deny(reason)
            }
        }
    }

    /// Table frames for the VM's pool, to go with the reply, as the word that they are there.
    #[cold]
    #[inline(never)]
    fn top_up(&mut self, number: u16, tables_left: u16, memory: &mut impl Memory) -> u64 {
        let Some(run) = self.pool.take_run(TABLES_BATCH, memory) else {
            if tables_left == 0 {
                log::warn!("vm {number}: its table pool is empty and no frame is left to fill it");
            }
            return NOTHING;
        };
        if let Some(vm) = self.vms.get_mut(usize::from(number)) {
            vm.stats.tables_given += u64::from(run.count);
        }
        TopUp { first: self.first_pfn + u64::from(run.first), count: run.count }.to_word()
    }

    /// The words that answer `fault` when the kernel has refused the reply before. A stale reply is tried again, one
    /// that lacked table frames brings some, and any other is a mistake of ours: the guest is told, and goes no
    /// further. Table frames that the refused reply brought are the kernel's already: it takes them first.
    #[cold]
    #[inline(never)]
    pub fn after_refusal(&mut self, fault: &Fault, refused: Refused, memory: &mut impl Memory) -> Words {
        if let Some(vm) = self.vms.get_mut(usize::from(fault.vm)) {
            match refused {
                Refused::Stale => vm.stats.replies_stale += 1,
                _ => vm.stats.replies_refused += 1,
            }
        }
        match refused {
            Refused::Stale => alone(FaultReply::Retry),
            Refused::NoTables if fault.tables_left < TABLES_LOW => {
                let top_up = self.top_up(fault.vm, fault.tables_left, memory);
                let reply = match top_up {
                    NOTHING => FaultReply::Deny(out_of_memory(fault.vm, fault.vcpu, fault.gpa)),
                    _ => FaultReply::Retry,
                };
                reply.to_words(TopUp::from_word(top_up))
            }
            Refused::TablesThere | Refused::BadLevel if self.make_small(fault, memory) => alone(FaultReply::Retry),
            _ => {
                log::error!(
                    "vm {} vcpu {}: the reply for gpa {:#x} was refused: {refused}",
                    fault.vm,
                    fault.vcpu,
                    fault.gpa.0
                );
                INTERNAL
            }
        }
    }

    /// The kernel does not take a large page where the fault is: small tables are there, or the CPU has none. The block
    /// is made small and stays so. False when it is not large, so that the refusal must have another reason.
    fn make_small(&mut self, fault: &Fault, memory: &mut impl Memory) -> bool {
        let Some(vm) = self.vms.get_mut(usize::from(fault.vm)) else { return false };
        let Some(slot) = vm.slots.lookup(Space::Normal, fault.gpa.gfn()) else { return false };
        let offset = slot.offset(fault.gpa.gfn());
        let large = slot.tree.page(offset, memory).is_large();
        if large {
            slot.tree.split(offset, memory);
            vm.stats.splits += 1;
        }
        large
    }
}

/// The words that answer what cannot be answered otherwise.
pub const INTERNAL: Words = FaultReply::Deny(DenyReason::Internal).to_words(TopUp { first: 0, count: 0 });

/// A reply that brings no table frames.
fn alone(reply: FaultReply) -> Words {
    reply.to_words(TopUp::from_word(NOTHING))
}

/// The grant of one page of RAM.
#[inline]
const fn grant(fault: &PageFault, pfn: Pfn, rights: Rights) -> Grant {
    Grant {
        gfn: fault.gfn(),
        pfn,
        count: 1,
        level: Level::Page,
        rights,
        mem_type: MemType::WriteBack,
        mmu_seq: fault.mmu_seq,
    }
}

#[cold]
#[inline(never)]
fn internal(vm: u16, vcpu: u16) -> DenyReason {
    log::error!("a fault of vm {vm} vcpu {vcpu}, which there cannot be");
    DenyReason::Internal
}

#[cold]
#[inline(never)]
fn out_of_memory(vm: u16, vcpu: u16, gpa: Gpa) -> DenyReason {
    log::error!("vm {vm} vcpu {vcpu}: no frame left for gpa {:#x}", gpa.0);
    DenyReason::OutOfMemory
}

#[cfg(test)]
mod tests;
