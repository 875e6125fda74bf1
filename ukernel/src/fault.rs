//! A guest's fault: from the exit to the pager's question, and from its answer to the entry.

use crate::arch::vmx::guest::Violation;
use crate::core::{Context, Core, Next};
use crate::ept::TableMemory;
use crate::frame::Granter;
use crate::grant::{self, Against};
use crate::mend;
use crate::mmio;
use crate::portal::After;
use crate::system::System;
use crate::vcpu::{Status, Vcpu};
use crate::vm::{StaleTlb, Vm};
use crate::window;
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::call::{Cause, Received};
use ipc_proto::exit::Exit;
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification, TopUp};
use ipc_proto::grant::{ClaimedGrant, Gpa, Pfn};
use ipc_proto::refused::Refused;
use ipc_proto::words::Words;

/// An EPT violation or misconfiguration has left the guest: its pager is asked.
#[inline(always)]
pub fn left(core: &mut Core, id: u8, kind: FaultKind, now: u64) -> Next {
    let vcpu = &mut core.vcpus[usize::from(id)];
    let violation = vcpu.cpu.violation();
    if violation.idt_vectoring >> 31 != 0 {
        vcpu.cpu.redeliver(violation.idt_vectoring);
    } else if violation.qualification & u64::from(Qualification::NMI_UNBLOCKED.bits()) != 0 {
        vcpu.cpu.block_nmi();
    }
    let vm = &core.system.vms[usize::from(vcpu.vm)];
    let (gpa, gfn, delivers) = (violation.gpa.0, violation.gpa.gfn(), violation.idt_vectoring >> 31 != 0);
    let Some(pager) = vm.pager else {
        return crate::exit::ask_server(core, id, Exit::NoPager(gpa, violation.qualification));
    };
    match kind {
        FaultKind::Violation if mend::might(vm, violation.qualification) => {
            let place = core.system.ept(vm).find(gfn.0, 1);
            if mend::mend(&place, mend::tried(violation.qualification)) {
                vcpu.counts.mended += 1;
                return core.run(Next::Guest(id));
            }
        }
        // No instruction has made an access that delivers an event: the pager is asked.
        FaultKind::Misconfiguration if !delivers && mmio::is_remembered(core.system, vm, gfn) => {
            vcpu.mended();
            return crate::exit::ask_server(core, id, Exit::Mmio(gpa, 0));
        }
        FaultKind::LogFull => vcpu.mended(),
        FaultKind::Violation | FaultKind::Misconfiguration => {}
    }
    if vcpu.is_stuck(violation.gpa, violation.qualification) {
        return crate::exit::ask_server(core, id, Exit::Stuck(gpa, violation.qualification));
    }
    vcpu.faults();
    vcpu.left_at = now;
    let question = (Received::Fault as u64, words(vcpu, &violation, kind));
    core.ask(Context::Vcpu(id), pager, question)
}

/// The fault of a vCPU as a message, made again: what the CPU said of the exit stays in the VMCS until the next entry.
#[cold]
pub fn message(core: &mut Core, id: u8) -> Words {
    core.load(id);
    let vcpu = &core.vcpus[usize::from(id)];
    let kind = match vcpu.cpu.reason() as u16 {
        49 => FaultKind::Misconfiguration,
        62 => FaultKind::LogFull,
        _ => FaultKind::Violation,
    };
    words(vcpu, &vcpu.cpu.violation(), kind)
}

#[inline(always)]
fn words(vcpu: &Vcpu, violation: &Violation, kind: FaultKind) -> Words {
    Fault {
        vcpu: u16::from(vcpu.number),
        vm: u16::from(vcpu.vm),
        tables_left: vcpu.of.tables_left.load(Relaxed) as u16,
        origin: Origin::Vcpu,
        kind,
        gpa: if kind == FaultKind::LogFull { Gpa(0) } else { violation.gpa },
        qualification: Qualification::from_bits_retain(violation.qualification as u32),
        idt_vectoring: violation.idt_vectoring,
        mmu_seq: vcpu.of.seq(),
        rip: vcpu.cpu.rip(),
    }
    .to_words()
}

/// The pager `id` has answered the fault of vCPU `asker`.
#[inline(always)]
pub fn answered(core: &mut Core, id: u8, asker: u8, words: &Words) -> After {
    let vm = core.vcpus[usize::from(asker)].of;
    let reply = match decode(core.system, vm, id, words) {
        Ok(reply) => reply,
        Err(refused) => return After::Again(refused),
    };
    match reply {
        ClaimedReply::Map(claim, more) => match map(core, id, vm, claim, more) {
            Ok((grants, pages)) => {
                let counts = &mut core.vcpus[usize::from(asker)].counts;
                counts.grants += grants;
                counts.pages += pages;
                go_on(core, asker)
            }
            Err(refused) => After::Again(refused),
        },
        ClaimedReply::Retry => go_on(core, asker),
        ClaimedReply::Pending(token) => {
            core.vcpus[usize::from(asker)].status = Status::Pending(token);
            After::Nothing
        }
        ClaimedReply::Mmio(generation) => {
            let violation = core.vcpus[usize::from(asker)].cpu.violation();
            mmio::remember(core.system, vm, violation.gpa.gfn(), generation);
            hand_over(core, asker, Exit::Mmio(violation.gpa.0, violation.qualification))
        }
        ClaimedReply::Deny(reason) => {
            let violation = core.vcpus[usize::from(asker)].cpu.violation();
            hand_over(core, asker, Exit::Denied(violation.gpa.0, reason))
        }
    }
}

