//! A thread: the one of a task, bound to this core.

use crate::arch::door::TrapFrame;
use crate::core::Context;
use crate::set::Contexts;
use crate::task::Task;
use ipc_proto::call::{Cause, End};
use ipc_proto::grant::Gpa;
use ipc_proto::layout::STACK_TOP;
use ipc_proto::words::Words;

/// What a thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is run from its trap frame.
    Frame,
    /// It is run from its system call, which comes back with its `answer`.
    Answered,
    /// It waits for a message.
    Receiving,
    /// It waits for an answer.
    Asking(Question),
    /// It has ended.
    Stopped,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The answer to its call of a portal: with so many bytes, as the server of that VM.
    Call {
        /// Who shall answer.
        to: u8,
        /// Bytes of its message page.
        len: u16,
        /// Its badge.
        vm: u8,
    },
    /// A page in its window on that VM.
    Window {
        /// Which VM.
        vm: u8,
        /// The address.
        gpa: Gpa,
        /// What it tried, as in an exit qualification.
        access: u32,
    },
}

/// A thread.
pub struct Thread {
    /// What it does next.
    pub state: State,
    /// Its task.
    pub task: &'static Task,
    /// Where its last system call came from.
    pub rip: u64,
    /// Its stack pointer at its last system call.
    pub rsp: u64,
    /// Its registers where a trap interrupted it.
    pub frame: TrapFrame,
    /// What its system call comes back with: rax and the message registers.
    pub answer: (u64, Words),
    /// Whose message it received last and has not answered; `Idle` for nobody's.
    pub serving: Context,
    /// Replies that were refused since the last that was not.
    pub refused: u8,
    /// Who waits to ask it.
    pub askers: Contexts,
    /// Notifications that it has not received.
    pub notices: u64,
    /// How many messages it has received; what its own calls come back with is none.
    pub messages: u64,
    /// When it wants a notification of the timer.
    pub deadline: Option<u64>,
    /// How the system shall end, if it has said so.
    pub end: Option<End>,
    /// Of the task: how it has fared.
    pub life: Life,
}

/// How a task has fared, over all of its incarnations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// Why it has stopped last, and the detail.
    pub cause: (Cause, u64),
    /// How often it was started again.
    pub incarnation: u32,
    /// The image that it was started with.
    pub image: u8,
    /// What the next incarnation is told.
    pub kept: u64,
    /// Since when it has been seen to be busy with one, and how many messages it had received then.
    pub busy: Option<(u64, u64)>,
}

impl Thread {
    /// A thread that begins its task's image, the one that `life` names.
    #[must_use]
    pub fn new(task: &'static Task, life: Life) -> Self {
        Self {
            state: State::Frame,
            task,
            rip: 0,
            rsp: 0,
            frame: TrapFrame::start(task.images[usize::from(life.image)].entry, STACK_TOP),
            answer: (0, [0; 6]),
            serving: Context::Idle,
            refused: 0,
            askers: Contexts::default(),
            notices: 0,
            messages: 0,
            deadline: None,
            end: None,
            life,
        }
    }

    /// Whether something is there for it to receive.
    #[inline(always)]
    #[must_use]
    pub const fn has_mail(&self) -> bool {
        self.notices | self.askers.members() != 0
    }
}
