//! The server: it does what the pager orders, and calls with what came of it.

use crate::order::{self, Words8};
use ipc_proto::call::{End, notice};
use ipc_proto::exit::{Resume, ResumeFlags};
use ipc_proto::layout::handle;
use ipc_proto::refused::Refused;
use ipc_proto::state::{Segment, StateMask, VcpuState};
use rt::{Received, StatePage, Task, Window};

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
        if rt::send(handle::pager(0), order::BYTES).is_err() {
            stopped(script);
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
        rt::reply_words(resume.to_words())
    } else {
        if let Err(refused) = rt::run(resume) {
            log::error!("the vCPU was not let run: {refused}");
        }
        rt::receive_words()
    };
    loop {
        if next.exit().is_some() {
            let [head, first, second, ..] = next.words;
            return [order::EXIT, head, first, second, state.gprs.rax, 0, 0, 0];
        }
        match next.received() {
            Received::Notice(bits) if bits & notice::TASK_STOPPED != 0 => stopped(script),
            other => log::error!("the server received {other:?}"),
        }
        next = rt::receive_words();
    }
}

/// The pager is no more: what a server sees of that.
fn stopped(script: &str) -> ! {
    log::info!("case {script}::supervisor_is_told ok");
    match rt::send(handle::pager(0), 0) {
        Err(Refused::Unreachable) => log::info!("case {script}::callers_find_nobody ok"),
        other => log::info!("case {script}::callers_find_nobody failed: {other:?}"),
    }
    let run = Resume { vcpu: 0, vm: 0, flags: ResumeFlags::empty(), write: StateMask::empty(), event: None };
    match rt::run(run) {
        Err(Refused::NotParked) => log::info!("case {script}::vcpu_waits_on ok"),
        other => log::info!("case {script}::vcpu_waits_on failed: {other:?}"),
    }
    end()
}

fn end() -> ! {
    let _ = rt::power_off(End::Done);
    loop {
        let _ = rt::receive();
    }
}
