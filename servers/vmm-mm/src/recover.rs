//! Blocks that were split are made whole again, a share of them at a time: KVM's `kvm_recover_nx_huge_pages`.
//!
//! With the workaround for iTLB multihit each large page that the guest fetches from is split for good, though what was
//! fetched from may be data soon. So from time to time some blocks are taken away and made whole: the next access maps
//! them large, or, if it is a fetch, small again.

use crate::level::BLOCK;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlots;
use crate::serve::{Pager, VmMemory};
use crate::tdp::Mmu;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::Space;

/// Which share of the split blocks is taken at a time: one of so many, as KVM's `nx_huge_pages_recovery_ratio`.
pub const RATIO: u64 = 60;

impl Pager {
    /// Takes a share of the blocks of every VM that were split, those first that waited longest. Says how many are whole.
    pub fn recover<M: Memory + Kernel>(&mut self, machine: &mut M) -> u64 {
        let Self { vms, backing, first_pfn, .. } = self;
        let mut recovered = 0;
        for (vm, memory) in vms.iter_mut().enumerate() {
            let VmMemory { pool, slots, stats: counts, mtrrs, watch, .. } = memory;
            let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
            recovered += mmu.recover_some(slots);
        }
        recovered
    }

    /// Makes the block of `gfn` in VM `vm` whole, if it can be. Says whether it is.
    #[cfg(test)]
    pub(crate) fn recover_block<M: Memory + Kernel>(&mut self, vm: usize, gfn: Gfn, machine: &mut M) -> bool {
        let Self { vms, backing, first_pfn, .. } = self;
        let VmMemory { pool, slots, stats: counts, mtrrs, watch, .. } = &mut vms[vm];
        let mut mmu = Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, backing, watch, machine };
        mmu.recover_at(slots, gfn)
    }
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// A round goes through the slots by gfn, and begins where the last one stopped: what it finds first has been small
    /// for longest.
    fn recover_some(&mut self, slots: &mut MemSlots) -> u64 {
        let split: u64 = slots.iter(Space::Normal).map(|slot| slot.tree.splits()).sum();
        let (mut left, mut recovered) = (split.div_ceil(RATIO), 0);
        let start = self.watch.recovered;
        for range in [start.0..u64::MAX, 0..start.0] {
            let mut at = range.start;
            while left > 0
                && let Some(block) = self.next_small_block(slots, at).filter(|block| *block < range.end)
            {
                at = (block & !(BLOCK - 1)) + BLOCK;
                if self.recover_at(slots, Gfn(block)) {
                    (left, recovered) = (left - 1, recovered + 1);
                    self.watch.recovered = Gfn(at);
                }
            }
        }
        recovered
    }

    /// The first page of a block with small pages, from gfn `at` on, in a slot that had large ones.
    fn next_small_block(&self, slots: &MemSlots, at: u64) -> Option<u64> {
        slots.iter(Space::Normal).filter(|slot| slot.tree.splits() > 0).find_map(|slot| {
            let from = at.saturating_sub(slot.base().0);
            let found = slot.tree.next_small(from, self.machine)?;
            (found < slot.pages()).then(|| slot.base().0 + found)
        })
    }
}

#[cfg(test)]
mod tests;
