//! Table frames for a VM's pool.

use super::{NOTHING, Pager, TABLES_BATCH};
use crate::machine::Memory;
use ipc_proto::fault::{Fault, Origin, TopUp};

impl Pager {
    /// Table frames for the VM's pool, to go with the reply, as the word that they are there. Only those that are `needed`
    /// may have been promised to a slot.
    #[cold]
    #[inline(never)]
    pub(super) fn top_up(&mut self, fault: &Fault, needed: u16, memory: &mut impl Memory) -> u64 {
        let Some(vm) = self.vms.get_mut(usize::from(fault.vm)) else { return NOTHING };
        let Some(run) = vm.pool.take_run(TABLES_BATCH, needed, memory) else {
            if fault.tables_left == 0 {
                log::warn!("vm {}: its table pool is empty and no frame is left to fill it", fault.vm);
            }
            return NOTHING;
        };
        vm.stats.tables_given += u64::from(run.count);
        TopUp { first: self.first_pfn + u64::from(run.first), count: run.count }.to_word()
    }
}

/// How many table frames the VM's pool lacks, so that the fault can be served whatever it needs.
pub const fn needed(fault: &Fault) -> u16 {
    let most: u16 = match fault.origin {
        Origin::Vcpu => 3,
        Origin::Window => 6,
    };
    let lacks = most.saturating_sub(fault.tables_left);
    if lacks < TABLES_BATCH { lacks } else { TABLES_BATCH }
}
