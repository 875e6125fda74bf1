//! Portals: how a question reaches the thread that answers it, and the answer comes back.

use crate::core::{Context, Core, Next};
use crate::fault;
use crate::thread::{Question, State};
use crate::vcpu::Status;
use crate::vm::Vm;
use crate::{exit, window};
use ipc_proto::call::{Cause, Received, notice};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// What an answer leads to, beside the answering thread's next message.
pub enum After {
    /// This goes on.
    Run(Next),
    /// This asks another thread.
    Ask(Context, u8),
    /// Nothing: who asked waits on.
    Nothing,
    /// The answer was refused: the same question is asked again.
    Again(Refused),
}

impl Core {
    /// Asks thread `to` what `from` is waiting for. The thread gets it at once when it waits for a message; otherwise the
    /// question is made again when it does.
    #[inline(always)]
    pub fn ask(&mut self, from: Context, to: u8, (status, words): (u64, Words)) -> Next {
        let thread = &mut self.threads[usize::from(to)];
        if thread.state == State::Receiving {
            thread.state = State::Frame;
            thread.serving = from;
            thread.messages += 1;
            if let Context::Thread(caller) = from {
                self.carry(caller, to);
            }
            self.threads[usize::from(to)].answer = (status, words);
            return self.run(Next::Deliver(to));
        }
        thread.askers.insert(from);
        self.pick()
    }

    /// The question that `from` waits with, as a message.
    #[must_use]
    pub fn question(&mut self, from: Context) -> (u64, Words) {
        match from {
            Context::Vcpu(vcpu) => match self.vcpus[usize::from(vcpu)].status {
                Status::Exited(exit) => (Received::Exit as u64, exit::message(self, vcpu, exit)),
                Status::Faulted | Status::Watched | Status::Ready | Status::Parked(_) | Status::Pending(_) => {
                    (Received::Fault as u64, fault::message(self, vcpu))
                }
            },
            Context::Thread(caller) => self.question_of_thread(caller),
            Context::Idle => (Received::Notice as u64, [0; 6]),
        }
    }

    fn question_of_thread(&mut self, caller: u8) -> (u64, Words) {
        match self.threads[usize::from(caller)].state {
            State::Asking(Question::Window { vm, gpa, access }) => {
                (Received::Fault as u64, window::message(self.system, vm, gpa, access))
            }
            State::Asking(Question::Call { len, vm, .. }) => {
                (Received::Call as u64, [u64::from(vm), u64::from(len), 0, 0, 0, 0])
            }
            State::Frame | State::Answered | State::Receiving | State::Stopped => (Received::Notice as u64, [0; 6]),
        }
    }

    /// The next message for `thread`, which is ready to receive.
    pub fn next_message(&mut self, id: u8) -> Option<Next> {
        let thread = &mut self.threads[usize::from(id)];
        thread.messages += u64::from(thread.has_mail());
        if thread.notices != 0 {
            let notices = core::mem::take(&mut thread.notices);
            thread.state = State::Frame;
            let ended = if notices & notice::VM_ENDED != 0 { self.ended_vms(id) } else { 0 };
            let words = [notices, ended, 0, 0, 0, 0];
            return Some(self.answer(id, Received::Notice as u64, words));
        }
        let from = thread.askers.take()?;
        thread.state = State::Frame;
        thread.serving = from;
        if let Context::Thread(caller) = from {
            self.carry(caller, id);
        }
        let (status, words) = self.question(from);
        Some(self.answer(id, status, words))
    }

    /// The VMs of a pager whose server has stopped: a bit for each.
    pub fn ended_vms(&self, pager: u8) -> u64 {
        let ended = |vm: &&Vm| vm.pager == Some(pager) && self.threads[usize::from(vm.server)].state == State::Stopped;
        self.system.vms.iter().filter(ended).fold(0, |bits, vm| bits | 1 << vm.id)
    }

    /// Copies what a call carries from the caller's message page.
    pub fn carry(&self, from: u8, to: u8) {
        let from = &self.threads[usize::from(from)];
        if let State::Asking(Question::Call { len, .. }) = from.state {
            self.system.memory.copy(from.task.message, self.threads[usize::from(to)].task.message, usize::from(len));
        }
    }

