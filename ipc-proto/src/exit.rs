//! Exit and Resume: the kernel asks the VM's server, the server answers. Hot: register words.
//!
//! The general registers of the guest are in the vCPU's state page ([`crate::state`]) from the moment the guest is
//! left; what else is there depends on the exit: [`Exit::travels`].

mod port;

pub use port::{Direction, PortAccess, PortParts};

use crate::refused::{DenyReason, Unknown};
use crate::state::StateMask;
use crate::words::{Words, bits};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// Every exit that the kernel does not keep: an instruction or event that a device model or a CPU table answers.
///
/// Who asks: the kernel, of the thread that serves the VM. The vCPU stays parked until it is resumed, by the reply
/// or later by [`crate::call::Call::Run`].
///
/// | word | bits | what |
/// | --- | --- | --- |
/// | 0 | 15:0 | badge: the vCPU's number in its VM |
/// | 0 | 31:16 | the VM's place in the manifest |
/// | 0 | 39:32 | the instruction's length in bytes, 0 where the CPU does not give it |
/// | 0 | 63:56 | which variant, from 1 in the order below |
/// | 1, 2 | | the variant's own, named at each |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// CPUID; leaf and subleaf are in rax and rcx.
    Cpuid,
    /// HLT.
    Hlt,
    /// IN, OUT, INS, OUTS. Word 1.
    Port(PortAccess),
    /// RDMSR; the number is in rcx.
    ReadMsr,
    /// WRMSR; number in rcx, value in edx:eax.
    WriteMsr,
    /// A control-register access that the kernel's masks do not let through: word 1, exit qualification as in SDM
    /// vol. 3C, table 28-3.
    ControlRegister(u64),
    /// A debug-register access: word 1, exit qualification as in SDM vol. 3C, table 28-4.
    DebugRegister(u64),
    /// An access to an address for which the pager answered Mmio: word 1 the guest-physical address, word 2 the
    /// [`crate::fault::Qualification`].
    Mmio(u64, u64),
    /// The guest can take an interrupt now; asked for with [`ResumeFlags::WINDOW`].
    InterruptWindow,
    /// A triple fault.
    TripleFault,
    /// XSETBV.
    Xsetbv,
    /// VMCALL.
    Hypercall,
    /// INVD or WBINVD.
    CacheControl,
    /// An exception that the kernel's bitmap intercepts: word 1 interruption information, word 2 error code.
    Exception(u64, u64),
    /// The pager forbade the access: word 1 guest-physical address, word 2 the reason.
    Denied(u64, DenyReason),
    /// No task serves the VM's faults: word 1 guest-physical address, word 2 qualification.
    NoPager(u64, u64),
    /// The same fault again and again after answers that claimed to mend it: word 1 guest-physical address,
    /// word 2 qualification.
    Stuck(u64, u64),
    /// The CPU refused to enter the guest: word 1 the basic exit reason or VM-instruction error, word 2 the
    /// exit qualification.
    EntryFailed(u64, u64),
    /// Any other exit: word 1 the basic exit reason (SDM vol. 3D, appendix C), word 2 the qualification.
    Other(u64, u64),
}

/// An exit with the vCPU it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitMessage {
    /// The vCPU's number in its VM.
    pub vcpu: u16,
    /// The VM's place in the manifest.
    pub vm: u16,
    /// The instruction's length in bytes; 0 where the CPU does not give it.
    pub length: u8,
    /// What happened.
    pub exit: Exit,
}

impl ExitMessage {
    /// The message as register words.
    #[must_use]
    #[inline(always)]
    pub const fn to_words(&self) -> Words {
        let (variant, first, second) = self.exit.parts();
        let head = self.vcpu as u64 | (self.vm as u64) << 16 | (self.length as u64) << 32 | (variant as u64) << 56;
        [head, first, second, 0, 0, 0]
    }

    /// The message that the words spell.
    ///
    /// # Errors
    /// [`Unknown`] for a variant that this version does not have.
    #[inline]
    pub const fn from_words(words: &Words) -> Result<Self, Unknown> {
        let [head, first, second, ..] = *words;
        match Exit::from_parts(bits(head, 56, 8), first, second) {
            Ok(exit) => Ok(Self { vcpu: head as u16, vm: (head >> 16) as u16, length: (head >> 32) as u8, exit }),
            Err(unknown) => Err(unknown),
        }
    }
}

