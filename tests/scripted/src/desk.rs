//! The pager's desk: what was received last, how it is answered, and whether it was what the protocol promises.

use crate::order::{self, Words8};
use core::fmt::{Debug, Write as _};
use heapless::String;
use ipc_proto::call::{Call, notice};
use ipc_proto::exit::{Exit, ExitMessage};
use ipc_proto::fault::{Fault, FaultReply, TopUp};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::memop::{Harvest, MemOp};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::words::Words;
use rt::{Answer, Received, Task};

/// What came instead, as far as there is room for it.
pub type Instead = String<112>;
/// Whether a case holds.
pub type Held = Result<(), Instead>;
/// The name of a case.
type Name = String<64>;

/// The guest frame that cases touch: the first of its 2 MiB.
pub const PAGE: u64 = 0x400;
/// Where cases may leave something mapped, from a 2 MiB boundary to another.
const TOUCHED: (u64, u64) = (0x200, 0x3e00);
/// So long is waited for what shall come, in ticks: then a notice comes instead, and the case has failed.
const PATIENCE: u64 = 200_000_000;

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads four bytes.
    Read,
    /// Writes four bytes.
    Write(u32),
    /// Executes.
    Fetch,
}

/// What an operation of the script comes back with.
pub type Done = Result<Words, Refused>;

/// The state of the script.
pub struct Desk {
    now: Received,
    raw: Answer,
    /// The first frame that is free for cases: a multiple of 512, and 1024 follow it.
    pub free: u64,
    /// The first frame of the task.
    pub first: u64,
    /// Frames of the task; what follows them was donated at the start.
    pub frames: u64,
    /// A frame of the server's.
    pub servers: u64,
    /// Frames in the guest's address space.
    pub guest_frames: u64,
    /// Frames that are given away, from here on.
    gifts: u64,
    /// For how many ticks it may be busy.
    pub deadline: u64,
    cases: u64,
    failed: u64,
    /// The one case that is wanted; every one without it.
    only: Option<Name>,
}

impl Desk {
    /// Maps the guest's code, and waits for the server.
    pub fn open(task: &Task) -> Self {
        let first = task.info.first_pfn;
        let free = (first + 1).next_multiple_of(512);
        let mut desk = Self {
            now: Received::Notice(0, 0),
            raw: Answer { status: 0, words: [0; 6] },
            free,
            first,
            frames: task.info.frames,
            servers: 0,
            guest_frames: 1 << (task.info.guest_physical_bits - 12),
            gifts: free + 1024,
            deadline: order::DEADLINE_MS * (task.info.tsc_hz / 1000),
            cases: 0,
            failed: 0,
            only: task.entry().option("only").and_then(|only| Name::try_from(only).ok()),
        };
        let code = rt::frame(first);
        code.clear();
        order::WORDS.iter().for_each(|(at, word)| code.set_word(*at, *word));
        let claim = ClaimedGrant { gfn: order::CODE >> 12, pfn: first, ..desk.claim() };
        desk.case("start::an_answer_to_nothing_is_refused", |_| {
            same(rt::reply_words([0; 6]).status, Refused::NotAsked as u64)
        });
        if let Err(refused) = desk.map(0, claim) {
            log::error!("the guest's code was not mapped: {refused}");
        }
        desk.receive();
        desk.servers = order::read()[1];
        desk
    }

    /// Tries one case, if it is wanted, and says what came of it.
    pub fn case(&mut self, name: &str, case: impl FnOnce(&mut Self) -> Held) {
        if let Some(only) = &self.only {
            if only != name {
                return;
            }
            begins(format_args!("{name}"));
        }
        self.step(name, case);
    }

    /// Tries a case that stands on those before it: all of them, whichever is wanted.
    pub fn step(&mut self, name: &str, case: impl FnOnce(&mut Self) -> Held) {
        self.cases += 1;
        rt::timer(rt::tsc() + PATIENCE);
        match case(self) {
            Ok(()) => log::info!("case {name} ok"),
            Err(instead) => {
                self.failed += 1;
                log::info!("case {name} failed: {instead}");
            }
        }
        if self.servers != 0 {
            self.settle();
        }
    }

    /// Says how many cases there were.
    pub fn close(&self) {
        rt::stat(format_args!("cases"), self.cases);
        rt::stat(format_args!("failed"), self.failed);
    }

    /// Lets the server end the system.
    pub fn end(&mut self) -> ! {
        self.order([order::END, 0, 0, 0, 0, 0, 0, 0]);
        panic!("the server does not end the system: {:?}", self.now);
    }

