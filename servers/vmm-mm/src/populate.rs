//! A slot's memory before anybody touches it.

use crate::level::{BLOCK, block};
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::serve::TABLES_BATCH;
use crate::tdp::Mmu;
use ipc_proto::grant::{Gfn, Grant};
use ipc_proto::refused::Refused;

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Maps all of the slot, as far as frames and tables go; what is missing is faulted in.
    pub fn populate(&mut self, slot: &mut MemSlot) {
        let (base, end) = (slot.base().0, slot.base().0 + slot.pages());
        let Some(mmu_seq) = self.machine.mmu_seq(self.vm) else { return };
        let mut first = base;
        while first < end {
            let next = block(Gfn(first)).0 + BLOCK;
            let runs = self.gather(Gfn(first), mmu_seq, slot, first..next.min(end));
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
    fn map(&mut self, grant: &Grant) -> Result<u64, Refused> {
        match self.machine.map(self.vm, grant) {
            Err(Refused::NoTables) => {
                let run = self.pool.take_run(TABLES_BATCH, self.machine).ok_or(Refused::NoTables)?;
                self.counts.tables_given += u64::from(run.count);
                self.machine.donate(self.vm, self.first_pfn + u64::from(run.first), u64::from(run.count))?;
                self.machine.map(self.vm, grant)
            }
            answer => answer,
        }
    }
}
