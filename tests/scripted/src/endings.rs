//! Scripts that end a task.

use crate::desk::{Access, Desk, PAGE, begins};
use crate::order;
use ipc_proto::call::{Call, Cause, Deed, End, notice};
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::layout::handle;
use ipc_proto::refused::Refused;
use rt::Received;

/// So many replies in a row may be refused.
const PATIENCE: usize = 16;

/// The pager is still there: it ends the system if it is the supervisor, else the server does.
pub fn power_off(desk: &mut Desk) -> ! {
    let _ = rt::power_off(End::Done);
    desk.settle();
    desk.end()
}

/// What the server sees once the pager is stopped; one page is granted until then, and shown.
pub fn begin(desk: &mut Desk, script: &str) {
    for case in ["supervisor_is_told", "callers_find_nobody", "grants_stay"] {
        begins(format_args!("{script}::{case}"));
    }
    rt::frame(desk.free + 1).set_word(0, order::KEPT_WORD);
    let kept = ClaimedGrant { gfn: order::KEPT >> 12, pfn: desk.free + 1, ..desk.claim() };
    if let Err(refused) = desk.map(0, kept) {
        log::error!("the page that shall stay was not mapped: {refused}");
    }
    desk.let_window(order::KEPT, Access::Read);
}

/// Every answer is refused: the kernel must lose patience, neither sooner nor later.
pub fn refusals(desk: &mut Desk) -> ! {
    begins(format_args!("refusals::sixteen_are_borne"));
    begin(desk, "refusals");
    begins(format_args!("refusals::vcpu_waits_on"));
    desk.touch(PAGE << 12, Access::Read);
    for n in 1..=PATIENCE {
        desk.answer_words([0; 6]);
        match desk.refusal() {
            Ok((_, Refused::UnknownVariant)) if n == PATIENCE => log::info!("case refusals::sixteen_are_borne ok"),
            Ok((_, Refused::UnknownVariant)) => {}
            other => log::info!("case refusals::sixteen_are_borne failed: {n}: {other:?}"),
        }
    }
    desk.answer_words([0; 6]);
    log::info!("case refusals::seventeen_are_not failed: the pager goes on");
    power_off(desk)
}

/// Reads a frame of another task's between a fault and its answer.
pub fn foreign(desk: &mut Desk) -> ! {
    begin(desk, "foreign");
    begins(format_args!("foreign::vcpu_waits_on"));
    desk.touch(PAGE << 12, Access::Read);
    let word = rt::frame(desk.servers).word(0);
    log::info!("case foreign::a_frame_of_another_task_is_out_of_sight failed: {word:#x}");
    power_off(desk)
}

/// Reads a frame that it has given away.
pub fn given(desk: &mut Desk) -> ! {
    begin(desk, "given");
    begins(format_args!("given::vcpu_waits_on"));
    let gift = desk.gift(1);
    rt::frame(gift).set_word(0, 0x1234);
    desk.touch(PAGE << 12, Access::Read);
    desk.answer_words(FaultReply::Retry.to_words(TopUp { first: gift, count: 1 }));
    let word = rt::frame(gift).word(0);
    log::info!("case given::a_donated_frame_is_out_of_sight failed: {word:#x}");
    power_off(desk)
}

/// Dies with a call of the server's unanswered.
pub fn called(desk: &mut Desk) -> ! {
    begins(format_args!("called::waiting_callers_are_answered"));
    begin(desk, "called");
    let word = rt::frame(desk.servers).word(0);
    log::info!("case called::a_frame_of_another_task_is_out_of_sight failed: {word:#x}");
    power_off(desk)
}

/// Answers the server's window access so that it is stopped.
pub fn window(desk: &mut Desk, reply: &FaultReply) -> ! {
    begins(format_args!("window_denied::server_is_stopped"));
    desk.let_window(PAGE << 12, Access::Read);
    desk.answer(reply);
    server_has_stopped(desk)
}

/// Lets the server execute what its window has, which it sees and may write.
pub fn window_fetch(desk: &mut Desk) -> ! {
    begins(format_args!("window_denied::server_is_stopped"));
    rt::frame(desk.free).set_word(0, order::RETURN);
    if let Err(refused) = desk.map(0, desk.claim()) {
        log::error!("the page that shall not be executed was not mapped: {refused}");
    }
    desk.let_window(PAGE << 12, Access::Read);
    desk.let_window(PAGE << 12, Access::Fetch);
    server_has_stopped(desk)
}

/// Both tasks are supervisors. The server is over first, and says that the guest failed; the pager says that all is well.
pub fn supervisors(desk: &mut Desk) -> ! {
    begins(format_args!("supervisors::the_system_goes_on_with_one_left"));
    desk.let_call(Call::PowerOff as u64, [u64::from(handle::MACHINE), End::GuestFailed as u64, 0, 0, 0, 0]);
    match desk.received() {
        Received::Notice(bits, _) if bits & notice::TASK_STOPPED != 0 => {
            log::info!("case supervisors::the_system_goes_on_with_one_left ok");
        }
        other => log::info!("case supervisors::the_system_goes_on_with_one_left failed: {other:x?}"),
    }
    begins(format_args!("supervisors::a_task_that_is_over_is_stopped"));
    match rt::supervise(1, Deed::Look, 0) {
        Ok([1, cause, end, ..]) if (cause, end) == (Cause::Done as u64, End::GuestFailed as u64) => {
            log::info!("case supervisors::a_task_that_is_over_is_stopped ok");
        }
        other => log::info!("case supervisors::a_task_that_is_over_is_stopped failed: {other:x?}"),
    }
    let _ = rt::power_off(End::Done);
    desk.end()
}

fn server_has_stopped(desk: &mut Desk) -> ! {
    match desk.received() {
        Received::Notice(bits, _) if bits & notice::TASK_STOPPED != 0 => {
            log::info!("case window_denied::server_is_stopped ok");
        }
        other => log::info!("case window_denied::server_is_stopped failed: {other:x?}"),
    }
    let _ = rt::power_off(End::Done);
    desk.end()
}
