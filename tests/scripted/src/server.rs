//! The server: it does what the pager orders, and calls with what came of it.

use crate::lives;
use crate::order::{self, Words8};
use core::fmt::Debug;
use ipc_proto::call::{End, notice};
use ipc_proto::exit::{Resume, ResumeFlags};
use ipc_proto::layout::handle;
use ipc_proto::refused::Refused;
use ipc_proto::state::{Segment, StateMask, Table, VcpuState};
use rt::{Received, StatePage, Task, Window};

/// Where the guest looks for its interrupt gates: the page that cases touch.
const GATES: u64 = 0x40_0000;
/// Addresses of the window that are touched.
const SEEN: u64 = 64 << 20;

/// Serves.
pub fn main(task: &Task) -> ! {
    let script = task.entry().option("script").unwrap_or("cases");
    let mut state = StatePage::take(0, 0);
    begin(&mut state);
    let mut report: Words8 = [order::HELLO, task.info.first_pfn, 0, 0, 0, 0, 0, 0];
    // The vCPU has not run yet: the first order that lets it go is a `Run`, later ones are answers.
    let mut started = false;
    loop {
        order::write(report);
        if let Err(refused) = rt::send(handle::pager(0), order::BYTES) {
            waited(script, refused);
        }
        let words = order::read();
        report = match words[0] {
            order::TOUCH => touch(&mut state, words, &mut started, script),
            order::READ => {
                let mut bytes = [0; 4];
                let read = Window::new(0, SEEN).read(words[1], &mut bytes);
                called(u64::from(!read), [u64::from(u32::from_le_bytes(bytes)), 0, 0, 0, 0, 0])
            }
            order::WRITE => {
                let written = Window::new(0, SEEN).write(words[1], &(words[2] as u32).to_le_bytes());
                called(u64::from(!written), [0; 6])
            }
            order::EXECUTE => {
                crate::forbidden::execute(ipc_proto::layout::WINDOW + words[1]);
                called(0, [0; 6])
            }
            order::END => end(),
            _ => {
                let [_, number, words @ ..] = words;
                let answer = rt::system_call(number, words);
                called(answer.status, answer.words)
            }
        };
    }
}

const fn called(status: u64, [w0, w1, w2, w3, w4, w5]: [u64; 6]) -> Words8 {
    [order::CALLED, status, w0, w1, w2, w3, w4, w5]
}

/// Flat 32-bit segments without paging.
fn begin(state: &mut VcpuState) {
    let data = Segment { selector: 16, base: 0, limit: 0xffff_ffff, access: 0xc093 };
    let unusable = Segment { access: 1 << 16, ..Segment::default() };
    let fresh = VcpuState {
        rflags: 2,
        cr0: 0x31,
        cs: Segment { selector: 8, access: 0xc09b, ..data },
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ldtr: unusable,
        tr: Segment { selector: 24, base: 0, limit: 0x67, access: 0x8b },
        rsp: order::STACK,
        gdtr: Table { base: order::DESCRIPTORS, limit: 15 },
        idtr: Table { base: GATES, limit: 0x7ff },
        dr7: 0x400,
        pat: 0x0007_0406_0007_0406,
        ..VcpuState::default()
    };
    *state = fresh;
}

/// Lets the guest go, and waits until it leaves.
fn touch(state: &mut VcpuState, words: Words8, started: &mut bool, script: &str) -> Words8 {
    (state.rip, state.gprs.rbx, state.gprs.rcx) = (words[1], words[2], words[3]);
    let write = if *started { StateMask::RIP } else { StateMask::all() & !StateMask::CODE };
    let resume = Resume { vcpu: 0, vm: 0, flags: ResumeFlags::empty(), write, event: None };
    let mut next = if core::mem::replace(started, true) {
        let mut resume = resume.to_words();
        resume[1] = words[4];
        rt::reply_words(resume)
    } else {
        if let Err(refused) = rt::run(resume) {
            log::error!("the vCPU was not let run: {refused}");
        }
        rt::receive_words()
    };
    if let Received::Notice(bits, _) = next.received()
        && bits & notice::TASK_STOPPED != 0
    {
        if script != "shadowed" {
            stopped(script);
        }
        // The shadow has stopped, which is nothing to the guest.
        next = rt::receive_words();
    }
    if next.exit().is_some() {
        let [head, first, second, ..] = next.words;
        return [order::EXIT, head, first, second, state.gprs.rax, 0, 0, 0];
    }
    // It asked for nothing else; the system ends with it.
    panic!("the server received {:?}", next.received());
}

/// The pager has died with this task's call: it is answered, and the supervisor is told.
fn waited(script: &str, refused: Refused) -> ! {
    match refused {
        Refused::Unreachable => log::info!("case {script}::waiting_callers_are_answered ok"),
        other => log::info!("case {script}::waiting_callers_are_answered failed: {other:?}"),
    }
    match rt::receive() {
        Received::Notice(bits, _) if bits & notice::TASK_STOPPED != 0 => stopped(script),
        other => panic!("the server received {other:?}"),
    }
}

/// The pager is no more: what a server sees of that.
fn stopped(script: &str) -> ! {
    let told_at = rt::tsc();
    let say = |case: &str, failure: Option<&dyn Debug>| match failure {
        None => log::info!("case {script}::{case} ok"),
        Some(failure) => log::info!("case {script}::{case} failed: {failure:?}"),
    };
    say("supervisor_is_told", None);
    let sent = rt::send(handle::pager(0), 0);
    say("callers_find_nobody", if sent == Err(Refused::Unreachable) { None } else { Some(&sent) });
    if script == "called" {
        // Its vCPU never ran, and would now.
        kept(&say);
    }
    let run = Resume { vcpu: 0, vm: 0, flags: ResumeFlags::empty(), write: StateMask::empty(), event: None };
    let run = rt::run(run);
    say("vcpu_waits_on", if run == Err(Refused::NotParked) { None } else { Some(&run) });
    match script {
        "lives" => lives::look_after(),
        "deadline" => lives::was_busy(told_at),
        _ => {}
    }
    kept(&say)
}

/// What the pager had granted is there still; and the end.
fn kept(say: &dyn Fn(&str, Option<&dyn Debug>)) -> ! {
    let mut seen = [0; 4];
    let read = Window::new(0, SEEN).read(order::KEPT, &mut seen);
    let seen = u32::from_le_bytes(seen);
    say("grants_stay", if read && seen == order::KEPT_WORD { None } else { Some(&seen) });
    end()
}

fn end() -> ! {
    let _ = rt::power_off(End::Done);
    loop {
        let _ = rt::receive();
    }
}
