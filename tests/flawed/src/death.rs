//! Deaths at steps of the protocol: each incarnation dies at the next one, after so many faults that it has answered well.

use ipc_proto::call::Received;
use ipc_proto::words::Words;
use rt::Answer;
use vmm_mm::serve::Pager;
use vmm_mm::task::Machine;

/// Where an incarnation dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// With a request of the VM's server received, and not done.
    Request,
    /// With a fault received.
    Fault,
    /// With the answer made, its frame chosen and noted.
    Answer,
    /// With a part of the answer in the message page.
    HalfWritten,
    /// With the answer sent, at whatever comes next.
    Sent,
}

/// The death of one incarnation.
#[derive(Debug)]
pub struct Death {
    step: Step,
    faults: u64,
    after: u64,
}

impl Death {
    /// That of `incarnation`: the first dies over its third request, which makes a slot.
    pub const fn of(incarnation: u32, after: u64) -> Self {
        let step = match incarnation {
            0 => Step::Request,
            later => match later % 4 {
                0 => Step::Fault,
                1 => Step::Answer,
                2 => Step::HalfWritten,
                _ => Step::Sent,
            },
        };
        let after = if incarnation == 0 { 2 } else { after };
        Self { step, faults: 0, after }
    }

    /// For [`vmm_mm::task::serve`].
    pub fn comes(&mut self, message: &Answer, pager: &mut Pager, machine: &mut Machine) -> Option<Words> {
        let counts = match self.step {
            Step::Request => message.status == Received::Call as u64,
            Step::Fault | Step::Answer | Step::HalfWritten => message.status == Received::Fault as u64,
            Step::Sent => true,
        };
        self.faults += u64::from(counts);
        if self.faults <= self.after {
            return None;
        }
        match self.step {
            Step::Request | Step::Fault | Step::Sent => {}
            Step::Answer | Step::HalfWritten => {
                let words = message.fault().map(|fault| pager.answer(&fault, machine));
                if let (Step::HalfWritten, Some(words)) = (self.step, words) {
                    rt::write_message(&words[0].to_le_bytes());
                }
            }
        }
        panic!("here is the flaw: {:?}", self.step)
    }
}
