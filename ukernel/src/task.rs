//! A task: a user-mode program with its address space and its handles.

use crate::arch::paging::Space;
use crate::load::Image;
use core::sync::atomic::AtomicBool;
use heapless::Vec;
use ipc_proto::grant::Pfn;
use ipc_proto::layout::{BootInfo, handle};
use ipc_proto::manifest::{MAX_PORTS, MAX_SPARES, Name, Ports};
use ipc_proto::refused::Refused;

/// What a handle refers to, and with it what its holder may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handle {
    /// Nothing.
    #[default]
    Empty,
    /// The machine: end the system.
    Machine,
    /// A VM, as its pager.
    PagedVm(u8),
    /// A VM, as its shadow: nothing that is asked of it is done.
    ShadowedVm(u8),
    /// A VM, to read.
    ReadVm(u8),
    /// The portal of a VM's pager or shadow: the VM, for the badge, and the task that serves it.
    Portal(u8, u8),
    /// A vCPU of this core, to run.
    Vcpu(u8),
}

/// A task.
pub struct Task {
    /// Its name in the manifest.
    pub name: Name,
    /// Its priority.
    pub priority: u8,
    /// For how many ticks it may be busy with one message; 0 for as long as it likes.
    pub patience: u64,
    /// Its address space.
    pub space: Space,
    /// The frame of its message page.
    pub message: Pfn,
    /// Whether it is told when another task stops.
    pub supervisor: bool,
    /// The ports that it may touch.
    pub ports: Vec<Ports, MAX_PORTS>,
    /// What it can be started with: its image, and its spares.
    pub images: Vec<Image, { MAX_SPARES + 1 }>,
    /// What it is told at its first start.
    pub info: BootInfo,
    /// The frame that it is told in.
    pub info_pfn: Pfn,
    /// Its handles.
    pub handles: [Handle; handle::TABLE],
    /// Whether translations of its windows that the CPU has cached are no longer true.
    pub stale: AtomicBool,
}

impl Task {
    /// What `handle` refers to.
    ///
    /// # Errors
    /// `BadHandle` beyond the table and for an empty place.
    pub fn handle(&self, handle: u64) -> Result<Handle, Refused> {
        match self.handles.get(usize::try_from(handle).unwrap_or(usize::MAX)) {
            None | Some(Handle::Empty) => Err(Refused::BadHandle),
            Some(found) => Ok(*found),
        }
    }
}
