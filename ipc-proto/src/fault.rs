//! Fault and FaultReply: the kernel asks the VM's pager, the pager answers. Hot: register words.

use crate::grant::{ClaimedGrant, Gpa, Grant};
use crate::refused::{DenyReason, Unknown};
use crate::words::{Words, bits};
use bitflags::bitflags;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A guest access that no EPT entry allows, waiting for the pager's answer.
///
/// Who asks: the kernel, of the thread that serves the VM's pager portal. The vCPU (or the thread whose window
/// access it is) stays parked until the reply. Nothing is refused: the pager must answer, see [`FaultReply`].
///
/// | word | bits | what |
/// | --- | --- | --- |
/// | 0 | 15:0 | badge: the vCPU's number in its VM |
/// | 0 | 31:16 | the VM's place in the manifest |
/// | 0 | 47:32 | table frames left in the VM's pool, 65535 for more |
/// | 0 | 55:48 | [`Origin`] |
/// | 0 | 63:56 | [`FaultKind`] |
/// | 1 | | guest-physical address, 0 for `LogFull` |
/// | 2 | 31:0 | [`Qualification`] |
/// | 2 | 63:32 | IDT-vectoring information (SDM vol. 3C, 25.9.3), 0 when no event was being delivered |
/// | 3 | | the VM's `mmu_seq` |
/// | 4 | | the guest's RIP, 0 for a window |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The vCPU's number in its VM.
    pub vcpu: u16,
    /// The VM's place in the manifest.
    pub vm: u16,
    /// Table frames left in the VM's pool; 65535 means that or more.
    pub tables_left: u16,
    /// Whose access it was.
    pub origin: Origin,
    /// What the hardware reported.
    pub kind: FaultKind,
    /// The guest-physical address.
    pub gpa: Gpa,
    /// What was tried and what was allowed.
    pub qualification: Qualification,
    /// IDT-vectoring information: the event that was being delivered, which the kernel delivers again by itself.
    pub idt_vectoring: u32,
    /// The VM's invalidation sequence number, sampled when the message was made.
    pub mmu_seq: u64,
    /// The guest's instruction that made the access; 0 for a window. Nothing is decided by it: it is there to be told.
    pub rip: u64,
}

/// Whose access faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Origin {
    /// The guest's, on a vCPU.
    Vcpu = 0,
    /// The VM's server's, through its window.
    Window = 1,
}

/// What the hardware reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum FaultKind {
    /// An EPT violation: the entries do not allow the access (exit reason 48).
    Violation = 0,
    /// An EPT misconfiguration: an entry that no mapping has (exit reason 49).
    Misconfiguration = 1,
    /// No access at all: the CPU's log of written pages is full (exit reason 62). The pager takes it with
    /// [`crate::memop::Harvest::Log`] and answers `Retry`.
    LogFull = 2,
}

impl FaultKind {
    const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Violation),
            1 => Some(Self::Misconfiguration),
            2 => Some(Self::LogFull),
            _ => None,
        }
    }
}

bitflags! {
    /// Exit qualification of an EPT violation, bit for bit (SDM vol. 3C, table 28-7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Qualification: u32 {
        /// A data read was tried.
        const READ = 1 << 0;
        /// A data write was tried; with A/D bits on, also set for the processor's walk of guest page tables.
        const WRITE = 1 << 1;
        /// An instruction fetch was tried.
        const FETCH = 1 << 2;
        /// The entries allowed reads.
        const READABLE = 1 << 3;
        /// The entries allowed writes.
        const WRITABLE = 1 << 4;
        /// The entries allowed fetches.
        const EXECUTABLE = 1 << 5;
        /// The guest linear address is valid.
        const GVA_VALID = 1 << 7;
        /// The access was to the translation of that address, not to a paging structure. Only with `GVA_VALID`.
        const GVA_TRANSLATED = 1 << 8;
        /// The exit interrupted an IRET that unblocks NMIs.
        const NMI_UNBLOCKED = 1 << 12;
        const _ = !0;
    }
}

impl fmt::Display for Qualification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

impl Fault {
    /// Whether the access was made to deliver an event: no instruction made it, and nobody can emulate one that did.
    #[must_use]
    pub const fn delivers_event(&self) -> bool {
        self.idt_vectoring >> 31 != 0
    }

    /// The message as register words.
    #[must_use]
    #[inline]
    pub const fn to_words(&self) -> Words {
        let head = self.vcpu as u64
            | (self.vm as u64) << 16
            | (self.tables_left as u64) << 32
            | (self.origin as u64) << 48
            | (self.kind as u64) << 56;
        let cause = self.qualification.bits() as u64 | (self.idt_vectoring as u64) << 32;
        [head, self.gpa.0, cause, self.mmu_seq, self.rip, 0]
    }

    /// The message that the words spell.
    ///
    /// # Errors
    /// [`Unknown`] for an origin or a kind that this version does not have.
    #[inline]
    pub const fn from_words(words: &Words) -> Result<Self, Unknown> {
        let head = words[0];
        if head & 0xfe << 48 != 0 {
            return Err(Unknown);
        }
        let origin = if bits(head, 48, 1) == 0 { Origin::Vcpu } else { Origin::Window };
        let Some(kind) = FaultKind::from_number(bits(head, 56, 8)) else { return Err(Unknown) };
        Ok(Self {
            vcpu: head as u16,
            vm: (head >> 16) as u16,
            tables_left: (head >> 32) as u16,
            origin,
            kind,
            gpa: Gpa(words[1]),
            qualification: Qualification::from_bits_retain(words[2] as u32),
            idt_vectoring: (words[2] >> 32) as u32,
            mmu_seq: words[3],
            rip: words[4],
        })
    }
}

