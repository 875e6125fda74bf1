//! System calls: a number in rax, words in rdi, rsi, r8, r9, r10, r11.
//!
//! A server enters by SYSENTER with its return address in rdx and its stack pointer in rcx, and comes back by
//! SYSEXIT to both. Only these two survive: every other register is given up. rax comes back as a status: 0, the
//! number of a [`crate::refused::Refused`], or for `ReplyReceive` a [`Received`].

/// The system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// Answer the message received last, if one is unanswered, and wait for the next.
    /// The words are the answer; to receive without answering, [`NO_REPLY`] is or-ed to the number.
    ReplyReceive = 0,
    /// Call a portal: word 0 is the handle, word 1 how many bytes of the message page travel. Waits for the answer:
    /// word 0 says how many bytes came back into the message page.
    Send = 1,
    /// An operation on a VM: word 0 is the handle, the rest as [`crate::memop`] says.
    MemOp = 2,
    /// Let a parked vCPU go on: word 0 is the handle, words 1 and 2 are those of [`crate::exit::Resume`].
    /// One that is not parked gets the window request of the resume, or is refused with `NotParked`.
    Run = 3,
    /// Ask for a notification [`notice::TIMER`] when the time-stamp counter reaches word 0; 0 cancels.
    Timer = 4,
    /// Print word 1 bytes of the message page, from [`LINE_OFFSET`] on, as a log line of level word 0 (1 error to 5
    /// trace).
    Log = 5,
    /// End this supervisor's part of the system, and with the last supervisor's the system: word 0 is the handle of the
    /// machine, word 1 an [`End`].
    PowerOff = 6,
    /// Report one figure for the summary: word 1 bytes of the message page from [`LINE_OFFSET`] on, `key value`.
    Stat = 7,
    /// Look at another task, stop it, or start it again: word 0 is the handle of the machine, word 1 the task's place in
    /// the manifest, word 2 a [`Deed`], word 3 which image it starts with.
    Supervise = 8,
    /// Word 0 is told to the next incarnation of this task as [`crate::layout::BootInfo::kept`].
    Keep = 9,
    /// This task is done: it stops, and word 0, an [`End`], says how.
    Finish = 10,
}

/// What [`Call::Supervise`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Deed {
    /// Nothing. Word 0 comes back as 1 when the task has stopped, else 0, word 1 as its last [`Cause`], word 2 as the
    /// cause's detail, word 3 as its incarnation, word 4 as the image it was started with.
    Look = 0,
    /// Stop it, with [`Cause::Killed`].
    Stop = 1,
    /// Start it from the pristine image word 3: 0 is the `image` of its manifest entry, 1 the first of its `spares`.
    Start = 2,
    /// Nothing to the task: compare every EPT with the frame table. Word 0 comes back as 1 when they agree, else 0.
    Prove = 3,
}

/// Why a task has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Cause {
    /// It has not.
    #[default]
    Nothing = 0,
    /// It did what its rights forbid; the detail is the instruction's address.
    Trap = 1,
    /// Too many of its replies in a row were refused; the detail is the last refusal's number.
    Refused = 2,
    /// It did not receive a message for longer than its manifest entry allows.
    Deadline = 3,
    /// A supervisor has stopped it.
    Killed = 4,
    /// It is done; the detail is the [`End`].
    Done = 5,
    /// Its window access was not granted; the detail is the guest-physical address.
    Window = 6,
}

impl Deed {
    /// The deed of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Look),
            1 => Some(Self::Stop),
            2 => Some(Self::Start),
            3 => Some(Self::Prove),
            _ => None,
        }
    }
}

impl Cause {
    /// The cause of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Nothing),
            1 => Some(Self::Trap),
            2 => Some(Self::Refused),
            3 => Some(Self::Deadline),
            4 => Some(Self::Killed),
            5 => Some(Self::Done),
            6 => Some(Self::Window),
            _ => None,
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "it has not stopped",
            Self::Trap => "it did what its rights forbid",
            Self::Refused => "too many of its replies were refused",
            Self::Deadline => "it missed its deadline",
            Self::Killed => "it was killed",
            Self::Done => "it is done",
            Self::Window => "its window access was not granted",
        }
    }
}

/// Or-ed to [`Call::ReplyReceive`]: receive without answering.
pub const NO_REPLY: u64 = 1 << 8;

/// Where in the message page a line to print begins; at most [`LINE`] bytes.
pub const LINE_OFFSET: usize = 4096 - LINE;
/// Longest line to print, in bytes.
pub const LINE: usize = 512;

impl Call {
    /// The call of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::ReplyReceive),
            1 => Some(Self::Send),
            2 => Some(Self::MemOp),
            3 => Some(Self::Run),
            4 => Some(Self::Timer),
            5 => Some(Self::Log),
            6 => Some(Self::PowerOff),
            7 => Some(Self::Stat),
            8 => Some(Self::Supervise),
            9 => Some(Self::Keep),
            10 => Some(Self::Finish),
            _ => None,
        }
    }
}

/// What `ReplyReceive` came back with, in rax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Received {
    /// A [`crate::fault::Fault`].
    Fault = 0,
    /// An [`crate::exit::Exit`].
    Exit = 1,
    /// A call: word 0 is the caller's badge (its VM), word 1 the length of what is in the message page.
    Call = 2,
    /// Notifications: word 0 has the bits of [`notice`] that were signalled.
    Notice = 3,
    /// The last reply was refused with word 5; words 0 to 3 are the fault again.
    RefusedReply = 4,
}

impl Received {
    /// The kind of that number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Fault),
            1 => Some(Self::Exit),
            2 => Some(Self::Call),
            3 => Some(Self::Notice),
            4 => Some(Self::RefusedReply),
            _ => None,
        }
    }
}

/// The bits of a notification word.
pub mod notice {
    /// The time asked for by `Timer` has come.
    pub const TIMER: u64 = 1;
    /// A task has stopped; for supervisors.
    pub const TASK_STOPPED: u64 = 2;
    /// The server of a VM that this task pages has stopped, and the VM with it: word 1 of the notice has a bit for each.
    pub const VM_ENDED: u64 = 4;
}

/// How a system ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum End {
    /// The guest powered off or rebooted: what a system is for.
    Done = 0,
    /// The guest failed: a triple fault, an impossible state, a forbidden access.
    GuestFailed = 1,
    /// A server stopped that the system needs.
    ServerFailed = 2,
    /// The kernel found something broken, or the machine lacks something.
    KernelFailed = 3,
}

impl End {
    /// What it means, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Done => "the guest ended as guests do",
            Self::GuestFailed => "the guest failed",
            Self::ServerFailed => "a server failed",
            Self::KernelFailed => "the kernel cannot go on",
        }
    }

    /// The end of that number; an unknown one is a failed server's.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::GuestFailed,
            3 => Self::KernelFailed,
            _ => Self::ServerFailed,
        }
    }
}