    /// Brings the server back to its call, and takes what was mapped.
    pub fn settle(&mut self) {
        rt::timer(0);
        loop {
            match self.now {
                Received::Call { .. } => break,
                Received::Fault(_) | Received::RefusedReply(..) => self.answer(&FaultReply::Deny(DenyReason::Internal)),
                _ => {
                    self.receive();
                }
            }
        }
        for vm in [0, 1] {
            let (from, to) = TOUCHED;
            if let Err(refused) = rt::mem_op(vm, MemOp::Unmap, [from, to - from, 0, 0]) {
                log::error!("VM {vm} was not emptied: {refused}");
            }
        }
    }

    fn order(&mut self, words: Words8) {
        order::write(words);
        rt::timer(rt::tsc() + PATIENCE);
        self.take(rt::reply_words([order::BYTES as u64, 0, 0, 0, 0, 0]));
    }

    fn take(&mut self, answer: Answer) {
        (self.raw, self.now) = (answer, answer.received());
    }

    /// Lets the guest touch `gpa`.
    pub fn touch(&mut self, gpa: u64, access: Access) {
        self.touch_with_event(gpa, access, 0);
    }

    /// Lets the guest touch `gpa`, after an event: word 1 of a resume.
    pub fn touch_with_event(&mut self, gpa: u64, access: Access, event: u64) {
        let (rip, value) = match access {
            Access::Read => (order::CODE_READ, 0),
            Access::Write(value) => (order::CODE_WRITE, value),
            Access::Fetch => (order::CODE_FETCH, 0),
        };
        self.order([order::TOUCH, rip, gpa, u64::from(value), event, 0, 0, 0]);
    }

    /// Lets the guest write to `pages` pages from `gpa` on.
    pub fn sweep(&mut self, gpa: u64, pages: u64) {
        self.order([order::TOUCH, order::CODE_SWEEP, gpa, pages, 0, 0, 0, 0]);
    }

    /// Hides nothing at all, after which the kernel looks at every fault more closely.
    pub fn go_the_long_way(&self) {
        if let Err(refused) = self.op(MemOp::Harvest, PAGE, 1, Harvest::Hide as u64) {
            log::error!("nothing was not hidden: {refused}");
        }
    }

    /// The fault that was received.
    pub fn fault(&self) -> Result<Fault, Instead> {
        match self.now {
            Received::Fault(fault) => Ok(fault),
            _ => Err(self.instead("a fault")),
        }
    }

    /// The refusal that was received, with the fault made anew.
    pub fn refusal(&self) -> Result<(Fault, Refused), Instead> {
        match self.now {
            Received::RefusedReply(fault, refused) => Ok((fault, refused)),
            _ => Err(self.instead("a refused reply")),
        }
    }

    /// The exit that the server reports, and EAX.
    pub fn exit(&self) -> Result<(Exit, u64), Instead> {
        let report = self.report(order::EXIT)?;
        let words = [report[1], report[2], report[3], 0, 0, 0];
        match ExitMessage::from_words(&words) {
            Ok(message) => Ok((message.exit, report[4])),
            Err(_) => Err(self.instead("an exit")),
        }
    }

    /// What a system call or a window access of the server's came back with.
    pub fn called(&self) -> Result<(u64, Words), Instead> {
        let [_, status, words @ ..] = self.report(order::CALLED)?;
        Ok((status, words))
    }

    fn report(&self, kind: u64) -> Result<Words8, Instead> {
        match self.now {
            Received::Call { vm: 0, len: order::BYTES } if order::read()[0] == kind => Ok(order::read()),
            _ => Err(self.instead("a report")),
        }
    }

    fn instead(&self, wanted: &str) -> Instead {
        let mut text = Instead::new();
        let _ = match self.now {
            Received::Call { .. } => write!(text, "instead of {wanted}: report {:x?}", &order::read()[..5]),
            other => write!(text, "instead of {wanted}: {other:x?}"),
        };
        text
    }

    /// Answers what was received, without table frames.
    pub fn answer(&mut self, reply: &FaultReply) {
        self.answer_words(reply.to_words(TopUp::default()));
    }

    /// Answers what was received.
    pub fn answer_words(&mut self, words: Words) {
        self.take(rt::reply_words(words));
    }

    /// Answers by a grant that may be none.
    pub fn answer_claim(&mut self, claim: ClaimedGrant, more: u64, top_up: TopUp) {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        self.answer_words([shape | more << 24 | 1 << 56, gfn, pfn, mmu_seq, top_up.to_word(), 0]);
    }

