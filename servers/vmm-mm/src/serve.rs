//! The pager: receive, resolve, reply. Here a fault's stages are put together and its answer becomes words.

mod deny;
mod tables;

use crate::backing::Backing;
use crate::dirty::Way;
use crate::fault::{PageFault, Prefetch};
use crate::handover::Standstill;
use crate::history::History;
use crate::level::{self, BLOCK, GIGABYTE};
use crate::machine::{Cpu, Kernel, Memory};
use crate::memslot::MemSlots;
use crate::mtrr::Mtrrs;
use crate::policy::{Advice, Chosen, Demand, NxHuge, Overcommit, ZeroPages};
use crate::pool::{Ahead, Pool};
use crate::resolve::PfRet;
use crate::shares::Shares;
use crate::stats::{PfStats, VmStats};
use crate::store::Row;
use crate::survey::Survey;
use crate::tdp::{self, Mmu};
use crate::watch::Watch;
use deny::{internal, out_of_memory};
use ipc_proto::fault::{Fault, FaultKind, FaultReply, Origin, TopUp};
use ipc_proto::grant::{Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::manifest::{MAX_VCPUS, MAX_VMS};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{SlotId, Space};
use ipc_proto::words::Words;
use tables::needed;

/// With fewer table frames left than this in a VM's pool, a reply brings more. One fault needs three at most.
pub const TABLES_LOW: u16 = 8;
/// How many table frames a reply brings. The kernel clears them while the guest waits.
pub const TABLES_BATCH: u16 = 4;

/// Frames that are zeroed in one go when there is time: nobody else is served meanwhile.
const ZEROED_AT_LEISURE: u32 = 32;

/// The word of a reply that brings no table frames.
const NOTHING: u64 = 0;

/// The whole state of the server.
pub struct Pager {
    pub(crate) vms: [VmMemory; MAX_VMS],
    pub(crate) policy: Chosen,
    pub(crate) backing: Backing,
    pub(crate) survey: Survey,
    /// The pfn of the frame with index 0.
    pub(crate) first_pfn: u64,
}

/// What the pager knows of one VM.
pub(crate) struct VmMemory {
    /// Its frames: no other VM's fault takes one of them.
    pub(crate) pool: Pool,
    pub(crate) slots: MemSlots,
    pub(crate) greeted: Greeted,
    pub(crate) vcpus: [PfStats; MAX_VCPUS],
    pub(crate) stats: VmStats,
    pub(crate) mtrrs: Mtrrs,
    pub(crate) history: History,
    pub(crate) watch: Watch,
}

/// Whether the VM's server has said `Hello` in a version that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeted {
    No,
    Yes,
}

impl VmMemory {
    const NONE: Self = Self {
        pool: Pool::empty(),
        slots: MemSlots::empty(),
        greeted: Greeted::No,
        vcpus: [PfStats::ZERO; MAX_VCPUS],
        stats: VmStats::ZERO,
        mtrrs: Mtrrs::OFF,
        history: History::EMPTY,
        watch: Watch::PLAIN,
    };
}