    /// Answers what `id` was asked last, and lets it receive again.
    #[inline(always)]
    pub fn reply_receive(&mut self, id: u8, words: &Words) -> Next {
        let asker = core::mem::replace(&mut self.threads[usize::from(id)].serving, Context::Idle);
        if asker == Context::Idle {
            let compared = self.compared(id, Some(words));
            return if compared { self.receive(id) } else { self.back(id, Refused::NotAsked) };
        }
        self.round_trips += 1;
        let after = match asker {
            Context::Vcpu(vcpu) => match self.vcpus[usize::from(vcpu)].status {
                Status::Exited(exit) => exit::resumed(self, vcpu, exit, words),
                Status::Faulted | Status::Ready | Status::Parked(_) | Status::Pending(_) => {
                    fault::answered(self, id, vcpu, words)
                }
                Status::Watched => self.watched(asker, self.vcpus[usize::from(vcpu)].of, words, |core| {
                    fault::answered(core, id, vcpu, words)
                }),
            },
            Context::Thread(caller) => self.answered_thread(id, caller, words),
            Context::Idle => After::Nothing,
        };
        self.settle(id, asker, after)
    }

    #[inline(always)]
    fn settle(&mut self, id: u8, asker: Context, after: After) -> Next {
        match after {
            After::Run(next) => {
                self.threads[usize::from(id)].refused = 0;
                if self.threads[usize::from(id)].has_mail() {
                    self.defer(next);
                    return self.receive(id);
                }
                self.threads[usize::from(id)].state = State::Receiving;
                self.run(next)
            }
            After::Ask(from, to) => {
                self.threads[usize::from(id)].state = State::Receiving;
                self.threads[usize::from(id)].refused = 0;
                if self.threads[usize::from(id)].has_mail() {
                    self.make_ready(Context::Thread(id));
                }
                let question = self.question(from);
                self.ask(from, to, question)
            }
            After::Nothing => self.receive(id),
            After::Again(refused) => self.again(id, asker, refused),
        }
    }

    /// Lets thread `id` receive: at once if something is there.
    pub fn receive(&mut self, id: u8) -> Next {
        self.threads[usize::from(id)].state = State::Receiving;
        match self.next_message(id) {
            Some(next) => self.run(next),
            None => self.pick(),
        }
    }

    /// Asks again what was answered badly. A thread that does nothing else is stopped.
    #[cold]
    fn again(&mut self, id: u8, asker: Context, refused: Refused) -> Next {
        const PATIENCE: u8 = 16;
        let thread = &mut self.threads[usize::from(id)];
        thread.refused += 1;
        if thread.refused > PATIENCE {
            // It waits for whoever comes after this thread.
            thread.askers.insert(asker);
            let why = format_args!("{PATIENCE} replies in a row were refused, the last: {refused}");
            return self.stop(id, (Cause::Refused, refused as u64), why);
        }
        thread.serving = asker;
        let (mut status, mut words) = self.question(asker);
        if status == Received::Fault as u64 {
            status = Received::RefusedReply as u64;
            words[5] = refused as u64;
        }
        self.answer(id, status, words)
    }

    /// A thread answers the call or the window access of another.
    fn answered_thread(&mut self, id: u8, caller: u8, words: &Words) -> After {
        match self.threads[usize::from(caller)].state {
            State::Asking(Question::Window { vm, gpa, access }) => {
                self.watched(Context::Thread(caller), &self.system.vms[usize::from(vm)], words, |core| {
                    fault::window_answered(core, id, caller, (vm, gpa, access), words)
                })
            }
            State::Asking(Question::Call { .. }) => {
                let len = words[0].min(4096);
                let (from, to) = (&self.threads[usize::from(id)], &self.threads[usize::from(caller)]);
                self.system.memory.copy(from.task.message, to.task.message, len as usize);
                self.threads[usize::from(caller)].state = State::Frame;
                After::Run(self.answer(caller, 0, [len, 0, 0, 0, 0, 0]))
            }
            State::Frame | State::Answered | State::Receiving | State::Stopped => After::Nothing,
        }
    }

    /// A system call of `thread` comes back with a refusal.
    pub fn back(&mut self, thread: u8, refused: Refused) -> Next {
        self.answer(thread, refused as u64, [0; 6])
    }

    /// Sets notification bits of a thread, and wakes it if it waits for a message.
    pub fn notify(&mut self, id: u8, bits: u64) {
        let thread = &mut self.threads[usize::from(id)];
        thread.notices |= bits;
        if thread.state == State::Receiving {
            self.make_ready(Context::Thread(id));
        }
    }
}