    /// Answers by what the guest or the server must wait on with: a notice of the timer comes `ticks` later.
    pub fn answer_and_wait(&mut self, reply: &FaultReply, ticks: u64) -> Held {
        rt::timer(rt::tsc() + ticks);
        self.answer(reply);
        self.timer_came()
    }

    /// Receives nothing for so many ticks but the timer's notice.
    pub fn wait(&mut self, ticks: u64) -> Held {
        rt::timer(rt::tsc() + ticks);
        self.receive();
        self.timer_came()
    }

    fn timer_came(&self) -> Held {
        match self.now {
            Received::Notice(notice::TIMER, _) => {
                rt::timer(rt::tsc() + PATIENCE);
                Ok(())
            }
            _ => Err(self.instead("the timer")),
        }
    }

    /// Receives without an answer, as after a notice.
    pub fn receive(&mut self) -> Received {
        self.take(rt::receive_words());
        self.now
    }

    /// The words of what was received last.
    pub const fn words(&self) -> Words {
        self.raw.words
    }

    /// What was received last.
    pub fn received(&self) -> Received {
        self.now
    }

    /// Lets the server make a system call.
    pub fn let_call(&mut self, number: u64, words: Words) {
        let [w0, w1, w2, w3, w4, w5] = words;
        self.order([order::CALL, number, w0, w1, w2, w3, w4, w5]);
    }

    /// Lets the server touch its window.
    pub fn let_window(&mut self, gpa: u64, access: Access) {
        match access {
            Access::Read => self.order([order::READ, gpa, 0, 0, 0, 0, 0, 0]),
            Access::Fetch => self.order([order::EXECUTE, gpa, 0, 0, 0, 0, 0, 0]),
            Access::Write(value) => self.order([order::WRITE, gpa, u64::from(value), 0, 0, 0, 0, 0]),
        }
    }

    /// A good grant of the page that cases touch.
    pub fn claim(&self) -> ClaimedGrant {
        Grant {
            gfn: Gfn(PAGE),
            pfn: Pfn(self.free),
            count: 1,
            level: Level::Page,
            rights: Rights::all(),
            mem_type: MemType::WriteBack,
            mmu_seq: self.info(0)[0],
            seen_by: SeenBy::Everyone,
        }
        .claim()
    }

    /// Maps unasked.
    pub fn map(&self, vm: usize, claim: ClaimedGrant) -> Done {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        rt::mem_op(vm, MemOp::Map, [shape, gfn, pfn, mmu_seq])
    }

    /// Words 0 to 3 of `Info`: sequence number, table frames, frames mapped, abilities.
    pub fn info(&self, vm: usize) -> [u64; 5] {
        rt::mem_op(vm, MemOp::Info, [0; 4]).map_or([0; 5], |[w0, w1, w2, w3, w4, _]| [w0, w1, w2, w3, w4])
    }

    /// An operation on VM 0.
    pub fn op(&self, op: MemOp, w2: u64, w3: u64, w4: u64) -> Done {
        rt::mem_op(0, op, [w2, w3, w4, 0])
    }

    /// So many frames that are given away.
    pub fn gift(&mut self, count: u64) -> u64 {
        self.gifts += count;
        self.gifts - count
    }

    /// Any system call of this task's.
    pub fn call(&self, number: u64, words: Words) -> Answer {
        rt::system_call(number, words)
    }

    /// Any `MemOp` on the object `handle`.
    pub fn raw_op(&self, handle: u64, op: u64, w2: u64, w3: u64, w4: u64) -> u64 {
        rt::system_call(Call::MemOp as u64, [handle, op, w2, w3, w4, 0]).status
    }
}

/// Says that `case` is tried: of a system that does not come to its end, that is all that is known.
pub fn begins(case: core::fmt::Arguments<'_>) {
    log::info!("case {case} begins");
}

/// The shape of a claim with other bits `low..low + width`.
pub const fn with(claim: ClaimedGrant, low: u64, width: u64, value: u64) -> ClaimedGrant {
    let mask = ((1 << width) - 1) << low;
    ClaimedGrant { shape: claim.shape & !mask | value << low, ..claim }
}

/// Whether that came which was promised.
#[track_caller]
pub fn same<T: PartialEq + Debug>(got: T, wanted: T) -> Held {
    if got == wanted {
        return Ok(());
    }
    let mut text = Instead::new();
    let place = core::panic::Location::caller();
    let _ = write!(text, "line {}: {got:x?}, not {wanted:x?}", place.line());
    Err(text)
}