/// The pager's answer to a [`Fault`].
///
/// Who asks: the pager, of the kernel, for the fault it received last. When it is accepted the vCPU goes on as the
/// variant says. A reply that is refused leaves the fault asked: the pager receives it again with the refusal. Table
/// frames that came with it are taken first and stay taken.
///
/// | word | bits | what |
/// | --- | --- | --- |
/// | 0 | 18:0 | the grant's shape ([`ClaimedGrant`]), zero but for `Map` |
/// | 0 | 31:24 | `Map`: how many further grants are in the message page |
/// | 0 | 39:32 | `Deny`: [`DenyReason`] |
/// | 0 | 59:56 | which variant: 1 Map, 2 Mmio, 3 Retry, 4 Pending, 5 Deny |
/// | 1 | | `Map`: gfn; `Mmio`: generation; `Pending`: token |
/// | 2 | | `Map`: pfn |
/// | 3 | | `Map`: mmu_seq |
/// | 4 | 51:0, 63:52 | table frames donated with the reply: first pfn, and how many (0: none) |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultReply {
    /// Map this run, and then so many further grants from the message page; enter the guest again.
    Map(Grant, u8),
    /// Nothing is mapped there and nothing shall be: the VM's server emulates the access. With a generation, not 0 and
    /// below 2^40, of [`crate::memop::MemOp::Generation`] the kernel may remember it for the page: further accesses go to
    /// the server without a message to the pager, as long as the VM's generation is that one.
    Mmio(u64),
    /// Enter the guest again; it will fault again if the access is still not allowed.
    Retry,
    /// The page is on its way. The vCPU stays parked until the pager says `Ready` with this token.
    Pending(u64),
    /// The access is forbidden: the VM's server is told and decides.
    Deny(DenyReason),
}

/// Table frames that travel with a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUp {
    /// The first frame.
    pub first: u64,
    /// How many, at most [`TopUp::MOST`]; 0 for none.
    pub count: u16,
}

impl TopUp {
    /// The most frames that one reply can bring.
    pub const MOST: u16 = 4095;

    /// As word 4 of a reply.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.first & ((1 << 52) - 1) | (self.count as u64) << 52
    }

    /// From word 4 of a reply.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self { first: word & ((1 << 52) - 1), count: (word >> 52) as u16 }
    }
}

/// A reply before its grant has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimedReply {
    /// See [`FaultReply::Map`].
    Map(ClaimedGrant, u8),
    /// See [`FaultReply::Mmio`].
    Mmio(u64),
    /// See [`FaultReply::Retry`].
    Retry,
    /// See [`FaultReply::Pending`].
    Pending(u64),
    /// See [`FaultReply::Deny`].
    Deny(DenyReason),
}

const MAP: u64 = 1;
const MMIO: u64 = 2;
const RETRY: u64 = 3;
const PENDING: u64 = 4;
const DENY: u64 = 5;
/// The bits of word 0 that a `Map` may use beside its variant.
const MAP_FIELDS: u64 = 0xff00_0000 | 0x7_ffff;

impl FaultReply {
    /// The message as register words.
    #[must_use]
    #[inline(always)]
    pub const fn to_words(&self, top_up: TopUp) -> Words {
        let donated = top_up.to_word();
        match self {
            Self::Map(grant, more) => {
                let claim = grant.claim();
                let head = claim.shape | (*more as u64) << 24 | MAP << 56;
                [head, claim.gfn, claim.pfn, claim.mmu_seq, donated, 0]
            }
            Self::Mmio(generation) => [MMIO << 56, *generation, 0, 0, donated, 0],
            Self::Retry => [RETRY << 56, 0, 0, 0, donated, 0],
            Self::Pending(token) => [PENDING << 56, *token, 0, 0, donated, 0],
            Self::Deny(reason) => [DENY << 56 | (*reason as u64) << 32, 0, 0, 0, donated, 0],
        }
    }
}

impl ClaimedReply {
    /// The reply that the words spell.
    ///
    /// # Errors
    /// [`Unknown`] for a variant or a reason that this version does not have, and for bits that must be zero.
    #[inline]
    pub const fn from_words(words: &Words) -> Result<Self, Unknown> {
        let head = words[0];
        if head & !MAP_FIELDS == MAP << 56 {
            let [_, gfn, pfn, mmu_seq, ..] = *words;
            let claim = ClaimedGrant { shape: bits(head, 0, 19), gfn, pfn, mmu_seq };
            return Ok(Self::Map(claim, bits(head, 24, 8) as u8));
        }
        let reason = bits(head, 32, 8);
        match head & !(0xff << 32) {
            head if head == MMIO << 56 && reason == 0 => Ok(Self::Mmio(words[1])),
            head if head == RETRY << 56 && reason == 0 => Ok(Self::Retry),
            head if head == PENDING << 56 && reason == 0 => Ok(Self::Pending(words[1])),
            head if head == DENY << 56 => match DenyReason::from_number(reason) {
                Some(reason) => Ok(Self::Deny(reason)),
                None => Err(Unknown),
            },
            _ => Err(Unknown),
        }
    }
}
