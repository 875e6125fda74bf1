//! Where things are mapped in a task, and under which handles it finds its objects.
//!
//! Every task sees the same layout; what it was not given is simply not mapped.

use crate::manifest::{MAX_MODULES, MAX_VMS, Name};
use crate::version::Version;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// The end of the only thread's stack; it grows down, with an unmapped page below.
pub const STACK_TOP: u64 = 0x3000_0000;
/// Size of the stack, in bytes.
pub const STACK_SIZE: u64 = 256 << 10;
/// The thread's message page: 4 KiB, read-write.
pub const MESSAGE: u64 = 0x4000_0000;
/// The [`BootInfo`] of the task: one read-only page, a `u16` length and that many bytes of postcard.
pub const BOOT_INFO: u64 = 0x4000_2000;
/// The manifest's bytes, read-only.
pub const MANIFEST: u64 = 0x4001_0000;
/// Boot modules, read-only, one after another; [`BootInfo::modules`] says where each is.
pub const MODULES: u64 = 0x5000_0000;
/// The frames of the task: frame `pfn` is mapped read-write at `FRAMES + pfn * 4096`.
pub const FRAMES: u64 = 0x100_0000_0000;
/// The window on VM `n`'s memory: guest-physical address `gpa` at `WINDOW + n * WINDOW_STRIDE + gpa`.
pub const WINDOW: u64 = 0x200_0000_0000;
/// Distance between the windows of two VMs: one entry of the top-level table.
pub const WINDOW_STRIDE: u64 = 0x80_0000_0000;
/// The state page of vCPU `n` of VM `m`: `VCPU_STATE + (m * MAX_VCPUS + n) * 4096`.
pub const VCPU_STATE: u64 = 0x600_0000_0000;
/// What [`BootInfo::kept`] says when the incarnation before has handed over: what the kernel has mapped is all that there is to
/// know. No pager's frame has that pfn.
pub const HANDED_OVER: u64 = 1;
/// Where a flat guest is loaded and entered (guest-physical).
pub const FLAT_GUEST: u64 = 0x10_0000;

/// What the kernel tells a task at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInfo {
    /// The protocol that the kernel speaks.
    pub protocol: Version,
    /// The task's place in the manifest.
    pub task: u8,
    /// How often the task has been started: 0 the first time.
    pub incarnation: u32,
    /// Time-stamp counter ticks in a second.
    pub tsc_hz: u64,
    /// Length of the manifest at [`MANIFEST`], in bytes.
    pub manifest_len: u32,
    /// The first of the frames it owns.
    pub first_pfn: u64,
    /// How many frames it owns from there.
    pub frames: u64,
    /// The boot modules it sees.
    pub modules: Vec<ModuleInfo, MAX_MODULES>,
    /// The VMs it has a part in: places in the manifest, each under the handles of [`handle`].
    pub vms: Vec<u8, MAX_VMS>,
    /// Guest-physical address bits that the CPU's EPT can map.
    pub guest_physical_bits: u8,
    /// Whether the CPU moves strings in pieces larger than their elements (IA32_MISC_ENABLE bit 0).
    pub fast_strings: bool,
    /// What an incarnation before has kept by [`crate::call::Call::Keep`] last; 0 for nothing.
    pub kept: u64,
}

/// A boot module that a task sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its name.
    pub name: Name,
    /// Its address in the task.
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Handles: small integers in a table of the task's own.
pub mod handle {
    /// The machine: power off. Held by a supervisor.
    pub const MACHINE: u16 = 1;
    /// The portal of the first supervisor that is no VM's server, to call. Held by the server of each VM.
    pub const SUPERVISOR: u16 = 2;
    /// VM `n`. Held by its pager (map, unmap, protect, harvest, read, donate) and its server (read).
    #[must_use]
    pub const fn vm(n: usize) -> u16 {
        8 + n as u16
    }
    /// The portal of VM `n`'s pager, to call. Held by its server.
    #[must_use]
    pub const fn pager(n: usize) -> u16 {
        16 + n as u16
    }
    /// vCPU `m` of VM `n`. Held by its server.
    #[must_use]
    pub const fn vcpu(n: usize, m: usize) -> u16 {
        24 + (n * crate::manifest::MAX_VCPUS + m) as u16
    }
    /// The portal of VM `n`'s shadow, to call. Held by its server.
    #[must_use]
    pub const fn shadow(n: usize) -> u16 {
        56 + n as u16
    }
    /// The size of a handle table.
    pub const TABLE: usize = 56 + crate::manifest::MAX_VMS;
}
