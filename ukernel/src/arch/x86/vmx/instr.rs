//! The VMX instructions. The `x86` crate's wrappers read the flags in a block of their own, where the compiler may
//! have changed them, so these are ours.
#![expect(unsafe_code, reason = "VMX instructions")]

use core::arch::asm;
use ipc_proto::grant::Pfn;

/// An instruction failed: the current VMCS's error number, if there is a current VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxFailed;

macro_rules! with_address {
    ($name:ident, $instruction:literal, $what:literal) => {
        #[doc = $what]
        ///
        /// # Safety
        /// The frame is a VMX region of this kernel with the CPU's revision; VMX operation allows the instruction.
        pub unsafe fn $name(frame: Pfn) -> Result<(), VmxFailed> {
            let address = frame.0 << 12;
            let failed: u8;
            // SAFETY: the caller's contract; the flags are read in the same block.
            unsafe {
                asm!(concat!($instruction, " [{address}]"), "setbe {failed}",
                    address = in(reg) &address, failed = lateout(reg_byte) failed, options(nostack));
            }
            if failed == 0 { Ok(()) } else { Err(VmxFailed) }
        }
    };
}

with_address!(vmxon, "vmxon", "Enters VMX root operation.");
with_address!(vmclear, "vmclear", "Writes a VMCS back and makes it inactive.");
with_address!(vmptrld, "vmptrld", "Makes a VMCS the current one.");

/// Reads a field of the current VMCS.
///
/// # Safety
/// There is a current VMCS on this CPU.
#[inline(always)]
pub unsafe fn vmread(field: u32) -> u64 {
    let value;
    // SAFETY: the caller's contract; VMREAD touches registers and flags only. Every field that the kernel reads is there on a
    // CPU that it runs on (`root::missing`).
    unsafe {
        asm!("vmread {value}, {field}", value = lateout(reg) value, field = in(reg) u64::from(field),
            options(nomem, nostack));
    }
    value
}

/// Writes a field of the current VMCS.
///
/// # Safety
/// There is a current VMCS on this CPU, and the value keeps the host state that exits load.
#[inline(always)]
pub unsafe fn vmwrite(field: u32, value: u64) {
    // SAFETY: the caller's contract. A field that does not exist changes nothing.
    unsafe {
        asm!("vmwrite {field}, {value}", value = in(reg) value, field = in(reg) u64::from(field),
            options(nostack));
    }
}

/// Forgets what the CPU has cached of the EPT `eptp` (single-context) or of all (SDM vol. 3C, table 29-11).
pub fn invept(eptp: u64) {
    let descriptor = [eptp, 0u64];
    // SAFETY: INVEPT only drops cached translations; type 1 (single-context) was found by `root::missing`.
    unsafe { asm!("invept {kind}, [{at}]", kind = in(reg) 1u64, at = in(reg) &descriptor, options(nostack)) };
}

/// Forgets everything tagged with any VPID (SDM vol. 3C, table 29-12).
pub fn invvpid_all() {
    let descriptor = [0u64; 2];
    // SAFETY: INVVPID only drops cached translations; type 2 (all contexts) was found by `root::missing`.
    unsafe { asm!("invvpid {kind}, [{at}]", kind = in(reg) 2u64, at = in(reg) &descriptor, options(nostack)) };
}
