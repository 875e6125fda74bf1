//! Faults that are answered later: KVM's async page fault.
//!
//! Few faults should need it: frames are taken back ahead, a piece for each that is handed out when few are left. A vCPU's
//! fault for which there is none is answered `Pending`: frames have to be taken back first, which is slow.
//! That is done in pieces after the reply, each at a notice of the timer, so that other faults are answered in between
//! and interrupts reach the waiting vCPU. Then the page is mapped and the vCPU told to go on. Faults of other vCPUs on
//! the same page wait for the same work. A window cannot be told to wait: for it the work is done at once.

use crate::fault::{PageFault, Prefetch};
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::policy::{Advice, Chosen};
use crate::reclaim::{Need, ROUNDS, Reclaimed};
use crate::resolve::PfRet;
use crate::stats::PfStats;
use crate::tdp::{Answer, Mmu};
use heapless::Vec;
use ipc_proto::fault::{Fault, FaultReply, Origin};
use ipc_proto::manifest::{MAX_VCPUS, MAX_VMS};
use ipc_proto::refused::DenyReason;

/// What looking for frames of a VM came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// There were some, or nobody has looked.
    Fruitful,
    /// A fault was denied: the next one that needs a frame waits until there are enough to go on with.
    Scarce,
    /// There is nothing to take back: the next fault that needs a frame is denied.
    Exhausted,
}

/// A fault that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    fault: Fault,
    token: u64,
    /// Since when.
    since: u64,
}

/// The faults that wait, one a vCPU at most. The first is worked for, a piece, and then the next.
#[derive(Debug)]
pub struct Jobs {
    waiting: Vec<Job, { MAX_VMS * MAX_VCPUS }>,
    next_token: u64,
}

impl Jobs {
    /// None.
    pub const NONE: Self = Self { waiting: Vec::new(), next_token: 1 };

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The VM of the fault that is worked for next.
    #[must_use]
    pub fn vm(&self) -> Option<usize> {
        self.waiting.first().map(|job| usize::from(job.fault.vm))
    }

    /// The token under which the fault waits, and whether others wait for the same page. A vCPU that comes back to its
    /// fault, because it was let run for an interrupt, keeps its token.
    pub(crate) fn add(&mut self, fault: &Fault, now: u64) -> Option<(u64, Company)> {
        let of_vcpu = |job: &Job| (job.fault.vm, job.fault.vcpu) == (fault.vm, fault.vcpu);
        let company =
            if self.waiting.iter().any(|job| same_page(&job.fault, fault)) { Company::Others } else { Company::Alone };
        if let Some(job) = self.waiting.iter_mut().find(|job| of_vcpu(job)) {
            job.fault = *fault;
            return Some((job.token, company));
        }
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.push(Job { fault: *fault, token, since: now }).ok()?;
        Some((token, company))
    }

    /// The fault that was first is last now.
    fn rotate(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.rotate_left(1);
        }
    }

    /// Takes those out that wait for the page of `fault`, or for any page of the VM.
    fn take(&mut self, served: impl Fn(&Fault) -> bool) -> Vec<Job, { MAX_VMS * MAX_VCPUS }> {
        let taken = self.waiting.iter().filter(|job| served(&job.fault)).copied().collect();
        self.waiting.retain(|job| !served(&job.fault));
        taken
    }
}

fn same_page(one: &Fault, other: &Fault) -> bool {
    one.vm == other.vm && one.gpa.gfn() == other.gpa.gfn()
}

