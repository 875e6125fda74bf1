//! A pager that is stopped and started again: what its incarnations find, and what the server, its supervisor, sees (K27, K28).

use crate::desk::{Access, Desk, Held, Instead, PAGE, begins, same};
use crate::endings;
use crate::order;
use core::fmt::{Debug, Write as _};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use ipc_proto::call::{Call, Cause, Deed, notice};
use ipc_proto::exit::Exit;
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::layout::handle;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use rt::{Received, Task, Window};

/// The pager's place in the manifest, and the server's.
const TASKS: [usize; 2] = [0, 1];
/// What the first incarnation keeps.
const KEPT: u64 = 0x0123_4567_89ab_cdef;
/// What it leaves in a frame, and where.
const LEFT: (u64, u32) = (2, 0x5eed);
/// So long is waited for a message, in ticks.
const PATIENCE: u64 = 100_000_000;
/// The token of a promise that is never kept.
const PROMISE: u64 = 7;
/// Some pages of the image, which say `PRISTINE`, and what an incarnation leaves there instead.
static MARKS: [AtomicU32; 3 << 10] = [const { AtomicU32::new(PRISTINE) }; 3 << 10];
const PRISTINE: u32 = 0x00c0_ffee;

fn leave_marks() {
    MARKS.iter().for_each(|mark| mark.store(1, Relaxed));
}

fn no_marks() -> Held {
    same(MARKS.iter().position(|mark| mark.load(Relaxed) != PRISTINE), None)
}

fn say(case: &str, held: Held) {
    match held {
        Ok(()) => log::info!("case {case} ok"),
        Err(instead) => log::info!("case {case} failed: {instead}"),
    }
}

fn instead(of: &str, what: &dyn Debug) -> Held {
    let mut text = Instead::new();
    // What has no room is left out.
    let _ = write!(text, "{what:x?}, not {of}");
    Err(text)
}

/// The first incarnation leaves something behind, and dies over a fault.
pub fn first(desk: &mut Desk) -> ! {
    for case in [
        "begins_anew",
        "begins_anew_again",
        "the_parked_fault_is_asked",
        "a_promised_fault_is_asked",
        "the_guest_goes_on",
    ] {
        begins(format_args!("lives::{case}"));
    }
    endings::begin(desk, "lives");
    rt::keep(!KEPT);
    rt::keep(KEPT);
    leave_marks();
    rt::frame(desk.free + LEFT.0).set_word(0, LEFT.1);
    desk.touch(PAGE << 12, Access::Read);
    let word = rt::frame(desk.servers).word(0);
    log::info!("case lives::begins_anew failed: it goes on with {word:#x}");
    endings::power_off(desk)
}

/// A later incarnation. The second one promises what the third one grants.
pub fn again(task: &Task) -> ! {
    let free = (task.info.first_pfn + 1).next_multiple_of(512);
    if task.info.incarnation == 1 {
        say("lives::begins_anew", begins_anew(task, free));
        leave_marks();
    } else {
        say("lives::begins_anew_again", no_marks());
    }
    rt::timer(rt::tsc() + PATIENCE);
    let asked = match rt::receive() {
        Received::Fault(fault) => same(fault.gpa.gfn(), Gfn(PAGE)),
        other => instead("the fault", &other),
    };
    if task.info.incarnation == 1 {
        say("lives::the_parked_fault_is_asked", asked);
        let _ = rt::reply(FaultReply::Pending(PROMISE).to_words(TopUp::default()));
    } else {
        say("lives::a_promised_fault_is_asked", asked);
        let _ = rt::reply(FaultReply::Map(grant(free + LEFT.0), 0).to_words(TopUp::default()));
    }
    loop {
        let _ = rt::receive();
    }
}

fn begins_anew(task: &Task, free: u64) -> Held {
    let mut message = [0xff; 64];
    rt::read_message(&mut message);
    same((task.info.incarnation, task.info.kept), (1, KEPT))?;
    no_marks()?;
    same(message, [0; 64])?;
    same(rt::frame(free + LEFT.0).word(0), LEFT.1)
}

fn grant(pfn: u64) -> Grant {
    Grant {
        gfn: Gfn(PAGE),
        pfn: Pfn(pfn),
        count: 1,
        level: Level::Page,
        rights: Rights::all(),
        mem_type: MemType::WriteBack,
        mmu_seq: rt::mem_op(0, MemOp::Info, [0; 4]).map_or(0, |words| words[0]),
        seen_by: SeenBy::Everyone,
    }
}

