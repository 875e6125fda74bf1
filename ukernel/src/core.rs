//! A core: one CPU's threads, vCPUs and timer, and which of them runs.

use crate::arch::apic::{self, Apic};
use crate::arch::core_local::Stack;
use crate::arch::cpu;
use crate::arch::door::TrapFrame;
use crate::arch::tables::Tables;
use crate::arch::vmx::guest::Entry;
use crate::fast::Message;
use crate::set::Contexts;
use crate::system::System;
use crate::thread::{State, Thread};
use crate::user::User;
use crate::vcpu::{Status, Vcpu};
use heapless::Vec;
use ipc_proto::manifest::{MAX_TASKS, MAX_VCPUS, MAX_VMS, PRIORITIES};
use ipc_proto::words::Words;

/// What a core can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nothing: it waits for an interrupt.
    Idle,
    /// A thread.
    Thread(u8),
    /// A vCPU.
    Vcpu(u8),
}

/// How the kernel is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Into a guest.
    Guest(u8),
    /// Into a thread, out of its system call, with its `answer`.
    Deliver(u8),
    /// Into a thread, to where a trap interrupted it.
    Resume(u8),
    /// To wait for an interrupt.
    Idle,
}

/// The priority of vCPUs: below every thread's.
pub const VCPU_PRIORITY: u8 = 0;

/// Who is ready, by priority.
#[derive(Default)]
pub struct Ready {
    sets: [Contexts; PRIORITIES],
    /// Bit `n` is set when set `n` is not empty.
    filled: u32,
    /// The highest priority of anyone in them.
    highest: u8,
}

/// What was granted beside vCPU faults, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrantCounts {
    /// Faults that were answered with a grant; none for what was granted unasked.
    pub faults: u64,
    /// Grants.
    pub grants: u64,
    /// 4 KiB pages that they mapped.
    pub pages: u64,
}

/// One CPU.
pub struct Core {
    /// What all cores share.
    pub system: &'static System,
    /// The threads, in the order of the tasks.
    pub threads: Vec<Thread, MAX_TASKS>,
    /// The vCPUs.
    pub vcpus: Vec<Vcpu, { MAX_VMS * MAX_VCPUS }>,
    /// Who runs.
    pub current: Context,
    /// Window faults that were answered.
    pub window_counts: GrantCounts,
    /// What was granted without a fault.
    pub unasked: GrantCounts,
    /// How often a message went to a server and an answer came back.
    pub round_trips: u64,
    /// Who else is ready.
    pub ready: Ready,
    /// Whose address space and ports the CPU has.
    pub user: User,
    /// The vCPU whose registers the CPU holds; `u8::MAX`, which is none, at first.
    pub resident: u8,
    /// Whether somebody is busy for too long.
    pub watch: Option<(u64, u64)>,
    apic: Apic,
    stack: Stack,
}

impl Ready {
    /// Whether someone is ready whose priority is higher than `priority`.
    #[inline(always)]
    #[must_use]
    pub const fn outranks(&self, priority: u8) -> bool {
        self.highest > priority
    }
}

impl Core {
    /// A core without threads and vCPUs.
    #[must_use]
    pub fn new(system: &'static System, tables: &'static mut Tables, apic: Apic, stack: Stack) -> Self {
        Self {
            system,
            threads: Vec::new(),
            vcpus: Vec::new(),
            current: Context::Idle,
            window_counts: GrantCounts::default(),
            unasked: GrantCounts::default(),
            round_trips: 0,
            ready: Ready::default(),
            user: User::new(tables),
            apic,
            stack,
            resident: u8::MAX,
            watch: None,
        }
    }

    fn priority(&self, context: Context) -> u8 {
        match context {
            Context::Thread(thread) => self.threads[usize::from(thread)].task.priority,
            Context::Vcpu(_) | Context::Idle => VCPU_PRIORITY,
        }
    }

    /// Notes that `context` is ready.
    pub fn make_ready(&mut self, context: Context) {
        let priority = self.priority(context);
        self.ready.sets[usize::from(priority)].insert(context);
        self.ready.filled |= 1 << priority;
        self.ready.highest = self.ready.highest.max(priority);
    }

    /// Runs `next`, or whoever is ready and outranks it.
    #[inline(always)]
    pub fn run(&mut self, next: Next) -> Next {
        let context = match next {
            Next::Guest(vcpu) => Context::Vcpu(vcpu),
            Next::Deliver(thread) | Next::Resume(thread) => Context::Thread(thread),
            Next::Idle => return self.pick(),
        };
        if self.ready.outranks(self.priority(context)) {
            self.defer(next);
            return self.pick();
        }
        self.current = context;
        next
    }