/// Whether somebody waits for the page already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Others,
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Answers a fault for which there is no frame, when the policy takes frames back.
    ///
    /// # Errors
    /// `OutOfMemory` when there is nothing more to take back; otherwise as [`Mmu::page_fault`].
    pub fn starved(
        &mut self,
        fault: &Fault,
        slots: &mut MemSlots,
        policy: &mut Chosen,
        advice: Advice,
        stats: &mut PfStats,
    ) -> Answer {
        if self.backing.vms[self.vm].search == Search::Exhausted {
            return Err(self.exhausted(fault));
        }
        match fault.origin {
            Origin::Vcpu => {
                let now = self.machine.now();
                let Some((token, company)) = self.backing.jobs.add(fault, now) else {
                    return Err(self.exhausted(fault));
                };
                let counts = &mut self.backing.vms[self.vm].counts;
                counts.pending += 1;
                counts.joined += u64::from(company == Company::Others);
                self.machine.wake_at(now);
                Ok((PfRet::Retry, FaultReply::Pending(token)))
            }
            Origin::Window => loop {
                if self.reclaim(slots, policy, Need::Waits) == Reclaimed::Exhausted {
                    return Err(self.exhausted(fault));
                }
                if self.pool.left() < self.least() {
                    continue;
                }
                match self.again(fault, slots, advice, stats, Prefetch::No) {
                    Err(DenyReason::OutOfMemory) => {}
                    answer => return answer,
                }
            },
        }
    }

    /// The fault once more, under the present sequence number.
    fn again(
        &mut self,
        fault: &Fault,
        slots: &mut MemSlots,
        advice: Advice,
        stats: &mut PfStats,
        prefetch: Prefetch,
    ) -> Answer {
        let mut page_fault = PageFault::from_message(fault);
        page_fault.prefetch = prefetch;
        page_fault.mmu_seq = self.machine.mmu_seq(self.vm).ok_or(DenyReason::Internal)?;
        self.page_fault(&mut page_fault, slots, advice, stats)
    }

    /// How many frames must be free before a fault that waits is served: after too few were found, as many as make a
    /// difference. Else the guest would wait for each of the few that it uses all the time, again and again, for ever.
    fn least(&self) -> u64 {
        match self.backing.vms[self.vm].search {
            Search::Fruitful => 1,
            Search::Scarce | Search::Exhausted => self.worth(),
        }
    }

    fn exhausted(&mut self, fault: &Fault) -> DenyReason {
        // Who comes again must find more than a few.
        self.backing.vms[self.vm].search = Search::Scarce;
        let store = &self.backing.vms[self.vm].zstore;
        log::error!(
            "vm {}: out of memory at gpa {:#x}: no frame is free, {ROUNDS} rounds took too little back (what is left \
             does not become smaller, or the policy spares it), and the store holds {} pages in {} frames",
            self.vm,
            fault.gpa.0,
            store.pages(),
            store.frames()
        );
        DenyReason::OutOfMemory
    }

    /// A piece of the work for the fault that is first; or what is owed, when none waits.
    pub fn work(&mut self, slots: &mut MemSlots, policy: &mut Chosen, stats: &mut [PfStats]) {
        let Some(Job { fault, .. }) = self.backing.jobs.waiting.first().copied() else {
            return self.work_ahead(slots, policy);
        };
        if self.pool.left() < self.least() {
            return self.make_room(slots, policy, fault.vm);
        }
        self.backing.vms[self.vm].search = Search::Fruitful;
        let Some(stats) = stats.get_mut(usize::from(fault.vcpu)) else { return };
        match self.again(&fault, slots, Advice::THE_PAGE, stats, Prefetch::Yes) {
            // It needs more than there are: nodes too, say.
            Err(DenyReason::OutOfMemory) => return self.make_room(slots, policy, fault.vm),
            Ok((PfRet::Fixed, FaultReply::Map(grant, _))) => {
                stats.count(Prefetch::Yes, PfRet::Fixed);
                if let Err(refused) = self.machine.map(self.vm, &grant) {
                    // It has a frame now: the fault that comes again maps it, and brings tables if they lack.
                    log::debug!("vm {}: gfn {:#x} is mapped by its fault: {refused}", self.vm, grant.gfn.0);
                }
            }
            // Whatever it is now, the fault that comes again finds out.
            Ok(_) | Err(_) => {}
        }
        self.go_on(|other| same_page(other, &fault));
    }

    /// A piece of reclaim for the faults of the VM that wait.
    fn make_room(&mut self, slots: &mut MemSlots, policy: &mut Chosen, vm: u16) {
        if self.reclaim(slots, policy, Need::Waits) == Reclaimed::Exhausted {
            // They come back, and are denied.
            self.backing.vms[self.vm].search = Search::Exhausted;
            self.go_on(|fault| fault.vm == vm);
        }
        // Another VM's fault is next: one that needs long holds up none but its own.
        self.backing.jobs.rotate();
    }

    /// Takes frames back ahead of the next fault: a piece, for the one that was served when few were left. What that finds does
    /// not matter: the next fault pays for the next piece.
    fn work_ahead(&mut self, slots: &mut MemSlots, policy: &mut Chosen) {
        self.pool.forgive();
        if self.pool.is_low() && self.may_look_ahead() {
            let _ = self.reclaim(slots, policy, Need::Ahead);
        }
    }

    /// Lets the vCPUs go on whose faults are served.
    pub(crate) fn go_on(&mut self, served: impl Fn(&Fault) -> bool) {
        for Job { fault, token, since } in self.backing.jobs.take(served) {
            let waited = self.machine.now().saturating_sub(since);
            let longest = &mut self.backing.vms[self.vm].counts.longest_wait;
            *longest = waited.max(*longest);
            if let Err(refused) = self.machine.ready(usize::from(fault.vm), token) {
                // It was let run for an interrupt, and comes back by itself.
                log::debug!("vm {} vcpu {}: {refused}", fault.vm, fault.vcpu);
            }
        }
    }
}

#[cfg(test)]
mod tests;
