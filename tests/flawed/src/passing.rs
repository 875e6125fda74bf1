//! Deaths while one pager makes way for another, and while pages go and come back: each incarnation dies at the next step, in the
//! middle of what it does there.

use crate::dying::{Dying, Over};
use ipc_proto::layout::HANDED_OVER;
use ipc_proto::slot::{SlotReply, SlotRequest};
use ipc_proto::wire;
use ipc_proto::words::Words;
use rt::{Answer, Received};
use vmm_mm::control::{MESSAGE, REPLY};
use vmm_mm::serve::Pager;
use vmm_mm::task::Machine;

/// Where an incarnation dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nowhere.
    Never,
    /// Asked to hand over, before anything is done.
    Asked,
    /// With a part of what it has looked for in the ledger.
    HalfHanded,
    /// With a slot told, and not all.
    Told,
    /// With everything handed over, and the answer not sent.
    Handed,
    /// At its start behind one that has handed over.
    Begun,
    /// With a part of a slot taken.
    HalfTaken,
    /// With all slots taken, and a part of what it keeps written.
    HalfKept,
    /// With everything taken over, and the answer not sent.
    Taken,
    /// Over the first fault behind that.
    First,
    /// With everything found that was kept, and nothing answered.
    Adopted,
    /// Greeted behind that, and the answer not sent.
    Greeted,
    /// Behind that, before anybody has said that it stays.
    Answered,
    /// With a page taken from the guest that is nowhere else yet.
    Unmapped,
    /// With a part of a compressed page written.
    HalfPacked,
}

/// Steps of a hand-over, on both sides. The incarnations between are sound, so that each death has somebody who goes on.
pub const HAND_OVER: &[Step] = &[
    Step::Asked,
    Step::Never,
    Step::HalfHanded,
    Step::Never,
    Step::Told,
    Step::Never,
    Step::Handed,
    Step::Never,
    Step::Begun,
    Step::Never,
    Step::HalfTaken,
    Step::Never,
    Step::HalfKept,
    Step::Never,
    Step::Taken,
    Step::Never,
    Step::First,
    Step::Never,
];
/// Steps of a pager that goes on from what another one has kept.
pub const GO_ON: &[Step] = &[Step::Never, Step::Adopted, Step::Never, Step::Greeted, Step::Never, Step::Answered];
/// Steps of a page that goes.
pub const RECLAIM: &[Step] = &[Step::Unmapped, Step::HalfPacked];

/// How often something is done before its middle.
const HALF: u32 = 40;

/// The death of one incarnation.
pub struct Passing {
    step: Step,
    kept: u64,
    faults: u64,
    greeted: bool,
    after: u64,
    /// How often it does still what it dies over.
    left: u32,
}

impl Passing {
    /// That of `incarnation`, which dies at one of those steps, not before it was asked for `after` faults.
    pub fn of(steps: &[Step], incarnation: u32, kept: u64, after: u64) -> Self {
        let step = steps[incarnation as usize % steps.len()];
        if step == Step::Begun && kept == HANDED_OVER || step == Step::Adopted {
            panic!("here is the flaw: {step:?}");
        }
        // One question of the one that hands over is about many pages.
        let left = if step == Step::HalfHanded { 3 } else { HALF };
        Self { step, kept, faults: 0, greeted: false, after, left }
    }

    /// For [`vmm_mm::task::serve`].
    pub fn comes(&mut self, message: &Answer, pager: &mut Pager, machine: &mut Machine) -> Option<Words> {
        match (Answer { ..*message }).received() {
            Received::Fault(fault) => {
                self.faults += 1;
                if self.step == Step::First && self.kept == HANDED_OVER {
                    panic!("here is the flaw: {:?}", self.step);
                }
                let mut dying = self.dying(machine)?;
                Some(pager.answer(&fault, &mut dying))
            }
            Received::Notice(..) if self.step == Step::Answered && self.greeted => {
                panic!("here is the flaw: {:?}", self.step)
            }
            Received::Notice(..) => {
                // What is done here need not be done by whoever is told of the notice next.
                let mut dying = self.dying(machine)?;
                pager.notice(&mut dying);
                None
            }
            Received::Call { vm, len } => self.request(vm, len, pager, machine),
            Received::RefusedReply(..) | Received::Exit(_) | Received::Unknown(_) => None,
        }
    }

    /// A machine for a pager that takes pages back and dies over it, when its time has come.
    fn dying<'a>(&'a mut self, machine: &'a mut Machine) -> Option<Dying<'a>> {
        let over = match self.step {
            Step::Unmapped => Over::Unmap,
            Step::HalfPacked => Over::Pack,
            _ => return None,
        };
        (self.faults > self.after).then_some(Dying { machine, over, left: &mut self.left })
    }

    fn request(&mut self, vm: usize, len: usize, pager: &mut Pager, machine: &mut Machine) -> Option<Words> {
        let mut bytes = [0; MESSAGE];
        let bytes = bytes.get_mut(..len)?;
        rt::read_message(bytes);
        let request = wire::decode(bytes).ok()?;
        if let SlotRequest::Hello(_) = request {
            self.greeted = true;
            // Behind its answer a notice is there at once, before whoever has asked comes any further.
            rt::timer(rt::tsc());
        }
        let (over, unsent) = match (self.step, request) {
            (Step::Asked, SlotRequest::HandOver(_)) | (Step::Told, SlotRequest::HandOver(1..)) => {
                panic!("here is the flaw: {:?}", self.step)
            }
            (Step::HalfHanded, SlotRequest::HandOver(_)) => (Over::Read, false),
            (Step::Handed, SlotRequest::HandOver(_)) | (Step::Greeted, SlotRequest::Hello(_)) => (Over::Nothing, true),
            (Step::HalfTaken, SlotRequest::Create(_)) if self.kept == HANDED_OVER => (Over::Read, false),
            (Step::HalfKept, SlotRequest::TakeOver) => (Over::Word, false),
            (Step::Taken, SlotRequest::TakeOver) => (Over::Nothing, true),
            _ => return None,
        };
        let mut reply = [0; REPLY];
        let used = pager.request(vm, bytes, &mut reply, &mut Dying { machine, over, left: &mut self.left });
        if unsent && matches!(wire::decode(&reply[..used]), Ok(SlotReply::Done | SlotReply::Hello(_))) {
            panic!("here is the flaw: {:?}", self.step);
        }
        rt::write_message(&reply[..used]);
        Some([used as u64, 0, 0, 0, 0, 0])
    }
}