#[inline(always)]
fn go_on(core: &mut Core, asker: u8) -> After {
    core.vcpus[usize::from(asker)].status = Status::Ready;
    After::Run(Next::Guest(asker))
}

/// The fault becomes an exit for the VM's server.
#[cold]
fn hand_over(core: &mut Core, asker: u8, exit: Exit) -> After {
    core.load(asker);
    let vcpu = &mut core.vcpus[usize::from(asker)];
    vcpu.status = Status::Exited(exit);
    vcpu.mended();
    vcpu.left_at = 0;
    After::Ask(Context::Vcpu(asker), core.system.vms[usize::from(vcpu.vm)].server)
}

/// The reply as what it claims to be, after the table frames that came with it were taken.
#[inline(always)]
fn decode(system: &System, vm: &Vm, pager: u8, words: &Words) -> Result<ClaimedReply, Refused> {
    let reply = ClaimedReply::from_words(words).map_err(|_| Refused::UnknownVariant)?;
    let top_up = TopUp::from_word(words[4]);
    if top_up.count != 0 {
        crate::memop::donate(system, vm, pager, Pfn(top_up.first), u64::from(top_up.count))?;
    }
    Ok(reply)
}

/// Maps the run of a reply and the further grants in the pager's message page. Says how many grants and pages.
///
/// # Errors
/// The first refusal; grants before it are installed.
#[inline(always)]
fn map(core: &Core, pager: u8, vm: &Vm, claim: ClaimedGrant, more: u8) -> Result<(u64, u64), Refused> {
    let (stale, pages) = install(core.system, vm, pager, claim)?;
    if more == 0 {
        stale.flush(vm);
        return Ok((1, pages));
    }
    map_more(core, pager, vm, more, (stale, pages))
}

/// Maps the further grants in the pager's message page; one flush for all.
#[cold]
fn map_more(
    core: &Core,
    pager: u8,
    vm: &Vm,
    more: u8,
    (mut stale, mut pages): (StaleTlb, u64),
) -> Result<(u64, u64), Refused> {
    let message = core.system.memory.table(core.threads[usize::from(pager)].task.message);
    for words in message.chunks_exact(4).take(usize::from(more)) {
        let [shape, gfn, pfn, mmu_seq] = core::array::from_fn(|n| words[n].load(Relaxed));
        match install(core.system, vm, pager, ClaimedGrant { shape, gfn, pfn, mmu_seq }) {
            Ok((more_stale, more_pages)) => {
                stale = stale.and(more_stale);
                pages += more_pages;
            }
            Err(refused) => {
                stale.flush(vm);
                return Err(refused);
            }
        }
    }
    stale.flush(vm);
    Ok((1 + u64::from(more), pages))
}

/// Checks and installs one grant.
///
/// # Errors
/// Why it was refused; nothing has changed then.
#[inline(always)]
pub fn install(system: &System, vm: &Vm, pager: u8, claim: ClaimedGrant) -> Result<(StaleTlb, u64), Refused> {
    let ept = system.ept(vm);
    let against = Against {
        by: Granter { task: pager, vm: vm.id },
        ept: &ept,
        guest_frames: vm.frames(),
        mmu_seq: vm.seq(),
        shapes: system.shapes,
    };
    let (stale, pages) = grant::install(claim, &against, &system.frames, &vm.pool)?;
    if stale == StaleTlb::Some {
        hide(system, vm, claim);
    }
    vm.mapped.fetch_add(pages, Relaxed);
    vm.note_tables();
    Ok((stale, pages))
}

/// What a grant took away is not to be seen in the window either: rights, or a frame that may be a table's next.
#[cold]
fn hide(system: &System, vm: &Vm, claim: ClaimedGrant) {
    if let Ok(grant) = claim.typed() {
        let end = claim.gfn + u64::from(grant.count) * grant.level.frames();
        window::hide(system, vm, claim.gfn, end);
    }
}

/// The pager `id` has answered the window access of thread `caller`.
pub fn window_answered(
    core: &mut Core,
    id: u8,
    caller: u8,
    (number, gpa, access): (u8, Gpa, u32),
    words: &Words,
) -> After {
    let vm = &core.system.vms[usize::from(number)];
    let reply = match decode(core.system, vm, id, words) {
        Ok(reply) => reply,
        Err(refused) => return After::Again(refused),
    };
    match reply {
        ClaimedReply::Map(claim, more) => match map(core, id, vm, claim, more) {
            Ok((grants, pages)) => {
                core.window_counts.faults += 1;
                core.window_counts.grants += grants;
                core.window_counts.pages += pages;
                window::show(core, caller, number, gpa, mend::tried(access.into()));
                After::Run(Next::Resume(caller))
            }
            Err(refused) => After::Again(refused),
        },
        ClaimedReply::Retry => After::Run(Next::Resume(caller)),
        ClaimedReply::Pending(_) => After::Again(Refused::UnknownVariant),
        ClaimedReply::Mmio(_) | ClaimedReply::Deny(_) => {
            let why = format_args!("its window access at {:#x} was not granted", gpa.0);
            core.has_stopped(caller, (Cause::Window, gpa.0), why);
            After::Nothing
        }
    }
}
