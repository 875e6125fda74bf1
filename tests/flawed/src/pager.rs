//! The pager: the library of vmm-mm, and what a flaw makes of its answers.

use crate::death::Death;
use crate::flaw::Flaw;
use crate::passing::{GO_ON, HAND_OVER, Passing, RECLAIM};
use rt::Task;
use spin::Mutex;
use vmm_mm::policy::Chosen;
use vmm_mm::serve::Pager;
use vmm_mm::task::{self, Machine};

/// Too large for the stack. Locked once, by the only thread, for as long as the server lives.
static PAGER: Mutex<Pager> = Mutex::new(Pager::empty());

/// Serves.
pub fn main(task: Task) -> ! {
    let name = task.entry().option("flaw").unwrap_or_default();
    let flaw = Flaw::by_name(name).unwrap_or_else(|| panic!("no flaw `{name}`: there are {:?}", Flaw::ALL));
    let after = task.entry().option("after").and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let mut machine = Machine::of(&task);
    let mut pager = PAGER.lock();
    let policy = Chosen::by_name(task.entry().option("policy").unwrap_or("demand")).expect("vmm-mm has it");
    let shares = task::frames(&task, task.info.frames);
    pager.prepare(task.info.first_pfn, &shares, task.info.guest_physical_bits, policy);
    task::begin(&mut pager, (&task.info, &shares), &mut machine);
    pager.wake(&mut machine);
    let (incarnation, kept) = (task.info.incarnation, task.info.kept);
    match flaw {
        Flaw::Dies => {
            let mut death = Death::of(incarnation, after);
            task::serve(&mut pager, &mut machine, |message, pager, machine| death.comes(message, pager, machine))
        }
        Flaw::DiesHandingOver | Flaw::DiesGoingOn | Flaw::DiesReclaiming => {
            let steps = match flaw {
                Flaw::DiesReclaiming => RECLAIM,
                Flaw::DiesGoingOn => GO_ON,
                _ => HAND_OVER,
            };
            let mut passing = Passing::of(steps, incarnation, kept, after);
            task::serve(&mut pager, &mut machine, |message, pager, machine| passing.comes(message, pager, machine))
        }
        Flaw::Stops | Flaw::Hangs | Flaw::ReadOnly | Flaw::Beside | Flaw::Denies => {
            let mut faults = 0;
            task::serve(&mut pager, &mut machine, |message, pager, machine| {
                let fault = message.fault()?;
                faults += 1;
                (faults > after).then(|| flaw.spoil(pager.answer(&fault, machine)))
            })
        }
    }
}
