//! A slot's memory before anybody touches it.

use crate::level::{BLOCK, GIGABYTE, block, gigabyte};
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::policy::{Chosen, Populate};
use crate::seen;
use crate::serve::TABLES_BATCH;
use crate::tdp::Mmu;
use ipc_proto::grant::{Gfn, Grant, Level};
use ipc_proto::refused::Refused;
use ipc_proto::slot::Slot;

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// What a new slot, which faults ask for, has from its beginning.
    pub fn furnish(&mut self, slot: &mut MemSlot, policy: &mut Chosen, made: &Slot) {
        if policy.reserve() > Level::Page {
            // Large pages will be wanted: they are zeroed by then.
            self.machine.ask_for_time();
        }
        if policy.reserve() == Level::Huge && self.watch.cpu.largest == Level::Huge && slot.image().is_none() {
            self.reserve(slot);
        }
        if seen::looks(policy) {
            let Self { vm, pool, backing, machine, .. } = self;
            // Without room now it is made when the pages are looked at.
            let _ = backing.vms[*vm].used.open(slot.base(), slot.pages(), pool, *machine);
        }
        if policy.populate(made) == Populate::All {
            self.populate(slot);
        }
    }

    /// Gives each gigabyte that lies in the slot frames that lie so too, as far as there are any.
    fn reserve(&mut self, slot: &mut MemSlot) {
        let mut first = gigabyte(Gfn(slot.base().0 + GIGABYTE - 1));
        while slot.holds_run(first, GIGABYTE) {
            let Some(frames) = self.pool.take_gigabyte(self.first_pfn, self.machine) else { return };
            let mut offset = slot.offset(first);
            for frame in frames {
                // Without a frame for a node the large page is the pool's again.
                let set = slot.tree.set_large(offset, frame, self.pool, self.machine);
                self.counts.pages_filled += if set.is_ok() { BLOCK } else { 0 };
                offset += BLOCK;
            }
            first = Gfn(first.0 + GIGABYTE);
        }
    }

    /// Maps all of the slot, as far as frames and tables go; what is missing is faulted in.
    pub fn populate(&mut self, slot: &mut MemSlot) {
        let (base, end) = (slot.base().0, slot.base().0 + slot.pages());
        let Some(mmu_seq) = self.machine.mmu_seq(self.vm) else { return };
        let mut first = base;
        while first < end {
            let next = block(Gfn(first)).0 + BLOCK;
            let runs = self.gather(Gfn(first), (mmu_seq, None), slot, first..next.min(end));
            for grant in runs.grants() {
                if let Err(refused) = self.map(grant) {
                    log::warn!("vm {}: from gfn {:#x} on memory is mapped by faults: {refused}", self.vm, grant.gfn.0);
                    return;
                }
                self.counts.pages_ahead += u64::from(grant.count);
            }
            first = next;
        }
    }

    /// Maps a run; gives table frames when they are missing.
    pub fn map(&mut self, grant: &Grant) -> Result<u64, Refused> {
        match self.machine.map(self.vm, grant) {
            Err(Refused::NoTables) => {
                let run = self.pool.take_run(TABLES_BATCH, TABLES_BATCH, self.machine).ok_or(Refused::NoTables)?;
                self.counts.tables_given += u64::from(run.count);
                self.machine.donate(self.vm, self.first_pfn + u64::from(run.first), u64::from(run.count))?;
                self.machine.map(self.vm, grant)
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests;