impl Exit {
    #[inline(always)]
    const fn parts(&self) -> (u8, u64, u64) {
        match *self {
            Self::Cpuid => (1, 0, 0),
            Self::Hlt => (2, 0, 0),
            Self::Port(access) => (3, access.to_qualification(), 0),
            Self::ReadMsr => (4, 0, 0),
            Self::WriteMsr => (5, 0, 0),
            Self::ControlRegister(qualification) => (6, qualification, 0),
            Self::DebugRegister(qualification) => (7, qualification, 0),
            Self::Mmio(gpa, qualification) => (8, gpa, qualification),
            Self::InterruptWindow => (9, 0, 0),
            Self::TripleFault => (10, 0, 0),
            Self::Xsetbv => (11, 0, 0),
            Self::Hypercall => (12, 0, 0),
            Self::CacheControl => (13, 0, 0),
            Self::Exception(information, error) => (14, information, error),
            Self::Denied(gpa, reason) => (15, gpa, reason as u64),
            Self::NoPager(gpa, qualification) => (16, gpa, qualification),
            Self::Stuck(gpa, qualification) => (17, gpa, qualification),
            Self::EntryFailed(reason, qualification) => (18, reason, qualification),
            Self::Other(reason, qualification) => (19, reason, qualification),
        }
    }

    const fn from_parts(variant: u64, first: u64, second: u64) -> Result<Self, Unknown> {
        Ok(match variant {
            1 => Self::Cpuid,
            2 => Self::Hlt,
            3 => Self::Port(PortAccess::from_qualification(first)),
            4 => Self::ReadMsr,
            5 => Self::WriteMsr,
            6 => Self::ControlRegister(first),
            7 => Self::DebugRegister(first),
            8 => Self::Mmio(first, second),
            9 => Self::InterruptWindow,
            10 => Self::TripleFault,
            11 => Self::Xsetbv,
            12 => Self::Hypercall,
            13 => Self::CacheControl,
            14 => Self::Exception(first, second),
            15 => match DenyReason::from_number(second) {
                Some(reason) => Self::Denied(first, reason),
                None => return Err(Unknown),
            },
            16 => Self::NoPager(first, second),
            17 => Self::Stuck(first, second),
            18 => Self::EntryFailed(first, second),
            19 => Self::Other(first, second),
            _ => return Err(Unknown),
        })
    }

    /// Which guest state the kernel puts into the state page for this exit, beside the general registers.
    #[must_use]
    #[inline]
    pub const fn travels(&self) -> StateMask {
        match self {
            Self::Cpuid | Self::InterruptWindow | Self::CacheControl | Self::Hypercall => StateMask::empty(),
            Self::Hlt => StateMask::RFLAGS,
            Self::ReadMsr => StateMask::EFER,
            Self::Port(access) if !access.string() => StateMask::empty(),
            Self::WriteMsr => StateMask::EFER.union(StateMask::CONTROL),
            Self::Mmio(..) => StateMask::RIP
                .union(StateMask::RFLAGS)
                .union(StateMask::CONTROL)
                .union(StateMask::EFER)
                .union(StateMask::ACTIVITY)
                .union(StateMask::CODE),
            Self::ControlRegister(_) => StateMask::CONTROL.union(StateMask::EFER).union(StateMask::RSP),
            Self::Port(_)
            | Self::DebugRegister(_)
            | Self::TripleFault
            | Self::Xsetbv
            | Self::Exception(..)
            | Self::Denied(..)
            | Self::NoPager(..)
            | Self::Stuck(..)
            | Self::EntryFailed(..)
            | Self::Other(..) => StateMask::all(),
        }
    }
}

bitflags! {
    /// What the kernel does before it enters the guest again.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct ResumeFlags: u8 {
        /// Step over the instruction that exited: add its length to RIP, end a shadow of STI or MOV SS.
        const ADVANCE = 1;
        /// Come back with [`Exit::InterruptWindow`] as soon as the guest can take an interrupt.
        const WINDOW = 2;
        /// Do not enter: leave the vCPU parked until `Run`.
        const PARK = 4;
        /// Do nothing else: put the state that is named into the state page, and hand the same exit over again. In a
        /// `Run` it means nothing.
        const MORE = 8;
    }
}

