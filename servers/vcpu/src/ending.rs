//! Why a VM is over.

use core::fmt;
use heapless::Vec;
use ipc_proto::call::End;
use ipc_proto::fault::Qualification;
use ipc_proto::refused::DenyReason;
use ipc_proto::state::{Segment, StateMask, VcpuState};

/// Why a VM is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By ACPI.
    PowerOff,
    /// The guest asked for a reset: a machine runs once.
    Reset,
    /// The value written to the test port.
    TestExit(u32),
    /// HLT with interrupts disabled.
    Halted,
    /// HLT with interrupts enabled, and no device that could raise one.
    Stranded,
    /// A triple fault.
    TripleFault,
    /// The pager forbade an access: guest-physical address and reason.
    Denied(u64, DenyReason),
    /// Nobody serves the VM's faults: guest-physical address, exit qualification.
    NoPager(u64, u64),
    /// A fault repeats: guest-physical address, exit qualification.
    Stuck(u64, u64),
    /// The CPU refused the guest's state: basic exit reason or VM-instruction error, exit qualification.
    EntryFailed(u64, u64),
    /// An exit that nobody handles: basic exit reason, exit qualification.
    UnknownExit(u64, u64),
    /// An instruction on device memory or on a string port that cannot be emulated: its bytes, what it wanted.
    CannotEmulate(Vec<u8, 15>, &'static str),
}

impl Ending {
    /// How the system ends with it.
    #[must_use]
    pub const fn end(&self) -> End {
        match self {
            Self::PowerOff | Self::Reset | Self::TestExit(0) => End::Done,
            Self::TestExit(_)
            | Self::Halted
            | Self::Stranded
            | Self::TripleFault
            | Self::Denied(..)
            | Self::NoPager(..)
            | Self::Stuck(..)
            | Self::EntryFailed(..)
            | Self::UnknownExit(..)
            | Self::CannotEmulate(..) => End::GuestFailed,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reboot"),
            Self::TestExit(value) => write!(f, "the guest ended with {value} on port 0xf4"),
            Self::Halted => f.write_str("the guest halted with interrupts disabled"),
            Self::Stranded => f.write_str("the guest halted, and no device is set up to wake it"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::Denied(gpa, reason) => write!(f, "the pager denied an access to {gpa:#x}: {reason}"),
            Self::NoPager(gpa, qualification) => write!(
                f,
                "no pager serves this VM: it stopped at its first fault, an access to {gpa:#x} \
                 (qualification {qualification:#x})"
            ),
            Self::Stuck(gpa, qualification) => {
                let tried = Qualification::from_bits_retain(*qualification as u32);
                write!(f, "the fault at {gpa:#x} repeats after replies that claimed to mend it ({tried})")
            }
            Self::EntryFailed(reason, qualification) => {
                write!(f, "the CPU refused the guest's state (reason {reason}, qualification {qualification:#x})")
            }
            Self::UnknownExit(reason, qualification) => {
                write!(f, "VM exit {reason} (qualification {qualification:#x}), which nobody handles")
            }
            Self::CannotEmulate(bytes, wanted) => {
                f.write_str("cannot emulate the instruction")?;
                for byte in bytes {
                    write!(f, " {byte:02x}")?;
                }
                write!(f, ": {wanted}")
            }
        }
    }
}

/// Prints a guest's registers as error lines: the general ones, and those of the groups `known`.
pub fn log_registers(state: &VcpuState, known: StateMask) {
    let g = &state.gprs;
    log::error!("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", g.rax, g.rbx, g.rcx, g.rdx);
    log::error!("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", g.rsi, g.rdi, g.rbp, g.r8);
    log::error!("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", g.r9, g.r10, g.r11, g.r12);
    log::error!("r13 {:016x} r14 {:016x} r15 {:016x}", g.r13, g.r14, g.r15);
    if known.contains(StateMask::RFLAGS) {
        log::error!("rflags {:08x}", state.rflags);
    }
    if known.contains(StateMask::RIP | StateMask::RSP) {
        log::error!("rip {:016x} rsp {:016x}", state.rip, state.rsp);
    }
    if known.contains(StateMask::CONTROL | StateMask::EFER) {
        let VcpuState { cr0, cr2, cr3, cr4, efer, .. } = state;
        log::error!("cr0 {cr0:08x} cr2 {cr2:016x} cr3 {cr3:016x} cr4 {cr4:08x} efer {efer:04x}");
    }
    if known.contains(StateMask::SEGMENTS) {
        let segments = [("cs", &state.cs), ("ss", &state.ss), ("ds", &state.ds), ("tr", &state.tr)];
        for (name, Segment { selector, base, limit, access }) in segments {
            log::error!("{name} {selector:04x} base {base:016x} limit {limit:08x} access {access:05x}");
        }
    }
    if known.contains(StateMask::TABLES) {
        let VcpuState { gdtr, idtr, .. } = state;
        log::error!("gdt {:016x}+{:04x} idt {:016x}+{:04x}", gdtr.base, gdtr.limit, idtr.base, idtr.limit);
    }
    if known.contains(StateMask::ACTIVITY) {
        log::error!("interruptibility {:x} activity {}", state.interruptibility, state.activity);
    }
}
