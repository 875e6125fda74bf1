//! VM exits: the kernel keeps interrupts and faults; every other exit is a question to the VM's server.

use crate::arch::cpu;
use crate::arch::vmx::guest::Window;
use crate::core::{Context, Core, Next};
use crate::portal::After;
use crate::vcpu::Status;
use crate::{fail, fault};
use ipc_proto::call::Received;
use ipc_proto::exit::{Event, Exit, ExitMessage, PortAccess, Resume, ResumeFlags};
use ipc_proto::fault::FaultKind;
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// The guest that ran was left. Basic exit reasons are those of the SDM, vol. 3D, appendix C.
#[inline(always)]
pub fn guest_left(core: &mut Core) -> Next {
    let now = cpu::tsc();
    let Context::Vcpu(id) = core.current else { return core.pick() };
    let vcpu = &mut core.vcpus[usize::from(id)];
    core.user.left_guest(vcpu.of.exit_space);
    vcpu.cpu.left();
    let reason = vcpu.cpu.reason();
    let basic = reason as u16;
    if let Some(count) = vcpu.counts.exits.get_mut(usize::from(basic)) {
        *count += 1;
    }
    if reason >> 31 != 0 {
        let qualification = vcpu.cpu.qualification();
        return ask_server(core, id, Exit::EntryFailed(u64::from(basic), qualification));
    }
    match basic {
        0 => exception(core, id),
        1 => interrupted(core, id),
        48 => fault::left(core, id, FaultKind::Violation, now),
        49 => fault::left(core, id, FaultKind::Misconfiguration, now),
        62 => fault::left(core, id, FaultKind::LogFull, now),
        _ => {
            let exit = typed(core, id, basic);
            ask_server(core, id, exit)
        }
    }
}

/// The CPU refused to enter the guest at all.
#[cold]
pub fn entry_refused(core: &mut Core) -> Next {
    let Context::Vcpu(id) = core.current else { return core.pick() };
    let error = core.vcpus[usize::from(id)].cpu.refused();
    // 5: it was resumed and had never got in, since its server's state was refused at its launch. It is launched again.
    if error == 5 { core.run(Next::Guest(id)) } else { ask_server(core, id, Exit::EntryFailed(error, 0)) }
}

/// An interrupt of the machine: the CPU has acknowledged it and says which.
fn interrupted(core: &mut Core, id: u8) -> Next {
    let (information, _) = core.vcpus[usize::from(id)].cpu.interruption();
    core.interrupt(information as u8);
    // Another vCPU that is ready has its turn: a guest that never waits must not keep the CPU from it.
    core.defer(Next::Guest(id));
    core.pick()
}

/// #DB and #AC are the guest's own and are delivered to it; NMIs are the machine's and nothing is to be done.
fn exception(core: &mut Core, id: u8) -> Next {
    let vcpu = &mut core.vcpus[usize::from(id)];
    let (information, code) = vcpu.cpu.interruption();
    match information as u8 {
        1 => vcpu.cpu.deliver_debug(information & !(1 << 12)),
        17 => vcpu.cpu.deliver(information & !(1 << 12), code),
        2 => {}
        vector => fail::end_kernel(core, format_args!("exception {vector} left a guest")),
    }
    core.run(Next::Guest(id))
}

/// The exit of that basic reason, with what belongs to it.
fn typed(core: &mut Core, id: u8, reason: u16) -> Exit {
    let guest = &mut core.vcpus[usize::from(id)].cpu;
    match reason {
        2 => Exit::TripleFault,
        7 => {
            guest.set_interrupt_window(Window::Unwanted);
            Exit::InterruptWindow
        }
        10 => Exit::Cpuid,
        12 => Exit::Hlt,
        13 | 54 => Exit::CacheControl,
        18 => Exit::Hypercall,
        28 => Exit::ControlRegister(guest.qualification()),
        29 => Exit::DebugRegister(guest.qualification()),
        30 => Exit::Port(PortAccess::from_qualification(guest.qualification())),
        31 => Exit::ReadMsr,
        32 => Exit::WriteMsr,
        55 => Exit::Xsetbv,
        other => Exit::Other(u64::from(other), guest.qualification()),
    }
}

/// The VM's server is asked what to do about `exit`.
#[inline]
pub fn ask_server(core: &mut Core, id: u8, exit: Exit) -> Next {
    let vcpu = &mut core.vcpus[usize::from(id)];
    vcpu.status = Status::Exited(exit);
    let server = core.system.vms[usize::from(vcpu.vm)].server;
    let question = (Received::Exit as u64, message(core, id, exit));
    core.ask(Context::Vcpu(id), server, question)
}

/// The exit of a vCPU as a message; the guest state that travels with it goes into the state page.
#[inline]
pub fn message(core: &mut Core, id: u8, exit: Exit) -> Words {
    core.load(id);
    let vcpu = &core.vcpus[usize::from(id)];
    let travels = exit.travels();
    if !travels.is_empty() {
        vcpu.cpu.read_state(travels);
    }
    let length = vcpu.cpu.instruction_length();
    ExitMessage { vcpu: u16::from(vcpu.number), vm: u16::from(vcpu.vm), length, exit }.to_words()
}

/// The VM's server has answered the exit of vCPU `id`.
#[inline]
pub fn resumed(core: &mut Core, id: u8, exit: Exit, words: &Words) -> After {
    let Ok(resume) = Resume::from_words(words) else { return After::Again(Refused::UnknownVariant) };
    if resume.flags.contains(ResumeFlags::MORE) {
        core.load(id);
        let vcpu = &core.vcpus[usize::from(id)];
        vcpu.cpu.read_state(resume.write);
        return After::Ask(Context::Vcpu(id), core.system.vms[usize::from(vcpu.vm)].server);
    }
    if resume.flags.contains(ResumeFlags::PARK) {
        core.vcpus[usize::from(id)].status = Status::Parked(Some(exit));
        return After::Nothing;
    }
    apply(core, id, &resume, Some(exit));
    After::Run(Next::Guest(id))
}

/// Makes the state of vCPU `id`, which stopped in `exit`, what `resume` says, and the vCPU ready.
#[inline]
pub fn apply(core: &mut Core, id: u8, resume: &Resume, exit: Option<Exit>) {
    core.load(id);
    let vcpu = &mut core.vcpus[usize::from(id)];
    if !resume.write.is_empty() {
        vcpu.cpu.write_state(resume.write);
    }
    if resume.flags.contains(ResumeFlags::ADVANCE) {
        vcpu.cpu.advance();
        if exit == Some(Exit::Hlt) {
            vcpu.cpu.end_shadow();
        }
    }
    if let Some(event) = resume.event {
        let word = event.to_word();
        vcpu.cpu.deliver(word as u32, (word >> 32) as u32);
        if let Event::Exception(_) | Event::ExceptionWithCode(..) = event {
            vcpu.cpu.mark_fault();
        }
    }
    let wanted = resume.flags.contains(ResumeFlags::WINDOW);
    vcpu.cpu.set_interrupt_window(if wanted { Window::Wanted } else { Window::Unwanted });
    vcpu.status = Status::Ready;
}
