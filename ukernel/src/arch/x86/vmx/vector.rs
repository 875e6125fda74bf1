//! The guest's vector registers. They stay in the CPU while servers run, which may not use them (CR0.TS), and change
//! only with the vCPU. Guests have no XSAVE (CR4.OSXSAVE is the kernel's), so x87 and SSE are all there is.
#![expect(unsafe_code, reason = "FXSAVE and FXRSTOR")]

use super::super::paging::{PHYSMAP, PhysMap};
use crate::ept::TableMemory;
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::grant::Pfn;

/// Where the 512 bytes of the registers are in a vCPU's private frame (SDM vol. 1, table 10-2).
const OFFSET: u64 = 512;

/// The registers as after a reset of the FPU: FCW 0x37f, MXCSR 0x1f80, all else zero.
pub(super) fn reset(frame: Pfn) {
    let memory = PhysMap::mapped();
    let words = memory.table(frame);
    words[OFFSET as usize / 8].store(0x37f, Relaxed);
    words[OFFSET as usize / 8 + 3].store(0x1f80, Relaxed);
}

/// Keeps the registers in the vCPU's private frame.
pub(super) fn save(frame: Pfn) {
    let at = PHYSMAP + (frame.0 << 12) + OFFSET;
    // SAFETY: the area is aligned, private to the vCPU and only used here; CR0.TS is set again at once.
    unsafe {
        asm!("clts", "fxsave64 [{at}]", "mov {cr0}, cr0", "or {cr0}, 8", "mov cr0, {cr0}", at = in(reg) at, cr0 = out(reg) _);
    }
}

/// Takes the registers from the vCPU's private frame.
pub(super) fn restore(frame: Pfn) {
    let at = PHYSMAP + (frame.0 << 12) + OFFSET;
    // SAFETY: the area was filled by `reset` or `save`, so that MXCSR has no reserved bit; as in `save`.
    unsafe {
        asm!("clts", "fxrstor64 [{at}]", "mov {cr0}, cr0", "or {cr0}, 8", "mov cr0, {cr0}", at = in(reg) at, cr0 = out(reg) _);
    }
}
