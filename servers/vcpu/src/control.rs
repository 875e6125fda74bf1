//! MOV to and from control and debug registers, CLTS and LMSW, where the kernel's masks do not let them through.
//!
//! Of CR0 the kernel keeps NE, CD and NW, and the guest sees a shadow of them. An instruction that changes one of them
//! and others beside is emulated for the shadow only and then executed again: now it changes nothing that the kernel
//! keeps, and the CPU itself checks and does the rest, long mode and page-directory pointers included.
//! Of CR4 the kernel keeps what CPUID does not offer, so setting it is a #GP.

use crate::msr::efer;
use ipc_proto::exit::{Event, ResumeFlags};
use ipc_proto::state::{StateMask, VcpuState};

/// CR0 bits.
pub mod cr0 {
    #![expect(missing_docs, reason = "the names are the SDM's")]
    pub const PE: u64 = 1 << 0;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits.
pub mod cr4 {
    #![expect(missing_docs, reason = "the names are the SDM's")]
    pub const PAE: u64 = 1 << 5;
    pub const LA57: u64 = 1 << 12;
    pub const VMXE: u64 = 1 << 13;
    pub const SMXE: u64 = 1 << 14;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const PKE: u64 = 1 << 22;
    pub const CET: u64 = 1 << 23;
    pub const PKS: u64 = 1 << 24;
    pub const UINTR: u64 = 1 << 25;
}

const CR0_KEPT: u64 = cr0::NE | cr0::CD | cr0::NW;
const CR0_DEFINED: u64 = 0xe005_003f;
const CR4_HIDDEN: u64 =
    cr4::LA57 | cr4::VMXE | cr4::SMXE | cr4::PCIDE | cr4::OSXSAVE | cr4::PKE | cr4::CET | cr4::PKS | cr4::UINTR;

/// What is done about an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is complete; this state has changed.
    Step(StateMask),
    /// The CPU executes it again with the new state.
    Again(StateMask),
    /// The guest gets an exception.
    Fault(Event),
}

impl Done {
    /// Flags, state and event of the resume.
    #[must_use]
    pub const fn parts(self) -> (ResumeFlags, StateMask, Option<Event>) {
        match self {
            Self::Step(write) => (ResumeFlags::ADVANCE, write, None),
            Self::Again(write) => (ResumeFlags::empty(), write, None),
            Self::Fault(event) => (ResumeFlags::empty(), StateMask::empty(), Some(event)),
        }
    }
}

/// The general register of that number; RSP is not among the page's general registers.
#[must_use]
pub const fn register(state: &VcpuState, number: u64) -> u64 {
    let gprs = &state.gprs;
    match number & 15 {
        0 => gprs.rax,
        1 => gprs.rcx,
        2 => gprs.rdx,
        3 => gprs.rbx,
        4 => state.rsp,
        5 => gprs.rbp,
        6 => gprs.rsi,
        7 => gprs.rdi,
        8 => gprs.r8,
        9 => gprs.r9,
        10 => gprs.r10,
        11 => gprs.r11,
        12 => gprs.r12,
        13 => gprs.r13,
        14 => gprs.r14,
        _ => gprs.r15,
    }
}

/// Sets the general register of that number and says which state has changed beside the page's general registers.
pub const fn set_register(state: &mut VcpuState, number: u64, value: u64) -> StateMask {
    let gprs = &mut state.gprs;
    let cell = match number & 15 {
        0 => &mut gprs.rax,
        1 => &mut gprs.rcx,
        2 => &mut gprs.rdx,
        3 => &mut gprs.rbx,
        4 => {
            state.rsp = value;
            return StateMask::RSP;
        }
        5 => &mut gprs.rbp,
        6 => &mut gprs.rsi,
        7 => &mut gprs.rdi,
        8 => &mut gprs.r8,
        9 => &mut gprs.r9,
        10 => &mut gprs.r10,
        11 => &mut gprs.r11,
        12 => &mut gprs.r12,
        13 => &mut gprs.r13,
        14 => &mut gprs.r14,
        _ => &mut gprs.r15,
    };
    *cell = value;
    StateMask::empty()
}

