//! The pager: receive, resolve, reply. Here a fault's stages are put together and its answer becomes words.

use crate::fault::PageFault;
use crate::faultin::faultin;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::policy::{Around, Chosen, Demand};
use crate::pool::Pool;
use crate::resolve::{PfRet, Resolution, resolve};
use crate::stats::{PfStats, VmStats};
use crate::store::Backed;
use ipc_proto::fault::{Fault, FaultReply, Origin, TopUp};
use ipc_proto::grant::{Gfn, Gpa, Grant, Level, MemType, Pfn, Rights};
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
    policy: Chosen,
    /// The pfn of the frame with index 0.
    first_pfn: u64,
}

/// What the pager knows of one VM.
pub(crate) struct VmMemory {
    pub(crate) slots: MemSlots,
    pub(crate) greeted: Greeted,
    pub(crate) vcpus: [PfStats; MAX_VCPUS],
    pub(crate) stats: VmStats,
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
        self.pool.open(frames, memory);
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
    // What is rare is called with numbers and returns one: a fault or words that a call may see must live in memory,
    // and then every fault would be stored and loaded on its way from register to register.
    #[inline(always)]
    pub fn answer<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> Words {
        let top_up =
            if fault.tables_left < TABLES_LOW { self.top_up(fault.vm, fault.tables_left, machine) } else { NOTHING };
        self.decide(fault, machine).to_words(TopUp::from_word(top_up))
    }

    /// The stages of a fault, one after the other.
    #[inline(always)]
    fn decide<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> FaultReply {
        let Some(vm) = self.vms.get_mut(usize::from(fault.vm)) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let Some(stats) = vm.vcpus.get_mut(usize::from(fault.vcpu)) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let page_fault = PageFault::from_message(fault);
        let slot = vm.slots.lookup(Space::Normal, page_fault.gfn());
        let (rights, slot) = match (resolve(&page_fault, slot.as_deref()), slot) {
            (Resolution::Ram(rights), Some(slot)) => (rights, slot),
            (Resolution::Emulate, _) | (Resolution::Ram(_), None) => {
                stats.count(page_fault.prefetch, PfRet::Emulate);
                return FaultReply::Mmio;
            }
            (Resolution::Retry, _) => {
                stats.count(page_fault.prefetch, PfRet::Retry);
                return FaultReply::Retry;
            }
        };
        match self.policy.around(&page_fault) {
            Around::ThePage => {}
        }
        let Ok(backed) = faultin(&page_fault, slot, &mut self.pool, machine) else {
            stats.count_denied();
            return FaultReply::Deny(out_of_memory(fault.vm, fault.vcpu, fault.gpa));
        };
        let result = match backed {
            Backed::Fresh(_) => {
                vm.stats.pages_filled += 1;
                PfRet::Fixed
            }
            Backed::Present(_) => told_apart(fault.vm, fault.origin, (page_fault.gfn(), page_fault.access()), machine),
        };
        if fault.origin == Origin::Window {
            vm.stats.window_faults += 1;
        }
        stats.count(page_fault.prefetch, result);
        let pfn = Pfn(self.first_pfn + u64::from(backed.index()));
        FaultReply::Map(grant(&page_fault, pfn, rights), 0)
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

/// Whether a fault on a page that has a frame was needed: the kernel's ledger knows. A window has entries of its
/// own, of which the ledger says nothing.
#[cold]
#[inline(never)]
fn told_apart(vm: u16, origin: Origin, (gfn, access): (Gfn, Rights), kernel: &mut impl Kernel) -> PfRet {
    match origin {
        Origin::Window => PfRet::Fixed,
        Origin::Vcpu => match kernel.mapped(usize::from(vm), gfn) {
            Some(rights) if rights.contains(access) => PfRet::Spurious,
            Some(_) | None => PfRet::Fixed,
        },
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