/// Is silent for longer than it may be, after a time in which it only waits.
pub fn busy(desk: &mut Desk) -> ! {
    let deadline = desk.deadline;
    desk.case("deadline::who_waits_is_not_busy", |desk| {
        desk.touch(PAGE << 12, Access::Read);
        desk.answer_and_wait(&FaultReply::Pending(PROMISE), 3 * deadline)?;
        same(desk.op(MemOp::Ready, PROMISE, 0, 0).map(|_| ()), Ok(()))?;
        desk.receive();
        desk.fault().map(|_| ())
    });
    endings::begin(desk, "deadline");
    begins(format_args!("deadline::who_is_busy_for_too_long_is_stopped"));
    desk.touch(PAGE << 12, Access::Read);
    let began = rt::tsc();
    for (place, value) in [(2, began), (4, deadline)] {
        rt::frame(desk.free + 1).set_word(place, value as u32);
        rt::frame(desk.free + 1).set_word(place + 1, (value >> 32) as u32);
    }
    // System calls are no messages: they do not make it less busy.
    while rt::tsc() - began < 3 * deadline {
        let _ = desk.info(0);
    }
    log::info!("case deadline::who_is_busy_for_too_long_is_stopped failed: it is not");
    endings::power_off(desk)
}

/// The server, when the pager of the script `busy` has stopped.
pub fn was_busy(told_at: u64) {
    let mut noted = [[0; 8]; 2];
    let read = Window::new(0, order::KEPT + 4096).read(order::KEPT + 8, noted.as_flattened_mut());
    let [began, deadline] = noted.map(u64::from_le_bytes);
    let took = told_at.wrapping_sub(began);
    let [pager, _] = TASKS;
    let right = match rt::supervise(pager, Deed::Look, 0) {
        Ok([1, cause, detail, 0, 0, 0]) if read => same((cause, detail), (Cause::Deadline as u64, deadline)),
        other => instead("stopped", &other),
    };
    let in_time = deadline..=deadline + deadline / 2 + deadline / 50;
    let right =
        right.and_then(|()| if in_time.contains(&took) { Ok(()) } else { instead("in time", &(took, deadline)) });
    say("deadline::who_is_busy_for_too_long_is_stopped", right);
}

/// The server, when the first incarnation has stopped: it starts it, stops it and starts it again.
pub fn look_after() {
    let [pager, server] = TASKS;
    say("lives::why_it_has_stopped_is_told", stands(pager, [1, Cause::Trap as u64, 0]));
    say("lives::deeds_are_refused", refused(pager, server));
    let started = rt::supervise(pager, Deed::Start, 0).map(|_| ());
    say("lives::a_task_is_started_once", same(started, Ok(())).and_then(|()| runs(pager, 1)));
    let stopped = rt::supervise(pager, Deed::Stop, 0).map(|_| ());
    say("lives::a_supervisor_stops_a_task", same(stopped, Ok(())).and_then(|()| killed(pager)));
    let proven = rt::supervise(pager, Deed::Prove, 0).map(|words| words[0]);
    say("lives::the_ledger_is_proved_at_any_time", same(proven, Ok(1)));
    if let Err(refused) = rt::supervise(pager, Deed::Start, 0) {
        log::error!("the pager is not started again: {refused}");
    }
    say("lives::the_guest_goes_on", guest_goes_on());
}

fn killed(pager: usize) -> Held {
    // To stop what has stopped is nothing.
    same(rt::supervise(pager, Deed::Stop, 0).map(|_| ()), Ok(()))?;
    stands(pager, [1, Cause::Killed as u64, 1])
}

/// Whether it has stopped, why, and its incarnation.
fn stands(task: usize, wanted: [u64; 3]) -> Held {
    let look = rt::supervise(task, Deed::Look, 0);
    same(look.map(|[stopped, cause, _, incarnation, ..]| [stopped, cause, incarnation]), Ok(wanted))
}

fn runs(task: usize, incarnation: u64) -> Held {
    stands(task, [0, Cause::Nothing as u64, incarnation])?;
    same(rt::supervise(task, Deed::Start, 0).err(), Some(Refused::Unanswered))
}

fn refused(pager: usize, server: usize) -> Held {
    let machine = u64::from(handle::MACHINE);
    for ((holder, task, deed, image), why) in [
        ((machine, pager, 4, 0), Refused::UnknownVariant),
        ((machine, pager, u64::MAX, 0), Refused::UnknownVariant),
        ((machine, 11, 0, 0), Refused::BadHandle),
        ((machine, 256, 0, 0), Refused::BadHandle),
        ((handle::pager(0).into(), pager, 0, 0), Refused::BadHandle),
        ((0, pager, 0, 0), Refused::BadHandle),
        ((machine, server, Deed::Stop as u64, 0), Refused::NoRight),
        ((machine, server, Deed::Start as u64, 0), Refused::Unanswered),
        ((machine, pager, Deed::Start as u64, 1), Refused::BadCount),
        ((machine, pager, Deed::Start as u64, u64::MAX), Refused::BadCount),
    ] {
        let status = rt::system_call(Call::Supervise as u64, [holder, task as u64, deed, image, 0, 0]).status;
        same((task, deed, image, status), (task, deed, image, why as u64))?;
    }
    Ok(())
}

/// The exit behind the access comes, after notices of stops that were this task's own doing.
fn guest_goes_on() -> Held {
    rt::timer(rt::tsc() + 2 * PATIENCE);
    loop {
        match rt::receive() {
            Received::Notice(bits, _) if bits & notice::TIMER == 0 => {}
            Received::Exit(message) => return same(message.exit, Exit::Hypercall),
            other => return instead("an exit", &other),
        }
    }
}