    /// Remembers `next` for later.
    pub fn defer(&mut self, next: Next) {
        match next {
            Next::Guest(vcpu) => self.make_ready(Context::Vcpu(vcpu)),
            Next::Deliver(thread) => {
                self.threads[usize::from(thread)].state = State::Answered;
                self.make_ready(Context::Thread(thread));
            }
            Next::Resume(thread) => {
                self.threads[usize::from(thread)].state = State::Frame;
                self.make_ready(Context::Thread(thread));
            }
            Next::Idle => {}
        }
    }

    /// Picks whoever is ready with the highest priority.
    pub fn pick(&mut self) -> Next {
        while self.ready.filled != 0 {
            let priority = self.ready.filled.ilog2() as usize;
            let ready = &mut self.ready.sets[priority];
            let context = ready.take();
            if ready.members() == 0 {
                self.ready.filled &= !(1 << priority);
                self.ready.highest = self.ready.filled.checked_ilog2().unwrap_or(0) as u8;
            }
            if let Some(next) = context.and_then(|context| self.next_of(context)) {
                self.current = context.unwrap_or(Context::Idle);
                return next;
            }
        }
        self.current = Context::Idle;
        Next::Idle
    }

    fn next_of(&mut self, context: Context) -> Option<Next> {
        match context {
            Context::Idle => None,
            Context::Vcpu(vcpu) => (self.vcpus[usize::from(vcpu)].status == Status::Ready).then_some(Next::Guest(vcpu)),
            Context::Thread(id) => {
                let thread = &mut self.threads[usize::from(id)];
                match thread.state {
                    State::Frame => Some(Next::Resume(id)),
                    State::Answered => {
                        thread.state = State::Frame;
                        Some(Next::Deliver(id))
                    }
                    State::Receiving => self.next_message(id),
                    State::Asking(_) | State::Stopped => None,
                }
            }
        }
    }

    /// Makes `vcpu` the one whose registers the CPU holds.
    #[inline(always)]
    pub fn load(&mut self, vcpu: u8) {
        if self.resident != vcpu {
            if let Some(before) = self.vcpus.get_mut(usize::from(self.resident)) {
                before.cpu.unload();
            }
            self.vcpus[usize::from(vcpu)].cpu.load();
            self.resident = vcpu;
        }
    }

    /// Before a guest is entered.
    pub fn prepare_guest(&mut self, vcpu: u8) -> Entry {
        self.load(vcpu);
        let vcpu = &mut self.vcpus[usize::from(vcpu)];
        if vcpu.left_at != 0 {
            vcpu.fault_ends(cpu::tsc());
        }
        vcpu.cpu.about_to_enter()
    }

    /// What the system call of `thread` comes back with.
    #[inline(always)]
    pub fn answer(&mut self, thread: u8, status: u64, words: Words) -> Next {
        self.threads[usize::from(thread)].answer = (status, words);
        Next::Deliver(thread)
    }

    /// Before a system call comes back.
    #[inline(always)]
    pub fn prepare_delivery(&mut self, thread: u8) -> Message {
        let thread = &self.threads[usize::from(thread)];
        self.user.enter(thread.task);
        Message { rip: thread.rip, rsp: thread.rsp, status: thread.answer.0, words: thread.answer.1 }
    }

    /// Before a thread goes on where a trap interrupted it.
    pub fn prepare_return(&mut self, thread: u8) -> &TrapFrame {
        let thread = &self.threads[usize::from(thread)];
        self.user.enter(thread.task);
        &thread.frame
    }

    /// Its kernel stack.
    #[must_use]
    pub const fn stack(&self) -> Stack {
        self.stack
    }

    /// The timer of this core has come: whoever asked for it is notified.
    fn timer_came(&mut self) {
        self.apic.end_of_interrupt();
        let now = cpu::tsc();
        for id in 0..self.threads.len() {
            if self.threads[id].deadline.is_some_and(|deadline| deadline <= now) {
                self.threads[id].deadline = None;
                self.notify(id as u8, ipc_proto::call::notice::TIMER);
            }
        }
        self.look_for_the_busy(now);
        self.arm_timer();
    }

    /// Sets the timer to the earliest time that anyone asked for.
    pub fn arm_timer(&mut self) {
        let wanted = self.threads.iter().filter_map(|thread| thread.deadline);
        let first = wanted.chain(self.watch.map(|(_, next)| next)).min();
        self.apic.set_deadline(first, cpu::tsc());
    }

    /// An interrupt of the machine.
    pub fn interrupt(&mut self, vector: u8) {
        match vector {
            apic::TIMER => self.timer_came(),
            apic::SPURIOUS => {}
            _ => self.apic.end_of_interrupt(),
        }
    }
}
