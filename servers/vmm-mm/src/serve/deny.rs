//! Why a fault is denied that cannot be answered otherwise: the log is told.

use ipc_proto::grant::Gpa;
use ipc_proto::refused::DenyReason;

#[cold]
#[inline(never)]
pub fn internal(vm: u16, vcpu: u16) -> DenyReason {
    log::error!("a fault of vm {vm} vcpu {vcpu}, which there cannot be");
    DenyReason::Internal
}

#[cold]
#[inline(never)]
pub fn out_of_memory(vm: u16, vcpu: u16, gpa: Gpa) -> DenyReason {
    log::error!("vm {vm} vcpu {vcpu}: no frame left for gpa {:#x}", gpa.0);
    DenyReason::OutOfMemory
}
