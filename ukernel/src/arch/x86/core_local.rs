//! A CPU's kernel stack: every entry into the kernel begins at its end, which says whose it is.
#![expect(unsafe_code, reason = "the word at the end of the stack")]

use super::boot_memory::BootFrames;
use super::paging::PHYSMAP;
use super::{door, msr, tables};
use crate::core::Core;

/// Frames of the stack.
const FRAMES: u64 = 16;

/// The stack of one CPU. Layout at its end: the address of the CPU's [`Core`] in the last word, where SYSENTER
/// begins; one word of padding; below them the trap frame of whatever interrupted a task.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    end: u64,
}

impl Stack {
    /// Takes frames for a stack.
    pub fn new(frames: &mut BootFrames) -> Option<Self> {
        let first = frames.cleared(FRAMES)?;
        Some(Self { end: PHYSMAP + ((first.0 + FRAMES) << 12) })
    }

    /// Where SYSENTER begins: the word that holds the core.
    #[must_use]
    pub const fn sysenter(self) -> u64 {
        self.end - 8
    }

    /// Where a trap frame ends.
    #[must_use]
    pub const fn trap(self) -> u64 {
        self.end - 16
    }

    /// From now on the stack is `core`'s, and SYSENTER begins on it. VM exits load the same values from the VMCS.
    pub fn belongs_to(self, core: *mut Core) {
        let entry = [
            (msr::IA32_SYSENTER_CS, u64::from(tables::KERNEL_CODE)),
            (msr::IA32_SYSENTER_ESP, self.sysenter()),
            (msr::IA32_SYSENTER_EIP, door::sysenter_address()),
        ];
        for (number, value) in entry {
            // SAFETY: the entry is `entry.S`'s, which begins on this stack.
            unsafe { msr::write(number, value) };
        }
        let word = self.sysenter() as *mut u64;
        // SAFETY: the word is the last of frames that are only used as this stack.
        unsafe { word.write(core as u64) };
    }
}
