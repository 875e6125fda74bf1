//! What is done at notices of the timer: the work of faults that wait, and what the policy does unasked.

use crate::handover::Standstill;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::policy::{Begins, Bits, Chosen, Duties, NxHuge, Overcommit, Purpose, View};
use crate::pool::Owed;
use crate::reclaim::Hand;
use crate::seen;
use crate::serve::{Pager, VmMemory};
use crate::store::{Content, Tree};
use crate::tdp::Mmu;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::Space;

/// Pages that are compared at one notice.
const PIECE: usize = 32;

impl Pager {
    /// The time has come that was asked for with [`Kernel::wake_at`].
    pub fn notice<M: Memory + Kernel>(&mut self, machine: &mut M) {
        if self.backing.standstill != Standstill::No {
            // Whoever ends it asks for a notice.
            return;
        }
        let Self { vms, policy, backing, first_pfn, survey } = self;
        let owed = |vm: &VmMemory| vm.pool.owed() == Owed::Yes;
        let vm = backing.jobs.vm().or_else(|| vms.iter().position(owed));
        if let Some((vm, memory)) = vm.and_then(|vm| Some((vm, vms.get_mut(vm)?))) {
            let VmMemory { pool, slots, vcpus, stats: counts, mtrrs, watch, .. } = memory;
            let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
            mmu.work(slots, policy, vcpus);
        } else if survey.is_due(machine.now()) {
            let vm = survey.vm;
            if let Some(memory) = vms.get_mut(vm) {
                let VmMemory { pool, slots, stats: counts, mtrrs, watch, .. } = memory;
                let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
                if mmu.survey(slots, policy) == Round::Over {
                    survey.vm = (vm + 1) % vms.len();
                }
            }
            survey.next = policy.duties().period.map(|period| machine.now() + period);
            if policy.nx_huge() == NxHuge::On {
                self.recover(machine);
            }
        }
        self.wake(machine);
    }

    /// Another policy was chosen: makes room for what it will want to note, and wakes it.
    pub fn policy_changed<M: Memory + Kernel>(&mut self, machine: &mut M) {
        if seen::looks(&self.policy) {
            let Self { vms, backing, first_pfn, .. } = self;
            for (vm, memory) in vms.iter_mut().enumerate() {
                let VmMemory { pool, slots, stats: counts, mtrrs, watch, .. } = memory;
                let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
                mmu.open_notes(slots);
            }
        }
        self.wake(machine);
    }

    /// Asks for the next notice, if there is something to do. At the start, and when another policy was chosen.
    pub fn wake<M: Memory + Kernel>(&mut self, machine: &mut M) {
        let Duties { overcommit, free, .. } = self.policy.duties();
        let takes_back = overcommit == Overcommit::Yes;
        for (vm, backing) in self.vms.iter_mut().zip(&mut self.backing.vms) {
            vm.pool.keep_free(if takes_back { vm.pool.total().checked_div(free).unwrap_or(0) } else { 0 });
            if takes_back {
                backing.zstore.reserve(&mut vm.pool, machine);
            }
        }
        let now = machine.now();
        self.survey.next = match (self.policy.duties().period, self.survey.next) {
            (None, _) => None,
            (Some(period), Some(next)) => Some(next.min(now + period)),
            (Some(period), None) => Some(now + period),
        };
        if !self.backing.jobs.is_empty() || self.vms.iter().any(|vm| vm.pool.owed() == Owed::Yes) {
            machine.wake_at(now);
        } else if let Some(next) = self.survey.next {
            machine.wake_at(next);
        }
    }
}

impl VmMemory {
    /// Whether every page can have a frame: always, but for slots that were made when frames could be taken back.
    pub fn has_frames_enough(&self) -> bool {
        let slots = || [Space::Normal, Space::Smm].into_iter().flat_map(|space| self.slots.iter(space));
        let needed = slots().map(|slot| Tree::frames_for(slot.tree.skew(), slot.pages()));
        let needed = needed.fold(0, u64::saturating_add);
        slots().all(|slot| slot.promised != 0) || needed <= u64::from(self.pool.total()) - self.pool.donated()
    }
}

/// When the policy is shown pages next, and of which VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    next: Option<u64>,
    vm: usize,
}

impl Survey {
    /// Never.
    pub const NONE: Self = Self { next: None, vm: 0 };

    fn is_due(&self, now: u64) -> bool {
        self.next.is_some_and(|next| next <= now)
    }
}

/// How far a round through a VM's pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There are more.
    Going,
    /// It has seen all.
    Over,
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Shows the policy the next pages and does what it says.
    fn survey(&mut self, slots: &mut MemSlots, policy: &mut Chosen) -> Round {
        let hand = self.backing.vms[self.vm].survey;
        let begins = if hand == Hand::START { Begins::Round } else { Begins::Nothing };
        let purpose = Purpose::Time { begins };
        let looks = policy.duties().looks;
        let Some(view) = self.view(slots, hand, purpose, looks) else {
            self.backing.vms[self.vm].survey = Hand::START;
            return Round::Over;
        };
        let verdict = policy.survey(&view);
        let next = self.merge_some(slots, &view, verdict.merge);
        self.backing.vms[self.vm].survey = Hand::at(next);
        Round::Going
    }

    /// Merges a piece of the view's pages. Says the gfn from which on the rest is to be looked at.
    fn merge_some(&mut self, slots: &mut MemSlots, view: &View, merge: Bits) -> u64 {
        let (from, end) = (view.gfn.0, view.gfn.0 + u64::from(view.pages));
        let wanted = (from..end).filter(|gfn| merge.has((gfn - from) as usize));
        let mut next = end;
        for (n, gfn) in wanted.enumerate() {
            if n == PIECE {
                next = gfn;
                break;
            }
            if let Some(own) = self.own_frame(slots, Gfn(gfn)) {
                self.merge(slots, Gfn(gfn), own);
            }
        }
        next
    }

    /// The small frame that only the page at `gfn` has.
    fn own_frame(&self, slots: &mut MemSlots, gfn: Gfn) -> Option<u32> {
        let slot = slots.lookup(Space::Normal, gfn)?;
        let page = slot.tree.page(slot.offset(gfn), self.machine);
        match page.content() {
            Content::Own(frame) if !page.is_large() => Some(frame),
            Content::Own(_) | Content::Shared(_) | Content::Packed(_) | Content::Nothing => None,
        }
    }
}
