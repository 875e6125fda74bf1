//! The vCPU's state page: guest registers that the kernel and the VM's server share.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// The state of one vCPU, at the beginning of its page. Every field is eight bytes.
///
/// The general registers are always those of the guest while the vCPU is parked: the CPU's exit handler pushes
/// them there, and the entry pops them from there. The other fields are filled and taken by [`StateMask`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuState {
    /// General registers, in the order of their encoding, without RSP.
    pub gprs: Gprs,
    /// `StateMask::RIP`.
    pub rip: u64,
    /// `StateMask::RFLAGS`.
    pub rflags: u64,
    /// `StateMask::RSP`.
    pub rsp: u64,
    /// `StateMask::CONTROL`: CR0 as the guest sees it.
    pub cr0: u64,
    /// `StateMask::CONTROL`.
    pub cr3: u64,
    /// `StateMask::CONTROL`: CR4 as the guest sees it.
    pub cr4: u64,
    /// `StateMask::CR2`.
    pub cr2: u64,
    /// `StateMask::EFER`.
    pub efer: u64,
    /// `StateMask::SEGMENTS`.
    pub es: Segment,
    /// `StateMask::SEGMENTS`.
    pub cs: Segment,
    /// `StateMask::SEGMENTS`.
    pub ss: Segment,
    /// `StateMask::SEGMENTS`.
    pub ds: Segment,
    /// `StateMask::SEGMENTS`.
    pub fs: Segment,
    /// `StateMask::SEGMENTS`.
    pub gs: Segment,
    /// `StateMask::SEGMENTS`.
    pub ldtr: Segment,
    /// `StateMask::SEGMENTS`.
    pub tr: Segment,
    /// `StateMask::TABLES`.
    pub gdtr: Table,
    /// `StateMask::TABLES`.
    pub idtr: Table,
    /// `StateMask::ACTIVITY`: blocking by STI (bit 0), by MOV SS (1), by SMI (2), by NMI (3).
    pub interruptibility: u64,
    /// `StateMask::ACTIVITY`: 0 active, 1 HLT, 2 shutdown, 3 wait for SIPI.
    pub activity: u64,
    /// `StateMask::DEBUG`.
    pub dr7: u64,
    /// `StateMask::PAT`.
    pub pat: u64,
    /// `StateMask::SYSENTER`.
    pub sysenter_cs: u64,
    /// `StateMask::SYSENTER`.
    pub sysenter_esp: u64,
    /// `StateMask::SYSENTER`.
    pub sysenter_eip: u64,
    /// `StateMask::SYSCALL`.
    pub star: u64,
    /// `StateMask::SYSCALL`.
    pub lstar: u64,
    /// `StateMask::SYSCALL`.
    pub cstar: u64,
    /// `StateMask::SYSCALL`.
    pub fmask: u64,
    /// `StateMask::SYSCALL`.
    pub kernel_gs_base: u64,
}

/// The general registers without RSP, in the order of their encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the CPU's")]
pub struct Gprs {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// The selector.
    pub selector: u64,
    /// The base address.
    pub base: u64,
    /// The limit in bytes, as the CPU holds it after scaling by the granularity.
    pub limit: u64,
    /// Access rights as in the VMCS: bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable.
    pub access: u64,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Table {
    /// The base address.
    pub base: u64,
    /// The limit in bytes.
    pub limit: u64,
}

bitflags! {
    /// Groups of guest state that travel together.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct StateMask: u32 {
        /// RIP.
        const RIP = 1 << 0;
        /// RFLAGS.
        const RFLAGS = 1 << 1;
        /// RSP.
        const RSP = 1 << 2;
        /// CR0, CR3, CR4 as the guest sees them.
        const CONTROL = 1 << 3;
        /// CR2.
        const CR2 = 1 << 4;
        /// EFER.
        const EFER = 1 << 5;
        /// The eight segment registers.
        const SEGMENTS = 1 << 6;
        /// GDTR and IDTR.
        const TABLES = 1 << 7;
        /// Interruptibility and activity.
        const ACTIVITY = 1 << 8;
        /// DR7.
        const DEBUG = 1 << 9;
        /// PAT.
        const PAT = 1 << 10;
        /// The three SYSENTER registers.
        const SYSENTER = 1 << 11;
        /// STAR, LSTAR, CSTAR, FMASK and KERNEL_GS_BASE.
        const SYSCALL = 1 << 12;
        /// What says how code is fetched: base and access rights of CS, access rights of SS.
        const CODE = 1 << 13;
    }
}
