//! The short way: a fault to the pager and back, and a plain exit to the VM's server and back, when nothing is out of the
//! ordinary. Each half looks at everything first and changes nothing unless it goes through with it; else the long way
//! ([`crate::exit`], [`crate::fault`], [`crate::portal`], [`crate::grant`]) does the same, and whatever else there is to
//! do. It exists for its length: no walk while the table stays the same, no copy of a message, nothing kept for later.

use crate::arch::cpu;
use crate::arch::vmx::ept_entry::{EptFormat, page_bits, run_bits};
use crate::arch::vmx::guest::{Entry, Violation, Window};
use crate::call::Caller;
use crate::core::{Context, Core, VCPU_PRIORITY};
use crate::ept::{Entry as EptEntry, Format, Place, Table};
use crate::frame::{Granter, Run};
use crate::grant;
use crate::mend;
use crate::system::System;
use crate::task::Handle;
use crate::thread::{Question, State, Thread};
use crate::vcpu::{LeafTable, Status, Vcpu};
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use ipc_proto::call::{Call, Received};
use ipc_proto::exit::{Exit, ExitMessage, PortAccess, ResumeFlags};
use ipc_proto::fault::{FaultReply, Qualification, TopUp};
use ipc_proto::grant::{Level, Pfn};
use ipc_proto::words::Words;

/// What a thread's system call comes back with, and where.
pub struct Message {
    /// Its instruction pointer.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// rax.
    pub status: u64,
    /// The message registers.
    pub words: Words,
}

/// A violation with this interrupted an IRET.
const IRET: u64 = Qualification::NMI_UNBLOCKED.bits() as u64;

/// The guest that ran was left: who goes on, if everyone that this concerns waits for nothing else.
#[inline(always)]
pub fn left(core: &mut Core) -> Option<Next> {
    let Context::Vcpu(id) = core.current else { return None };
    let vcpu = core.vcpus.get(usize::from(id))?;
    match vcpu.cpu.reason() {
        48 => faulted(core, id),
        10 => exited(core, id, 10, Exit::Cpuid),
        30 => {
            let access = PortAccess::from_qualification(vcpu.cpu.qualification());
            if access.string() { None } else { exited(core, id, 30, Exit::Port(access)) }
        }
        _ => None,
    }
}

/// The VM's pager is asked about a violation.
#[inline(always)]
fn faulted(core: &mut Core, id: u8) -> Option<Next> {
    let vcpu = core.vcpus.get_mut(usize::from(id))?;
    let vm = vcpu.of;
    let now = cpu::tsc();
    let violation = vcpu.cpu.violation();
    if violation.idt_vectoring >> 31 != 0 || violation.qualification & IRET != 0 || vm.hides.load(Relaxed) {
        return None;
    }
    if violation.qualification & mend::LEFT != 0 {
        return mended(core, id, &violation);
    }
    let pager = vm.pager?;
    let thread = waiting(&mut core.threads, pager)?;
    if core.ready.outranks(thread.task.priority) || vcpu.may_be_stuck(violation.gpa) {
        return None;
    }
    vcpu.cpu.left();
    vcpu.counts.exits[48] += 1;
    vcpu.status = Status::Faulted;
    vcpu.left_at = now;
    core.user.left_guest(vm.exit_space);
    core.current = Context::Thread(pager);
    let head = vcpu.badge | vm.tables_left.load(Relaxed) << 32;
    let words = [head, violation.gpa.0, violation.qualification & 0xffff_ffff, vm.seq(), vcpu.cpu.rip(), 0];
    Some(Next::Thread(serve(thread, Context::Vcpu(id), Received::Fault, words)))
}

