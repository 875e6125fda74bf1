//! The ledger's proof: what the EPTs map is what the frame table says, and nothing else.
//!
//! No second record is kept. The proof walks every EPT and counts, and then compares with every entry of the table.

use crate::arch::vmx::ept_entry::EptFormat;
use crate::ept::{TableMemory, Tree, pages};
use crate::frame::{FrameTable, Use};
use ipc_proto::grant::Pfn;

/// A contradiction between an EPT and the frame table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// An EPT maps a frame that is not its pager's to grant.
    Mapped {
        /// The VM.
        vm: u8,
        /// The guest frame.
        gfn: u64,
        /// The host frame.
        pfn: Pfn,
        /// What the frame is used for.
        used: Use,
    },
    /// A frame is mapped, but the table names another VM or none.
    Elsewhere {
        /// The VM that maps it.
        vm: u8,
        /// The host frame.
        pfn: Pfn,
    },
    /// The table counts another number of mappings than the EPTs have.
    Count {
        /// In all EPTs.
        mapped: u64,
        /// In the table.
        counted: u64,
    },
    /// The word of a block of frames says something else than the words of its frames.
    Block {
        /// The first of its frames.
        first: Pfn,
    },
    /// A table of an EPT lies in a frame that is not the VM's.
    Table {
        /// The VM.
        vm: u8,
        /// The frame.
        pfn: Pfn,
    },
}

/// Walks the EPTs of all VMs (`vms`: number, pager's task, root) and compares them with the frame table. Says how many
/// frames are mapped.
///
/// # Errors
/// The first contradiction.
pub fn prove<'m, M: TableMemory + 'm>(
    frames: &FrameTable,
    vms: impl Iterator<Item = (u8, Option<u8>, Tree<'m, EptFormat, M>)>,
) -> Result<u64, Contradiction> {
    let mut mapped = 0;
    for (vm, pager, ept) in vms {
        mapped += prove_leaves(frames, vm, pager, &ept)?;
        prove_tables(frames, vm, &ept)?;
    }
    if let Some(first) = (0..frames.size()).step_by(512).map(Pfn).find(|first| !frames.block_is_true(*first)) {
        return Err(Contradiction::Block { first });
    }
    let counted = (0..frames.size()).map(|pfn| frames.entry(Pfn(pfn)));
    let counted = counted.filter(|entry| entry.used() == Use::Owned).map(|entry| u64::from(entry.mappings())).sum();
    if mapped == counted { Ok(mapped) } else { Err(Contradiction::Count { mapped, counted }) }
}

fn prove_leaves<M: TableMemory>(
    frames: &FrameTable,
    vm: u8,
    pager: Option<u8>,
    ept: &Tree<'_, EptFormat, M>,
) -> Result<u64, Contradiction> {
    let (mut mapped, mut found) = (0, Ok(()));
    ept.leaves(0, 1 << 36, |gfn, place, leaf| {
        for n in 0..pages(place.level) {
            let pfn = Pfn(leaf.pfn.0 + n);
            let entry = frames.entry(pfn);
            if entry.used() != Use::Owned || Some(entry.owner()) != pager {
                found = Err(Contradiction::Mapped { vm, gfn: gfn + n, pfn, used: entry.used() });
            } else if entry.vm() != Some(vm) || entry.mappings() == 0 {
                found = Err(Contradiction::Elsewhere { vm, pfn });
            }
            mapped += 1;
        }
        found.is_ok()
    });
    found.map(|()| mapped)
}

fn prove_tables<M: TableMemory>(
    frames: &FrameTable,
    vm: u8,
    ept: &Tree<'_, EptFormat, M>,
) -> Result<(), Contradiction> {
    let mut found = Ok(());
    ept.tables(&mut |pfn, _, _| {
        let entry = frames.entry(pfn);
        if entry.used() != Use::Table || entry.vm() != Some(vm) {
            found = Err(Contradiction::Table { vm, pfn });
        }
    });
    found
}

#[cfg(test)]
mod tests;
