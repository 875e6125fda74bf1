//! What all cores share: tasks, VMs, the frame table. After boot none of it grows.

use crate::arch::paging::PhysMap;
use crate::arch::vmx::ept_entry::EptFormat;
use crate::ept::Tree;
use crate::frame::FrameTable;
use crate::grant::Shapes;
use crate::task::Task;
use crate::vm::Vm;
use heapless::Vec;
use ipc_proto::manifest::{MAX_TASKS, MAX_VMS, Name};
use ipc_proto::memop::Abilities;

/// The system.
pub struct System {
    /// Its name in the manifest.
    pub name: Name,
    /// Who owns each frame.
    pub frames: FrameTable,
    /// The map of all RAM.
    pub memory: PhysMap,
    /// The tasks.
    pub tasks: Vec<Task, MAX_TASKS>,
    /// The VMs.
    pub vms: Vec<Vm, MAX_VMS>,
    /// What the CPU's EPT can do.
    pub shapes: Shapes,
    /// The same, as a pager is told.
    pub abilities: Abilities,
    /// Whether EPT and frame table are compared before the machine ends.
    pub check: bool,
    /// The time-stamp counter when the kernel began.
    pub began: u64,
}

impl System {
    /// The EPT of `vm`.
    #[inline]
    #[must_use]
    pub fn ept(&self, vm: &Vm) -> Tree<'_, EptFormat, PhysMap> {
        Tree::new(vm.root, &self.memory)
    }
}
