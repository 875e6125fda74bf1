//! Shadows: a second pager is asked the faults that a VM's pager has answered. Its answers are compared with the pager's and
//! never carried out, nor are its operations, and nobody waits for it: whatever it does is nothing to the VM.

use crate::core::{Context, Core};
use crate::memop;
use crate::portal::After;
use crate::thread::State;
use crate::vm::Vm;
use ipc_proto::call::Received;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::shadow::{Kind, ROWS, row};
use ipc_proto::words::Words;

/// What a shadow is shown.
#[derive(Default)]
pub struct Shown {
    /// The fault that it answers, and what is compared of the pager's answer.
    asked: Option<(Words, [u64; 2])>,
    /// How its answers compare, as [`MemOp::Shadow`] tells it.
    pub tally: [Words; ROWS],
}

/// What is compared of an answer: its first word, and of grants the first page. Which frames they are is nobody else's affair,
/// nor are tokens and generations.
const fn said(words: &Words) -> [u64; 2] {
    [words[0], if words[0] >> 56 == 1 { words[1] } else { 0 }]
}

/// Rights, memory type and who may see it, of a grant that has the page of `gfn` in it.
fn gives([head, first]: [u64; 2], gfn: u64) -> Option<u64> {
    let frames = (head & 0x3ff) << (9 * (head >> 10 & 3).saturating_sub(1));
    (head >> 56 == 1 && gfn.wrapping_sub(first) < frames).then_some(head >> 12 & 0x7f)
}

impl Core {
    /// The pager has answered the fault of `asker`: once that is carried out, a shadow of the VM gets the fault too.
    pub fn watched(
        &mut self,
        asker: Context,
        vm: &Vm,
        words: &Words,
        answer: impl FnOnce(&mut Self) -> After,
    ) -> After {
        let Some(shadow) = vm.shadow else { return answer(self) };
        let (_, fault) = self.question(asker);
        let after = answer(self);
        let thread = &mut self.threads[usize::from(shadow)];
        if let After::Again(_) = after {
        } else if thread.state == State::Receiving {
            thread.state = State::Answered;
            thread.messages += 1;
            thread.answer = (Received::Fault as u64, fault);
            vm.shown.lock().asked = Some((fault, said(words)));
            self.make_ready(Context::Thread(shadow));
        } else {
            vm.shown.lock().tally[0][Kind::Missed as usize] += 1;
        }
        after
    }

    /// The VM whose fault thread `id` answers as its shadow.
    pub fn shows(&self, id: u8) -> Option<&'static Vm> {
        self.system.vms.iter().find(|vm| vm.shadow == Some(id) && vm.shown.lock().asked.is_some())
    }

    /// The shadow `id` has answered, or has stopped and does not. False when it was not asked.
    pub fn compared(&self, id: u8, words: Option<&Words>) -> bool {
        let Some(vm) = self.shows(id) else { return false };
        let Shown { asked, tally } = &mut *vm.shown.lock();
        let Some((fault, pager)) = asked.take() else { return false };
        let (shadow, gfn) = (words.map(said), fault[1] >> 12);
        let kind = match (gives(pager, gfn), shadow) {
            (_, None) => Kind::Missed,
            (_, Some(shadow)) if shadow == pager => Kind::Same,
            (Some(given), Some(shadow)) if gives(shadow, gfn) == Some(given) => Kind::Extent,
            (_, Some(_)) => Kind::Decision,
        };
        let count = tally[0][kind as usize];
        tally[0][kind as usize] += 1;
        if let Some((row, [head, first])) = row(kind, count).zip(shadow) {
            let cause = fault[2] & 0xffff_ffff | fault[0] >> 48 << 32;
            tally[row] = [fault[1], cause, pager[0], pager[1], head, first];
        }
        true
    }
}

/// An operation of the shadow `id`: it is answered as a pager is of a VM in which nothing is mapped, and nothing is done.
pub fn mem_op(core: &Core, id: u8, vm: &Vm, op: MemOp) -> Result<Words, Refused> {
    match op {
        MemOp::Info => return Ok(memop::info(core.system, vm)),
        MemOp::Read | MemOp::Shadow | MemOp::Owned => return Err(Refused::NotAsked),
        MemOp::Harvest => core.system.memory.clear(core.threads[usize::from(id)].task.message),
        MemOp::Map | MemOp::Unmap | MemOp::Protect | MemOp::Donate | MemOp::Ready => {}
        MemOp::Generation | MemOp::SetLog | MemOp::Walk => {}
    }
    Ok([0; 6])
}
