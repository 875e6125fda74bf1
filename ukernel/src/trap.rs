//! Traps: interrupts that came while a task ran or nobody did, and faults of tasks.

use crate::arch::cpu;
use crate::arch::door::TrapFrame;
use crate::core::{Context, Core, Next};
use crate::thread::State;
use crate::window;
use ipc_proto::call::Cause;
use ipc_proto::grant::Rights;

/// General protection.
const PROTECTION: u64 = 13;
/// Page fault.
const PAGE_FAULT: u64 = 14;

/// A trap has stopped a task, or ended the wait for an interrupt.
pub fn trapped(core: &mut Core, frame: &TrapFrame) -> Next {
    let Context::Thread(id) = core.current else {
        core.interrupt(frame.vector as u8);
        return core.pick();
    };
    if frame.from_task() {
        core.threads[usize::from(id)].frame = *frame;
        core.threads[usize::from(id)].state = State::Frame;
    }
    match frame.vector {
        PAGE_FAULT => page_fault(core, id, frame, cpu::cr2()),
        PROTECTION if core.user.open_ports(id, core.threads[usize::from(id)].task) => core.run(Next::Resume(id)),
        0..32 => {
            let why = format_args!("exception {} (error {:#x}) at {:#x}", frame.vector, frame.error, frame.rip);
            core.stop(id, (Cause::Trap, frame.rip), why)
        }
        interrupt => {
            core.interrupt(interrupt as u8);
            // It may be this interrupt that stopped it.
            let stopped = core.threads[usize::from(id)].state == State::Stopped;
            if stopped { core.pick() } else { core.run(Next::Resume(id)) }
        }
    }
}

fn page_fault(core: &mut Core, id: u8, frame: &TrapFrame, address: u64) -> Next {
    let mut access = Rights::READ;
    access.set(Rights::WRITE, frame.error & 2 != 0);
    let fetch = frame.error & 16 != 0;
    if let Some((vm, gpa)) = window::at(address).filter(|_| !fetch) {
        let served = core.system.vms.get(usize::from(vm)).is_some_and(|vm| vm.server == id);
        if served && gpa.gfn().0 < core.system.vms[usize::from(vm)].frames() {
            return window::fault(core, id, vm, gpa, u32::from(access.bits()));
        }
    }
    let why = format_args!("page fault at {address:#x} (error {:#x}), instruction {:#x}", frame.error, frame.rip);
    core.stop(id, (Cause::Trap, frame.rip), why)
}
