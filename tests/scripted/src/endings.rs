//! Scripts that end a task.

use crate::desk::{Access, Desk, PAGE, begins};
use ipc_proto::call::{End, notice};
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::refused::{DenyReason, Refused};
use rt::Received;

/// So many replies in a row may be refused.
const PATIENCE: usize = 16;

/// The pager is still there: it ends the system if it is the supervisor, else the server does.
fn power_off(desk: &mut Desk) -> ! {
    let _ = rt::power_off(End::Done);
    desk.settle();
    desk.end()
}

/// What the server sees once the pager is stopped.
fn begin(script: &str) {
    for case in ["supervisor_is_told", "callers_find_nobody", "vcpu_waits_on"] {
        begins(format_args!("{script}::{case}"));
    }
}

/// Every answer is refused: the kernel must lose patience, neither sooner nor later.
pub fn refusals(desk: &mut Desk) -> ! {
    begins(format_args!("refusals::sixteen_are_borne"));
    begin("refusals");
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
    begin("foreign");
    desk.touch(PAGE << 12, Access::Read);
    let word = rt::frame(desk.servers).word(0);
    log::info!("case foreign::a_frame_of_another_task_is_out_of_sight failed: {word:#x}");
    power_off(desk)
}

/// Reads a frame that it has given away.
pub fn given(desk: &mut Desk) -> ! {
    begin("given");
    let gift = desk.gift(1);
    rt::frame(gift).set_word(0, 0x1234);
    desk.touch(PAGE << 12, Access::Read);
    desk.answer_words(FaultReply::Retry.to_words(TopUp { first: gift, count: 1 }));
    let word = rt::frame(gift).word(0);
    log::info!("case given::a_donated_frame_is_out_of_sight failed: {word:#x}");
    power_off(desk)
}

/// Denies the server's window access, which stops it.
pub fn window(desk: &mut Desk) -> ! {
    begins(format_args!("window_denied::server_is_stopped"));
    desk.let_window(PAGE << 12, Access::Read);
    desk.answer(&FaultReply::Deny(DenyReason::Policy));
    match desk.received() {
        Received::Notice(notice::TASK_STOPPED) => log::info!("case window_denied::server_is_stopped ok"),
        other => log::info!("case window_denied::server_is_stopped failed: {other:x?}"),
    }
    power_off(desk)
}
