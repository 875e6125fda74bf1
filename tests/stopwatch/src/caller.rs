//! Calls a portal that answers at once, and says what a call and its reply take.

use ipc_proto::layout::handle;

/// So many calls.
const CALLS: usize = 256;

/// Calls with an empty message: all that travels is in registers.
pub fn main(task: &rt::Task) -> ! {
    let vm = task.info.vms.first().copied().map_or(0, usize::from);
    let mut ticks = [0u64; CALLS];
    for sample in &mut ticks {
        let start = rt::tsc();
        let answered = rt::send(handle::pager(vm), 0);
        *sample = rt::tsc() - start;
        if let Err(refused) = answered {
            panic!("the call was refused: {refused}");
        }
    }
    crate::mark::mark();
    let answered = rt::send(handle::pager(vm), 0);
    crate::mark::mark();
    assert!(answered.is_ok(), "the call for the debugger was refused: {answered:?}");
    ticks.sort_unstable();
    rt::stat(format_args!("call_reply.min"), ticks[0]);
    rt::stat(format_args!("call_reply.p50"), ticks[CALLS / 2]);
    rt::stat(format_args!("call_reply.max"), ticks[CALLS - 1]);
    loop {
        let _ = rt::receive();
    }
}
