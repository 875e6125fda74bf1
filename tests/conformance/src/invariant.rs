//! What must hold at any time: what is mapped is what the slots allow, and no frame is in two places.

use crate::kit::Kit;
use anyhow::{bail, ensure};
use ipc_proto::grant::{MemType, Rights};
use ipc_proto::lifecycle::Features;
use std::collections::BTreeMap;
use ukernel::ept::pages;
use ukernel::ledger::prove;

impl Kit {
    /// Checks all that is mapped.
    ///
    /// # Errors
    /// The obligation that is not kept.
    pub fn check(&self) -> anyhow::Result<()> {
        // By frame: where it is mapped first, and whether anywhere writable.
        let mut frames: BTreeMap<u64, (u8, u64, bool)> = BTreeMap::new();
        for (vm, model) in self.kernel.vms.iter().zip(&self.models) {
            for (first, place, leaf) in vm.leaves(0, vm.frames(), &self.kernel.ledger) {
                let writable = leaf.rights.contains(Rights::WRITE);
                let size = pages(place.level);
                ensure!(
                    leaf.mem_type == MemType::WriteBack,
                    "P45: gfn {first:#x} is mapped as {:?}, and a slot's memory is write-back",
                    leaf.mem_type
                );
                ensure!(
                    size == 1 || self.features.contains(Features::LARGE_PAGES),
                    "P35: {size} frames are mapped at gfn {first:#x} at once, and LARGE_PAGES was not said"
                );
                for n in 0..size {
                    let (gfn, pfn) = (first + n, leaf.pfn.0 + n);
                    ensure!(
                        model.at(gfn).is_some(),
                        "P7: vm {} gfn {gfn:#x} is mapped, and no slot holds it",
                        vm.number
                    );
                    if writable && let Some(why) = model.forbids_writes(gfn) {
                        bail!("P8: vm {} gfn {gfn:#x} is writable, and {why}", vm.number);
                    }
                    match frames.get_mut(&pfn) {
                        Some((other_vm, other, written)) => {
                            *written |= writable;
                            ensure!(
                                !*written,
                                "P13: frame {pfn:#x} is mapped at gfn {other:#x} of vm {other_vm} and at {gfn:#x} of {}",
                                vm.number
                            );
                        }
                        None => {
                            frames.insert(pfn, (vm.number, gfn, writable));
                        }
                    }
                }
            }
        }
        let vms = self.kernel.vms.iter();
        let all = vms.map(|vm| (vm.number, Some(crate::ledger::PAGER), vm.ept(&self.kernel.ledger)));
        prove(&self.kernel.ledger.frames, all)
            .map(|_| ())
            .map_err(|why| anyhow::anyhow!("the kit's own ledger: {why:x?}"))
    }
}