impl Pager {
    /// A pager that owns nothing yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            vms: [const { VmMemory::NONE }; MAX_VMS],
            policy: Chosen::Demand(Demand),
            backing: Backing::EMPTY,
            survey: Survey::NONE,
            first_pfn: 0,
        }
    }

    /// Takes over frames from `first_pfn` on, so many for each VM, for guests with that many bits of guest-physical address.
    pub fn open(
        &mut self,
        first_pfn: u64,
        shares: &Shares,
        guest_physical_bits: u8,
        policy: Chosen,
        memory: &mut impl Memory,
    ) {
        self.prepare(first_pfn, shares, guest_physical_bits, policy);
        self.take_over(shares, memory);
    }

    /// Tells the pager what the CPU can do, and how it shall see what guests write: the best way that the CPU has, or one
    /// that is `wanted`. Before the first slot.
    ///
    /// # Errors
    /// The wanted way, when the CPU does not have it; nothing has changed then.
    pub fn equip(&mut self, cpu: Cpu, wanted: Option<Way>) -> Result<(), Way> {
        let way = wanted.unwrap_or(Way::best(cpu.abilities));
        if !way.is_had(cpu.abilities) {
            return Err(way);
        }
        for vm in self.vms.iter_mut().filter(|vm| vm.slots.is_open()) {
            (vm.watch.cpu, vm.watch.way) = (cpu, way);
        }
        Ok(())
    }

    /// Slots of that number have the content of boot module `image` of the pager's, counted from 0. False when there
    /// cannot be such a module, or the slot has one.
    #[must_use]
    pub fn set_image(&mut self, slot: SlotId, image: usize) -> bool {
        self.backing.images.set(slot, image)
    }

    /// The frames of a VM.
    #[must_use]
    pub fn pool(&self, vm: usize) -> Option<&Pool> {
        self.vms.get(vm).map(|vm| &vm.pool)
    }

    /// The words that answer `fault`.
    // What is rare is called with words and hands back words: a fault or an answer that a call may see must live in
    // memory, and then every fault would be stored and loaded on its way from register to register.
    #[inline(always)]
    pub fn answer<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> Words {
        let tables = fault.tables_left >= TABLES_LOW;
        let (advice, touched) = if self.policy.maps_one_page() {
            (Advice::THE_PAGE, if tables { self.first_touch(fault, machine) } else { None })
        } else {
            let advice = self.policy.advise(&PageFault::from_message(fault));
            let touched = match advice {
                Advice { around, level: Level::Page, stride: 0, zero: ZeroPages::Own } if tables => {
                    self.first_touch_around(fault, around, machine)
                }
                _ => None,
            };
            (advice, touched)
        };
        if let Some(grant) = touched {
            return FaultReply::Map(grant, 0).to_words(TopUp::from_word(NOTHING));
        }
        let mut reply = [0; 6];
        self.rare(&fault.to_words(), advice, &mut reply, machine);
        let [w0, w1, w2, w3, w4, w5] = reply;
        [w0, w1, w2, w3, w4, w5]
    }

    /// There is time: frames are zeroed ahead of the faults that will want them. Asks for more time when that was not enough.
    pub fn at_leisure(&mut self, memory: &mut impl Memory) {
        if self.backing.standstill != Standstill::No {
            return;
        }
        let large = self.policy.reserve() > Level::Page;
        for (vm, backing) in self.vms.iter_mut().zip(&mut self.backing.vms) {
            let mut more = vm.pool.zero_ahead(ZEROED_AT_LEISURE, memory);
            if more == Ahead::Enough && large {
                more = backing.ahead.step(ZEROED_AT_LEISURE, &mut vm.pool, memory);
            }
            if more == Ahead::More {
                // One VM's at a time: nobody else is served meanwhile.
                return memory.ask_for_time();
            }
        }
    }

    /// The usual fault: the guest touches a page of a plain slot for the first time. `None` for any other fault, of which
    /// nothing has been counted yet.
    #[inline(always)]
    fn first_touch<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> Option<Grant> {
        if fault.kind != FaultKind::Violation || fault.origin != Origin::Vcpu {
            return None;
        }
        let vm = self.vms.get_mut(usize::from(fault.vm))?;
        let stats = vm.vcpus.get_mut(usize::from(fault.vcpu))?;
        let block = vm.slots.block(fault.gpa.gfn(), &mut vm.pool, machine)?;
        let frame = block.touch(fault.gpa.gfn(), &mut vm.pool, machine)?;
        vm.stats.pages_filled += 1;
        vm.history.touched(fault);
        stats.count(Prefetch::No, PfRet::Fixed);
        Some(touched(fault, self.first_pfn, Row { gfn: fault.gpa.gfn(), frame, pages: 1 }))
    }

    /// The same, whoever touches it, with the pages `around` it that were not touched either.
    #[inline(always)]
    fn first_touch_around<M: Memory + Kernel>(&mut self, fault: &Fault, around: u16, machine: &mut M) -> Option<Grant> {
        if fault.kind != FaultKind::Violation {
            return None;
        }
        let vm = self.vms.get_mut(usize::from(fault.vm))?;
        let stats = vm.vcpus.get_mut(usize::from(fault.vcpu))?;
        let block = vm.slots.block(fault.gpa.gfn(), &mut vm.pool, machine)?;
        let row = block.touch_around(fault.gpa.gfn(), around, &mut vm.pool, machine)?;
        let pages = u64::from(row.pages);
        vm.stats.pages_filled += pages;
        vm.stats.pages_ahead += pages - 1;
        vm.stats.window_faults += u64::from(fault.origin == Origin::Window);
        vm.history.touched(fault);
        stats.count(Prefetch::No, PfRet::Fixed);
        stats.count_ahead(pages - 1);
        Some(touched(fault, self.first_pfn, row))
    }

    /// Whatever is not the guest's first touch of a page, and what brings table frames: for the fault in `words`; the answer
    /// goes to `reply`.
    #[cold]
    #[inline(never)]
    fn rare<M: Memory + Kernel>(&mut self, words: &Words, advice: Advice, reply: &mut Words, machine: &mut M) {
        // They are the words of a fault.
        let Ok(fault) = Fault::from_words(words) else { return };
        let top_up =
            if fault.tables_left < TABLES_LOW { self.top_up(&fault, needed(&fault), machine) } else { NOTHING };
        let touched = match advice {
            Advice { around, level: Level::Page, stride: 0, zero: ZeroPages::Own } => {
                self.first_touch_around(&fault, around, machine)
            }
            _ => None,
        };
        let answer = match touched {
            Some(grant) => FaultReply::Map(grant, 0),
            None if top_up == NOTHING && tdp::cannot_be_shown(&fault, machine) => {
                FaultReply::Deny(out_of_memory(fault.vm, fault.vcpu, fault.gpa))
            }
            None => self.decide(&fault, advice, machine),
        };
        *reply = answer.to_words(TopUp::from_word(top_up));
    }

    fn decide<M: Memory + Kernel>(&mut self, fault: &Fault, advice: Advice, machine: &mut M) -> FaultReply {
        let Self { vms, policy, backing, first_pfn, .. } = self;
        let Some(vm) = vms.get_mut(usize::from(fault.vm)).filter(|vm| vm.pool.total != 0) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let VmMemory { pool, slots, vcpus, stats: counts, mtrrs, history, watch, .. } = vm;
        let Some(stats) = vcpus.get_mut(usize::from(fault.vcpu)) else {
            return FaultReply::Deny(internal(fault.vm, fault.vcpu));
        };
        let mut page_fault = PageFault::from_message(fault);
        page_fault.nx_huge_page_workaround = policy.nx_huge() == NxHuge::On;
        let mut mmu =
            Mmu { vm: usize::from(fault.vm), pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
        if fault.kind == FaultKind::LogFull {
            return mmu.log_full(slots);
        }
        let mut answer = mmu.page_fault(&mut page_fault, slots, advice, stats);
        if answer == Err(DenyReason::OutOfMemory) && mmu.give_back_ahead() {
            answer = mmu.page_fault(&mut page_fault, slots, advice, stats);
        }
        if answer == Err(DenyReason::OutOfMemory) && policy.duties().overcommit == Overcommit::Yes {
            answer = mmu.starved(fault, slots, policy, advice, stats);
        }
        if fault.delivers_event() && matches!(answer, Ok((PfRet::Emulate, _))) {
            answer = Err(DenyReason::NoSlot);
        }
        history.note(fault, page_fault.slot, answer.ok().map(|(result, _)| result));
        match answer {
            Ok((result, reply)) => {
                if fault.origin == Origin::Window && matches!(reply, FaultReply::Map(..)) {
                    counts.window_faults += 1;
                }
                stats.count(page_fault.prefetch, result);
                reply
            }
            Err(tdp::STANDSTILL) if fault.origin == Origin::Vcpu && backing.standstill != Standstill::No => {
                let token = backing.jobs.add(fault, machine.now());
                token.map_or(FaultReply::Retry, |(token, _)| FaultReply::Pending(token))
            }
            Err(reason) => {
                stats.count_denied();
                log::error!("vm {} vcpu {}: gpa {:#x} is denied: {reason}", fault.vm, fault.vcpu, fault.gpa.0);
                FaultReply::Deny(reason)
            }
        }
    }

    /// The words that answer `fault` when the kernel has refused the reply before. A stale reply is tried again, one
    /// that lacked table frames brings some, and any other is a mistake of ours: the guest is told, and goes no
    /// further. Table frames that the refused reply brought are the kernel's already: it takes them first.
    #[cold]
    #[inline(never)]
    pub fn after_refusal<M: Memory + Kernel>(&mut self, fault: &Fault, refused: Refused, memory: &mut M) -> Words {
        if let Some(vm) = self.vms.get_mut(usize::from(fault.vm)) {
            match refused {
                Refused::Stale => vm.stats.replies_stale += 1,
                _ => vm.stats.replies_refused += 1,
            }
        }
        match refused {
            Refused::Stale => alone(FaultReply::Retry),
            Refused::NoTables if fault.tables_left < TABLES_LOW => {
                let top_up = self.top_up(fault, TABLES_BATCH, memory);
                let reply = match top_up {
                    NOTHING => FaultReply::Deny(out_of_memory(fault.vm, fault.vcpu, fault.gpa)),
                    _ => FaultReply::Retry,
                };
                reply.to_words(TopUp::from_word(top_up))
            }
            Refused::TablesThere if self.clear_tables(fault, memory) => alone(FaultReply::Retry),
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

    /// Small tables lie where a large page is to be mapped: what is left of an earlier slot, of answers that were
    /// remembered, or of blocks of a gigabyte. They are the kernel's again when their range is unmapped. False when that
    /// has just been tried.
    fn clear_tables<M: Memory + Kernel>(&mut self, fault: &Fault, machine: &mut M) -> bool {
        let (number, gfn) = (usize::from(fault.vm), fault.gpa.gfn());
        let Some(vm) = self.vms.get_mut(number) else { return false };
        let Some(slot) = vm.slots.lookup(Space::Normal, gfn) else { return false };
        let (block, gigabyte) = (level::block(gfn), level::gigabyte(gfn));
        if vm.watch.cleared == Some(block) || !slot.tree.page(slot.offset(gfn), machine).is_large() {
            return false;
        }
        vm.watch.cleared = Some(block);
        let whole = slot.holds_run(gigabyte, GIGABYTE) && slot.tree.gigabyte(slot.offset(gigabyte), machine).is_some();
        let (first, pages) = if whole { (gigabyte, GIGABYTE) } else { (block, BLOCK) };
        machine.unmap(number, first, pages).is_ok()
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

/// The grant of pages of a plain slot that were touched for the first time: it takes no right away.
#[inline(always)]
const fn touched(fault: &Fault, first_pfn: u64, row: Row) -> Grant {
    Grant {
        gfn: row.gfn,
        pfn: Pfn(first_pfn + row.frame as u64),
        count: row.pages,
        level: Level::Page,
        rights: Rights::all(),
        mem_type: MemType::WriteBack,
        mmu_seq: fault.mmu_seq,
        seen_by: SeenBy::Everyone,
    }
}

#[cfg(test)]
mod tests;
