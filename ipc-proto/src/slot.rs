//! Slot: a VM's server tells its pager which guest-physical ranges are memory. Postcard, by `Send`.

use crate::grant::{Gfn, Gpa};
use crate::lifecycle::Hello;
use crate::refused::Refused;
use crate::text::Text;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// The number of a slot, chosen by the VM's server; unique in its address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotId(pub u16);

/// Which of a vCPU's two views of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Space {
    /// Outside system-management mode.
    #[default]
    Normal,
    /// In system-management mode.
    Smm,
}

bitflags! {
    /// How a slot behaves; names as in KVM.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct SlotFlags: u32 {
        /// Guest writes become MMIO.
        const READONLY = 1;
        /// Guest writes are recorded.
        const LOG_DIRTY_PAGES = 2;
        /// Seen only by the VM's normal address space itself.
        const PRIVATE = 4;
    }
}

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// Its address space.
    pub space: Space,
    /// Its first frame.
    pub base: Gfn,
    /// Its length in 4 KiB frames.
    pub pages: u64,
    /// How it behaves.
    pub flags: SlotFlags,
}

/// What a VM's server asks of its pager.
///
/// Who asks: the task that serves the VM, on the handle [`crate::layout::handle::pager`]. Each request is answered by
/// one [`SlotReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotRequest {
    /// Before anything else. Answered by `Hello`, or by `Refused(Version)`.
    Hello(Hello),
    /// A new slot. When it is accepted, faults in it are answered with its memory.
    Create(Slot),
    /// The slot is gone and nothing of it is mapped any more.
    Delete(Space, SlotId),
    /// The slot keeps its memory and lies at another place.
    Move(Space, SlotId, Gfn),
    /// The slot behaves in another way from now on.
    SetFlags(Space, SlotId, SlotFlags),
    /// The pager reports its figures of the VM for the summary. A server asks before it ends the system.
    Stats,
    /// Which pages of a `LOG_DIRTY_PAGES` slot were written since they were last asked for; from then on they count as
    /// clean, and the next write to each is recorded again. The last number is an offset in pages: the answer is
    /// [`SlotReply::Dirty`] with the first dirty pages from there on, or `Done` when there are none.
    DirtyLog(Space, SlotId, u64),
    /// From now on the guest's writes to the page become MMIO, or are its own again (KVM's page track). The page must
    /// have a slot.
    Track(Space, Gfn, Tracking),
    /// The pager prints what it knows of an address: slot, page, ledger, sequence number, its last answers.
    Why(Gpa),
    /// The guest has written a memory-type range register of that number (SDM vol. 3A, 12.11). Only memory of one type
    /// is mapped by one large page.
    MemoryType(u32, u64),
    /// One line, counted from 0, of what the pager has to say; the answer is [`SlotReply::Line`], or `Done` when there is
    /// no such line. Lines that are asked for one after another belong together.
    Tell(Topic, u16),
    /// From now on another policy answers this pager's faults: its name, and then options `KEY=VALUE`, with spaces
    /// between them.
    Policy(Text),
    /// Which pages of the slot that have memory were used by nobody since they were last asked for. Asking begins anew. The
    /// last number is an offset in pages: the answer is [`SlotReply::Idle`] with the first idle pages from there on, or
    /// `Done` when there are none.
    Idle(Space, SlotId, u64),
    /// So many pages from a gfn on are mapped, as if the guest had read them: nobody need fault for them
    /// (`KVM_PRE_FAULT_MEMORY`). `Done` when all are; [`SlotReply::Left`] when the first ones are, because it takes long, or
    /// because the next one has no slot or no frame: whoever asks for those again is told which.
    Prefault(Gfn, u64),
    /// The pager shall make way for another one. At 0 it makes the kernel's ledger tell everything that the next one must know:
    /// every page that has content is mapped, with a frame of its own. From then on, until it is stopped, it changes nothing;
    /// any other request ends that. Each number is answered by [`SlotReply::Slot`] with one slot of the VM's, or by `Done` when
    /// there are no more.
    HandOver(u16),
    /// To a pager that has found what another one has handed over: it has been told of every slot, and answers faults from now
    /// on. To any other pager it is nothing.
    TakeOver,
}

/// What a pager can tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topic {
    /// An address, as [`SlotRequest::Why`] prints it.
    Why(Gpa),
    /// The figures, as [`SlotRequest::Stats`] prints them: `key value`.
    Stats,
    /// The policy in line 0, and then the others that could be chosen.
    Policy,
    /// The slots: one a line.
    Slots,
}

/// Whether writes to a page are the guest's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tracking {
    /// They are.
    Off,
    /// They become MMIO.
    On,
}

/// Pages of a slot that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyPages {
    /// The offset in the slot, in pages, for which bit 0 of word 0 stands; a multiple of 64. Every page before it, from
    /// the offset that was asked for on, is clean. The next question is for `first + DirtyPages::PAGES`.
    pub first: u64,
    /// Bit `n` of word `m` stands for page `first + 64 * m + n`.
    pub bits: [u64; 16],
}

impl DirtyPages {
    /// How many pages one answer speaks of.
    pub const PAGES: u64 = 16 * 64;
}

/// Pages of a slot that were not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdlePages {
    /// The offset in the slot, in pages, for which bit 0 of word 0 stands. Every page before it, from the offset that was
    /// asked for on, was used or has no memory. The next question is for `first + IdlePages::PAGES`.
    pub first: u64,
    /// Bit `n` of word `m` stands for page `first + 64 * m + n`.
    pub bits: [u64; 16],
}

impl IdlePages {
    /// How many pages one answer speaks of.
    pub const PAGES: u64 = 16 * 64;
}

/// What a pager answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotReply {
    /// The answer to `Hello`.
    Hello(Hello),
    /// Done.
    Done,
    /// Not done; nothing has changed.
    Refused(SlotRefused),
    /// The answer to `DirtyLog` when a page was written.
    Dirty(DirtyPages),
    /// The answer to `Tell` when there is such a line.
    Line(Text),
    /// The answer to `Idle` when a page is.
    Idle(IdlePages),
    /// The answer to `Prefault` when so many pages, the last ones, are not mapped.
    Left(u64),
    /// The answer to `HandOver` when there is such a slot.
    Slot(Slot),
}

/// Why a pager refuses a slot request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotRefused {
    /// The bytes are no request, or a variant that this version does not have.
    Malformed,
    /// Another major version of the protocol.
    Version,
    /// `Hello` has not been said.
    NoHello,
    /// No pages, or more than the guest-physical width.
    BadSize,
    /// It would end beyond the guest-physical width.
    BeyondGuest,
    /// It would share frames with the slot of this number.
    Overlap(SlotId),
    /// A slot of this number exists.
    Exists,
    /// No slot of this number exists.
    NoSuchSlot,
    /// The table of slots is full.
    TooMany,
    /// A flag that this pager does not have.
    UnknownFlag,
    /// Its pages do not fit into the frames that the pager has.
    OutOfMemory,
    /// The kernel refused what the request needs.
    Kernel(Refused),
    /// The slot does not log dirty pages.
    NotLogged,
    /// No such register.
    UnknownRegister,
    /// No policy of this name.
    UnknownPolicy,
    /// The policy has no such option, or the option no such value.
    BadOption,
    /// The pager cannot hand over: it was not asked for the first slot before, or it has other VMs; or it was not handed what
    /// is mapped.
    NoHandOver,
}
