//! Page-modification logging: the CPU writes down each page whose D bit it sets (SDM vol. 3C, 29.3.6).

use super::super::msr;
use super::super::paging::PhysMap;
use super::guest::GuestCpu;
use super::{controls, root::EptCapabilities};
use crate::ept::TableMemory;
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::memop::LOG;
use x86::vmx::vmcs::control;

/// The VMCS field with the log's address (SDM vol. 3D, table B-4).
const ADDRESS: u32 = 0x200e;
/// The VMCS field with the index of the next entry, which goes down (SDM vol. 3D, table B-3).
const INDEX: u32 = 0x812;
/// The index of the first entry.
const FIRST: u64 = LOG as u64 - 1;

/// Whether the CPU has it.
#[must_use]
pub fn supported() -> bool {
    let may = msr::read(msr::IA32_VMX_PROCBASED_CTLS2) >> 32;
    may & controls::LOG != 0 && EptCapabilities::read().contains(EptCapabilities::ACCESSED_DIRTY)
}

impl GuestCpu {
    /// Begins or ends the log; only where it is [`supported`].
    pub fn set_log(&self, log: Log) {
        let on = match log {
            Log::On => controls::LOG,
            Log::Off => 0,
        };
        self.vmcs.write_guest(ADDRESS, self.log_frame().0 << 12);
        self.vmcs.write_guest(INDEX, FIRST);
        self.vmcs.write_guest(control::SECONDARY_PROCBASED_EXEC_CONTROLS, controls::SECONDARY.value() | on);
    }

    /// What the log has; it is empty then.
    pub fn take_log(&self) -> impl Iterator<Item = Gfn> {
        let memory: &'static PhysMap = &const { PhysMap::mapped() };
        // Full, the index is 0xffff: one below the last entry.
        let next = self.vmcs.read(INDEX) as u16;
        self.vmcs.write_guest(INDEX, FIRST);
        let entries = memory.table(self.log_frame());
        entries.iter().skip(usize::from(next.wrapping_add(1))).map(|entry| Gpa(entry.load(Relaxed)).gfn())
    }
}

/// Whether there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// There is.
    On,
    /// There is not.
    Off,
}
