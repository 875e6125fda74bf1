//! VMX root operation: what the CPU must have, and entering it (SDM vol. 3C, 24.7; capabilities: vol. 3D, appendix A).
#![expect(unsafe_code, reason = "VMXON and the MSRs that allow it")]

use super::super::cpu::{self, Features};
use super::super::{boot_memory::BootFrames, msr, paging::PhysMap};
use super::{controls, instr};
use crate::ept::TableMemory;
use bitflags::bitflags;
use core::sync::atomic::Ordering;
use ipc_proto::grant::Pfn;
use ipc_proto::layout::WINDOW_STRIDE;

bitflags! {
    /// IA32_VMX_EPT_VPID_CAP (SDM vol. 3D, A.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EptCapabilities: u64 {
        /// Execute-only pages.
        const EXECUTE_ONLY = 1 << 0;
        /// Walks of four levels.
        const FOUR_LEVELS = 1 << 6;
        /// Tables may be cached write-back.
        const WRITE_BACK = 1 << 14;
        /// Pages of 2 MiB.
        const LARGE = 1 << 16;
        /// Pages of 1 GiB.
        const HUGE = 1 << 17;
        /// INVEPT.
        const INVEPT = 1 << 20;
        /// Accessed and dirty bits.
        const ACCESSED_DIRTY = 1 << 21;
        /// INVEPT of one EPT.
        const INVEPT_SINGLE = 1 << 25;
        /// INVVPID.
        const INVVPID = 1 << 32;
        /// INVVPID of everything.
        const INVVPID_ALL = 1 << 42;
    }
}

impl EptCapabilities {
    /// What this CPU has; only on a CPU with VMX and EPT.
    #[must_use]
    pub fn read() -> Self {
        Self::from_bits_truncate(msr::read(msr::IA32_VMX_EPT_VPID_CAP))
    }
}

/// What a CPU lacks that the kernel cannot do without, by name.
#[must_use]
pub fn missing(features: Features) -> Option<&'static str> {
    if !features.contains(Features::VMX) {
        return Some("VMX (CPUID.1:ECX bit 5; under QEMU use -accel kvm -cpu host,+vmx)");
    }
    if msr::read(msr::IA32_FEATURE_CONTROL) & 5 == 1 {
        return Some("VMX (switched off by the firmware: IA32_FEATURE_CONTROL is locked without it)");
    }
    if let Some(what) = controls::missing() {
        return Some(what);
    }
    let ept = EptCapabilities::read();
    [
        (EptCapabilities::FOUR_LEVELS, "4-level EPT walks"),
        (EptCapabilities::WRITE_BACK, "write-back EPT tables"),
        (EptCapabilities::INVEPT | EptCapabilities::INVEPT_SINGLE, "INVEPT of one EPT"),
        (EptCapabilities::INVVPID | EptCapabilities::INVVPID_ALL, "VPID with INVVPID of all contexts"),
    ]
    .into_iter()
    .find_map(|(needed, what)| (!ept.contains(needed)).then_some(what))
}

/// How many bits of guest-physical addresses a VM has: what the CPU can map, at most what a window can show.
#[must_use]
pub fn guest_physical_bits() -> u8 {
    let info = x86::cpuid::CpuId::new();
    info.get_processor_capacity_feature_info()
        .map_or(36, |info| info.physical_address_bits().min(WINDOW_STRIDE.ilog2() as u8))
}

/// A frame with the CPU's VMCS revision in its first word.
pub(super) fn region(frames: &mut BootFrames) -> Option<Pfn> {
    let frame = frames.cleared(1)?;
    let revision = msr::read(msr::IA32_VMX_BASIC) & 0x7fff_ffff;
    PhysMap::mapped().table(frame)[0].store(revision, Ordering::Relaxed);
    Some(frame)
}

/// Enters VMX root operation.
///
/// # Errors
/// What failed, in words.
pub fn start(frames: &mut BootFrames) -> Result<(), &'static str> {
    let control = msr::read(msr::IA32_FEATURE_CONTROL);
    if control & 1 == 0 {
        // SAFETY: the register only allows VMXON outside SMX, and locks.
        unsafe { msr::write(msr::IA32_FEATURE_CONTROL, control | 5) };
    }
    cpu::set_cr4(1 << 13);
    let frame = region(frames).ok_or("no memory for VMXON")?;
    // SAFETY: the frame is a fresh region with the revision, CR4.VMXE is set, the feature is unlocked.
    unsafe { instr::vmxon(frame) }.map_err(|_| "VMXON failed")?;
    instr::invvpid_all();
    Ok(())
}