/// The server's answer to an [`Exit`], or a start of a parked vCPU.
///
/// Who asks: the VM's server, of the kernel. When it is accepted the vCPU's state of `write` is what the state page
/// says, and it goes on as the flags say. Guest state that the CPU refuses comes back as [`Exit::EntryFailed`].
/// Refused: `UnknownVariant` for unknown flags or state bits; `NotAsked`.
///
/// | word | bits | what |
/// | --- | --- | --- |
/// | 0 | 15:0 | the vCPU's number in its VM |
/// | 0 | 31:16 | the VM's place in the manifest |
/// | 0 | 39:32 | [`ResumeFlags`] |
/// | 0 | 63:40 | [`StateMask`]: what to take from the state page, beside the general registers |
/// | 1 | 31:0 | event to deliver: VM-entry interruption information (SDM vol. 3C, table 25-17), 0 for none |
/// | 1 | 63:32 | its error code |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The vCPU's number in its VM.
    pub vcpu: u16,
    /// The VM's place in the manifest.
    pub vm: u16,
    /// What to do before the entry.
    pub flags: ResumeFlags,
    /// Which state to take from the state page.
    pub write: StateMask,
    /// The event to deliver.
    pub event: Option<Event>,
}

/// An event that is delivered to the guest with its next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An external interrupt.
    Interrupt(u8),
    /// An exception without an error code.
    Exception(u8),
    /// An exception with its error code.
    ExceptionWithCode(u8, u32),
}

impl Event {
    /// #UD.
    pub const INVALID_OPCODE: Self = Self::Exception(6);
    /// #GP(0).
    pub const GENERAL_PROTECTION: Self = Self::ExceptionWithCode(13, 0);

    /// As word 1 of a resume.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        match self {
            Self::Interrupt(vector) => VALID | vector as u64,
            Self::Exception(vector) => VALID | HARDWARE_EXCEPTION | vector as u64,
            Self::ExceptionWithCode(vector, code) => {
                VALID | HARDWARE_EXCEPTION | HAS_CODE | vector as u64 | (code as u64) << 32
            }
        }
    }

    /// From word 1 of a resume.
    ///
    /// # Errors
    /// [`Unknown`] for any other kind of event.
    pub const fn from_word(word: u64) -> Result<Option<Self>, Unknown> {
        let vector = word as u8;
        match word as u32 as u64 & !0xff {
            0 if word == 0 => Ok(None),
            VALID if word >> 32 == 0 => Ok(Some(Self::Interrupt(vector))),
            INFO_EXCEPTION if word >> 32 == 0 && vector < 32 => Ok(Some(Self::Exception(vector))),
            INFO_EXCEPTION_CODE if vector < 32 => Ok(Some(Self::ExceptionWithCode(vector, (word >> 32) as u32))),
            _ => Err(Unknown),
        }
    }
}

const VALID: u64 = 1 << 31;
const HARDWARE_EXCEPTION: u64 = 3 << 8;
const HAS_CODE: u64 = 1 << 11;
const INFO_EXCEPTION: u64 = VALID | HARDWARE_EXCEPTION;
const INFO_EXCEPTION_CODE: u64 = VALID | HARDWARE_EXCEPTION | HAS_CODE;

impl Resume {
    /// Go on behind the instruction, nothing else.
    #[must_use]
    pub const fn advance(vm: u16, vcpu: u16) -> Self {
        Self { vcpu, vm, flags: ResumeFlags::ADVANCE, write: StateMask::empty(), event: None }
    }

    /// The message as register words.
    #[must_use]
    #[inline]
    pub const fn to_words(&self) -> Words {
        let head = self.vcpu as u64
            | (self.vm as u64) << 16
            | (self.flags.bits() as u64) << 32
            | (self.write.bits() as u64) << 40;
        let event = match self.event {
            Some(event) => event.to_word(),
            None => 0,
        };
        [head, event, 0, 0, 0, 0]
    }

    /// The message that the words spell.
    ///
    /// # Errors
    /// [`Unknown`] for a flag, a state bit or an event that this version does not have.
    #[inline]
    pub const fn from_words(words: &Words) -> Result<Self, Unknown> {
        let head = words[0];
        let Some(flags) = ResumeFlags::from_bits(bits(head, 32, 8) as u8) else { return Err(Unknown) };
        let Some(write) = StateMask::from_bits(bits(head, 40, 24) as u32) else { return Err(Unknown) };
        match Event::from_word(words[1]) {
            Ok(event) => Ok(Self { vcpu: head as u16, vm: (head >> 16) as u16, flags, write, event }),
            Err(unknown) => Err(unknown),
        }
    }
}