/// Control registers that only the server has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// The task priority, which nothing looks at: there is no local APIC that interrupts.
    cr8: u64,
    /// DR0 to DR3 and DR6, for a kernel that intercepts them.
    debug: [u64; 8],
}

impl Control {
    /// A control-register access: exit qualification as in SDM vol. 3C, table 28-3.
    pub fn access(&mut self, qualification: u64, state: &mut VcpuState) -> Done {
        let number = qualification & 0xf;
        let gpr = qualification >> 8 & 0xf;
        match (qualification >> 4 & 3, number) {
            (0, 0) => write_cr0(register(state, gpr), state),
            (0, 4) => write_cr4(register(state, gpr), state),
            (0, 3) => {
                state.cr3 = register(state, gpr) & !(1 << 63);
                Done::Step(StateMask::CONTROL)
            }
            (0, 8) if register(state, gpr) <= 0xf => {
                self.cr8 = register(state, gpr);
                Done::Step(StateMask::empty())
            }
            (1, 0) => Done::Step(set_register(state, gpr, state.cr0)),
            (1, 3) => Done::Step(set_register(state, gpr, state.cr3)),
            (1, 4) => Done::Step(set_register(state, gpr, state.cr4)),
            (1, 8) => Done::Step(set_register(state, gpr, self.cr8)),
            (2, _) => {
                state.cr0 &= !(1 << 3);
                Done::Step(StateMask::CONTROL)
            }
            (3, _) => {
                let source = qualification >> 16 & 0xf;
                // LMSW can set PE and not clear it.
                state.cr0 = state.cr0 & !0xe | source;
                Done::Step(StateMask::CONTROL)
            }
            _ => Done::Fault(Event::GENERAL_PROTECTION),
        }
    }

    /// A debug-register access: exit qualification as in SDM vol. 3C, table 28-4. The values are kept, and nothing
    /// breaks on them.
    pub fn debug_access(&mut self, qualification: u64, state: &mut VcpuState) -> Done {
        let number = (qualification & 7) as usize;
        let gpr = qualification >> 8 & 0xf;
        if qualification & 1 << 4 != 0 {
            let value = match number {
                7 => state.dr7,
                6 => self.debug[6] | 0xffff_0ff0,
                _ => self.debug[number],
            };
            return Done::Step(set_register(state, gpr, value));
        }
        let value = register(state, gpr);
        if number == 7 {
            state.dr7 = value & 0xffff_ffff | 0x400;
            return Done::Step(StateMask::DEBUG);
        }
        self.debug[number] = value;
        Done::Step(StateMask::empty())
    }
}

/// What the instruction moves: 32 bits outside of long mode, whatever the rest of the register holds.
const fn operand(value: u64, state: &VcpuState) -> u64 {
    if state.efer & efer::LMA == 0 { value as u32 as u64 } else { value }
}

fn write_cr0(value: u64, state: &mut VcpuState) -> Done {
    let value = operand(value, state);
    let wrong = value >> 32 != 0 || value & (cr0::NW | cr0::CD) == cr0::NW;
    if wrong || value & (cr0::PG | cr0::PE) == cr0::PG {
        return Done::Fault(Event::GENERAL_PROTECTION);
    }
    let value = value & CR0_DEFINED | cr0::ET;
    if (value ^ state.cr0) & CR0_KEPT != 0 && (value ^ state.cr0) & !CR0_KEPT != 0 {
        state.cr0 = state.cr0 & !CR0_KEPT | value & CR0_KEPT;
        return Done::Again(StateMask::CONTROL);
    }
    // Only a kernel that keeps further bits sends PG here: long mode begins and ends with it.
    let long = value & cr0::PG != 0 && state.efer & efer::LME != 0;
    state.efer = if long { state.efer | efer::LMA } else { state.efer & !efer::LMA };
    state.cr0 = value;
    Done::Step(StateMask::CONTROL.union(StateMask::EFER))
}

fn write_cr4(value: u64, state: &mut VcpuState) -> Done {
    let value = operand(value, state);
    if value & CR4_HIDDEN != 0 || value >> 32 != 0 {
        return Done::Fault(Event::GENERAL_PROTECTION);
    }
    state.cr4 = value;
    Done::Step(StateMask::CONTROL)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