/// A harvest has taken the right that the access needs: the guest gets it back and goes on, and nobody else has run.
#[inline(always)]
fn mended(core: &mut Core, id: u8, violation: &Violation) -> Option<Next> {
    let vcpu = core.vcpus.get_mut(usize::from(id))?;
    let gfn = violation.gpa.gfn().0;
    let table = match vcpu.leaf_table.of(gfn, vcpu.of.seq()) {
        Some(table) => table,
        None => known_table(vcpu, core.system, gfn)?,
    };
    let index = gfn as usize % 512;
    let place = Place { table, index, level: 1, entry: table[index].load(Relaxed) };
    if !mend::mend(&place, mend::tried(violation.qualification)) {
        return None;
    }
    vcpu.counts.exits[48] += 1;
    vcpu.counts.mended += 1;
    core.user.left_guest(vcpu.of.exit_space);
    Some(Next::Guest(vcpu.cpu.as_it_was_left()))
}

/// The table for `gfn`, which is not that of the page before, if there is one.
#[cold]
fn known_table(vcpu: &mut Vcpu, system: &'static System, gfn: u64) -> Option<&'static Table> {
    let place = Some(system.ept(vcpu.of).find(gfn, 1)).filter(|place| place.level == 1)?;
    vcpu.leaf_table = LeafTable::new(gfn, vcpu.of.seq(), place.table);
    Some(place.table)
}

/// The VM's server is asked about an exit with which no state travels.
#[inline(always)]
fn exited(core: &mut Core, id: u8, reason: usize, exit: Exit) -> Option<Next> {
    let vcpu = core.vcpus.get_mut(usize::from(id))?;
    let server = vcpu.of.server;
    let thread = waiting(&mut core.threads, server)?;
    if core.ready.outranks(thread.task.priority) {
        return None;
    }
    vcpu.cpu.left();
    vcpu.counts.exits[reason] += 1;
    vcpu.status = Status::Exited(exit);
    let (number, vm) = (u16::from(vcpu.number), u16::from(vcpu.vm));
    let words = ExitMessage { vcpu: number, vm, length: vcpu.cpu.instruction_length(), exit }.to_words();
    core.current = Context::Thread(server);
    core.user.left_guest(vcpu.of.exit_space);
    core.user.enter(thread.task);
    Some(Next::Thread(serve(thread, Context::Vcpu(id), Received::Exit, words)))
}

/// The thread, if it waits for a message.
#[inline(always)]
fn waiting(threads: &mut [Thread], id: u8) -> Option<&mut Thread> {
    threads.get_mut(usize::from(id)).filter(|thread| thread.state == State::Receiving)
}

#[inline(always)]
fn serve(thread: &mut Thread, asker: Context, kind: Received, words: Words) -> Message {
    thread.state = State::Frame;
    thread.serving = asker;
    thread.messages += 1;
    Message { rip: thread.rip, rsp: thread.rsp, status: kind as u64, words }
}

/// Where the kernel is left to.
pub enum Next {
    /// Into this guest.
    Guest(Entry),
    /// Into the thread that gets this.
    Thread(Message),
}

/// A system call of the thread that runs: an answer, or a call that carries nothing but itself.
#[inline(always)]
pub fn called(core: &mut Core, caller: &Caller) -> Option<Next> {
    const REPLY: u64 = Call::ReplyReceive as u64;
    const SEND: u64 = Call::Send as u64;
    if caller.number > SEND || !caller.is_sound() {
        return None;
    }
    let Context::Thread(id) = core.current else { return None };
    let thread = core.threads.get_mut(usize::from(id))?;
    match caller.number {
        REPLY if !thread.has_mail() => match thread.serving {
            Context::Vcpu(asker) => answered_vcpu(core, caller, (id, asker)),
            Context::Thread(asker) => answered_thread(core, caller, (id, asker)),
            Context::Idle => None,
        },
        SEND => sent(core, caller, id),
        _ => None,
    }
}

/// The thread waits for its next message.
#[inline(always)]
fn receives(thread: &mut Thread, caller: &Caller) {
    thread.rip = caller.rip;
    thread.rsp = caller.rsp;
    thread.serving = Context::Idle;
    thread.state = State::Receiving;
    thread.refused = 0;
}

/// Thread `id` answers the call of thread `asker`, with nothing in the message page.
#[inline(always)]
fn answered_thread(core: &mut Core, caller: &Caller, (id, asker): (u8, u8)) -> Option<Next> {
    let [thread, asking] = core.threads.get_disjoint_mut([usize::from(id), usize::from(asker)]).ok()?;
    let called = matches!(asking.state, State::Asking(Question::Call { .. }));
    if !called || caller.words[0] != 0 || core.ready.outranks(asking.task.priority) {
        return None;
    }
    asking.state = State::Frame;
    core.user.enter(asking.task);
    let message = Message { rip: asking.rip, rsp: asking.rsp, status: 0, words: [0; 6] };
    receives(thread, caller);
    core.round_trips += 1;
    core.current = Context::Thread(asker);
    Some(Next::Thread(message))
}

/// Thread `id` calls a portal with nothing in the message page.
#[inline(always)]
fn sent(core: &mut Core, caller: &Caller, id: u8) -> Option<Next> {
    let thread = core.threads.get(usize::from(id))?;
    let Ok(Handle::Portal(vm, to)) = thread.task.handle(caller.words[0]) else { return None };
    // Nobody calls itself: it runs and does not wait.
    let [thread, server] = core.threads.get_disjoint_mut([usize::from(id), usize::from(to)]).ok()?;
    if server.state != State::Receiving || caller.words[1] != 0 || core.ready.outranks(server.task.priority) {
        return None;
    }
    thread.rip = caller.rip;
    thread.rsp = caller.rsp;
    thread.state = State::Asking(Question::Call { to, len: 0, vm });
    core.current = Context::Thread(to);
    core.user.enter(server.task);
    let question = [u64::from(vm), 0, 0, 0, 0, 0];
    Some(Next::Thread(serve(server, Context::Thread(id), Received::Call, question)))
}

/// Thread `id` answers a vCPU, whose registers the CPU holds: it can be entered at once.
#[inline(always)]
fn answered_vcpu(core: &mut Core, caller: &Caller, (id, asker): (u8, u8)) -> Option<Next> {
    if core.resident != asker || core.ready.outranks(VCPU_PRIORITY) {
        return None;
    }
    let thread = core.threads.get_mut(usize::from(id))?;
    let vcpu = core.vcpus.get_mut(usize::from(asker))?;
    match vcpu.status {
        Status::Faulted => {
            let by = Granter { task: id, vm: vcpu.vm };
            granted(vcpu, core.system, by, &caller.words)?;
            vcpu.fault_ends(cpu::tsc());
        }
        Status::Exited(exit) => resumed(vcpu, exit, &caller.words)?,
        Status::Watched | Status::Ready | Status::Parked(_) | Status::Pending(_) => return None,
    }
    vcpu.status = Status::Ready;
    receives(thread, caller);
    core.round_trips += 1;
    core.current = Context::Vcpu(asker);
    Some(Next::Guest(vcpu.cpu.about_to_resume()))
}

/// The pager's answer is to try again, or one page of RAM that is mapped nowhere, where nothing is yet.
#[inline(always)]
fn granted(vcpu: &mut Vcpu, system: &'static System, by: Granter, words: &Words) -> Option<()> {
    const RETRY: u64 = FaultReply::Retry.to_words(TopUp { first: 0, count: 0 })[0];
    let [shape, gfn, pfn, mmu_seq, top_up, _] = *words;
    if top_up != 0 {
        return None;
    }
    if shape == RETRY {
        return Some(());
    }
    let Some(bits) = page_bits(shape, Level::Page) else { return run_granted(vcpu, system, by, words) };
    let leaf = bits | pfn << 12;
    let vm = vcpu.of;
    if mmu_seq != vm.seq() {
        return None;
    }
    if !system.frames.claim_page(Pfn(pfn), by.task, vm.first_mapping) {
        return None;
    }
    let table = vcpu.leaf_table.of(gfn, mmu_seq).or_else(|| another_table(vcpu, system, gfn));
    let installed = table.map(|table| table[gfn as usize % 512].compare_exchange(0, leaf, AcqRel, Relaxed));
    if !matches!(installed, Some(Ok(_))) {
        system.frames.unmap(Run::small(Pfn(pfn), 1));
        return None;
    }
    vm.mapped.fetch_add(1, Relaxed);
    vcpu.counts.grants += 1;
    vcpu.counts.pages += 1;
    Some(())
}

/// The pager's answer is one grant of any other kind, and nothing else: a large page, or a run of small ones that are mapped
/// nowhere, which one table shall map.
#[inline(never)]
fn run_granted(vcpu: &mut Vcpu, system: &'static System, by: Granter, words: &Words) -> Option<()> {
    let [shape, gfn, pfn, mmu_seq, ..] = *words;
    if let Some(bits) = page_bits(shape, Level::Large) {
        return large_granted(vcpu, system, by, bits, words);
    }
    let (count, bits) = run_bits(shape)?;
    let (vm, index) = (vcpu.of, gfn as usize % 512);
    let fits = count != 0 && index + count <= 512 && mmu_seq == vm.seq();
    if !fits || !system.frames.claim_run(Pfn(pfn), count, by.task, vm.first_mapping) {
        return None;
    }
    let table = vcpu.leaf_table.of(gfn, mmu_seq).or_else(|| another_table(vcpu, system, gfn));
    let Some(run) = table.and_then(|table| table.get(index..index + count)) else {
        system.frames.unmap(Run::small(Pfn(pfn), count as u64));
        return None;
    };
    let (stale, pages) = grant::put(run, bits | pfn << 12, Level::Page, &system.frames);
    stale.flush(vm);
    vm.mapped.fetch_add(pages, Relaxed);
    vcpu.counts.grants += 1;
    vcpu.counts.pages += pages;
    Some(())
}

/// The answer is one large page of RAM of which nothing is mapped, where nothing is yet.
#[inline(always)]
fn large_granted(vcpu: &mut Vcpu, system: &'static System, by: Granter, bits: u64, words: &Words) -> Option<()> {
    let [_, gfn, pfn, mmu_seq, ..] = *words;
    let (vm, frames) = (vcpu.of, Level::Large.frames());
    let fits = (gfn | pfn) % frames == 0 && gfn < vm.frames() && system.shapes.largest >= Level::Large;
    if !fits || mmu_seq != vm.seq() || !system.frames.claim_block(Pfn(pfn), by) {
        return None;
    }
    let place = system.ept(vm).walk(gfn, 2);
    let slot = place.table.get(place.index).filter(|_| place.level == 2);
    if slot.is_none_or(|slot| slot.compare_exchange(0, bits | pfn << 12, AcqRel, Relaxed).is_err()) {
        system.frames.unmap(Run { first: Pfn(pfn), count: frames, level: 2 });
        return None;
    }
    vm.mapped.fetch_add(frames, Relaxed);
    vcpu.counts.grants += 1;
    vcpu.counts.pages += frames;
    Some(())
}

/// The table for `gfn`, which is not that of the page before; it is made if it is missing. A page that is larger is not
/// ordinary, nor is a pool that has too few frames.
#[cold]
fn another_table(vcpu: &mut Vcpu, system: &'static System, gfn: u64) -> Option<&'static Table> {
    let vm = vcpu.of;
    if gfn >= vm.frames() {
        return None;
    }
    let ept = system.ept(vm);
    let mut place = ept.find(gfn, 1);
    if place.level > 1 {
        if EptFormat::decode(place.entry, place.level) != EptEntry::Empty {
            return None;
        }
        let mut tables = system.frames.take(&mut vm.pool.lock(), u32::from(place.level - 1))?;
        vm.note_tables();
        place = ept.extend(place, gfn, 1, || system.frames.next_table(&mut tables))?;
    }
    vcpu.leaf_table = LeafTable::new(gfn, vm.seq(), place.table);
    Some(place.table)
}

/// The server's answer is to go on, over the instruction or at it, and nothing else.
#[inline(always)]
fn resumed(vcpu: &Vcpu, exit: Exit, words: &Words) -> Option<()> {
    const ADVANCE: u64 = ResumeFlags::ADVANCE.bits() as u64;
    if words[1] != 0 || vcpu.cpu.interrupt_window() == Window::Wanted || exit == Exit::Hlt {
        return None;
    }
    match words[0] >> 32 {
        ADVANCE => vcpu.cpu.advance(),
        0 => {}
        _ => return None,
    }
    Some(())
}
