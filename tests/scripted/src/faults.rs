//! The way of a fault: what it says, and what each answer leads to.

use crate::desk::{Access, Desk, PAGE, same};
use ipc_proto::exit::Exit;
use ipc_proto::fault::{FaultKind, FaultReply, Origin, TopUp};
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::{DenyReason, Refused};

const GPA: u64 = PAGE << 12;
/// More than the kernel lets a guest come back to one fault.
const AGAIN: usize = 400;
/// So many refused operations in a row are a flood.
const FLOOD: u64 = 1000;
/// Long enough for a guest that runs to be seen, in ticks.
const A_WHILE: u64 = 200_000;

/// Tries them.
pub fn try_all(desk: &mut Desk) {
    messages(desk);
    answers(desk);
    bad_answers(desk);
    remembered(desk);
    pending(desk);
}

fn messages(desk: &mut Desk) {
    desk.case("fault::says_what_happened", |desk| {
        for (access, bit) in [(Access::Read, 1), (Access::Write(1), 2), (Access::Fetch, 4)] {
            let [seq, tables, ..] = desk.info(0);
            desk.touch(GPA + 0x18, access);
            let fault = desk.fault()?;
            same((fault.vm, fault.vcpu, fault.origin, fault.kind), (0, 0, Origin::Vcpu, FaultKind::Violation))?;
            same((fault.gpa.0, fault.mmu_seq, fault.idt_vectoring), (GPA + 0x18, seq, 0))?;
            same(u64::from(fault.tables_left), tables)?;
            same((access, fault.qualification.bits() & 0x3f), (access, bit))?;
            desk.answer(&FaultReply::Deny(DenyReason::Policy));
            desk.exit()?;
        }
        Ok(())
    });
    desk.case("fault::words_that_say_nothing_are_zero", |desk| {
        desk.touch(GPA + 0x18, Access::Read);
        desk.fault()?;
        same((desk.words()[0] >> 48, desk.words()[4], desk.words()[5]), (0, crate::order::CODE_READ, 0))?;
        desk.answer_words([0; 6]);
        desk.refusal()?;
        same((desk.words()[0] >> 48, desk.words()[4]), (0, crate::order::CODE_READ))
    });
    desk.case("fault::an_interrupted_event_is_delivered_again", |desk| {
        const EVENT: u64 = 1 << 31 | 3 << 8 | 6;
        desk.touch(crate::order::CODE, Access::Read);
        desk.exit()?;
        let gate = rt::frame(desk.free);
        gate.clear();
        gate.set_word(12, crate::order::CODE_HANDLER as u32 | 8 << 16);
        gate.set_word(13, 0x8e00);
        // What it would do without the event is another fault.
        desk.touch_with_event(GPA + 0x5000, Access::Read, EVENT);
        let fault = desk.fault()?;
        same((fault.gpa.0 >> 12, u64::from(fault.idt_vectoring)), (PAGE, EVENT))?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)
    });
    desk.case("fault::the_access_is_done_after_the_answer", |desk| {
        rt::frame(desk.free).set_word(3, 0x600d_f00d);
        let mapped = desk.info(0)[2];
        desk.touch(GPA + 12, Access::Read);
        desk.fault()?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        let (exit, value) = desk.exit()?;
        same((exit, value & 0xffff_ffff), (Exit::Hypercall, 0x600d_f00d))?;
        same(desk.info(0)[2], mapped + 1)?;
        desk.touch(GPA + 16, Access::Write(0x77));
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(rt::frame(desk.free).word(4), 0x77)
    });
}

fn answers(desk: &mut Desk) {
    desk.case("answer::mmio_goes_to_the_server", |desk| {
        desk.touch(GPA + 4, Access::Write(1));
        let fault = desk.fault()?;
        desk.answer(&FaultReply::Mmio(0));
        same(desk.exit()?.0, Exit::Mmio(GPA + 4, u64::from(fault.qualification.bits())))?;
        desk.touch(GPA + 4, Access::Read);
        same(desk.fault()?.kind, FaultKind::Violation)
    });
    desk.case("answer::deny_goes_to_the_server", |desk| {
        for reason in DenyReason::ALL {
            desk.touch(GPA + 4, Access::Read);
            desk.fault()?;
            desk.answer(&FaultReply::Deny(*reason));
            same(desk.exit()?.0, Exit::Denied(GPA + 4, *reason))?;
        }
        Ok(())
    });
    desk.case("answer::retry_tries_again", |desk| {
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.answer(&FaultReply::Retry);
        same(desk.exit()?.0, Exit::Hypercall)
    });
    desk.case("answer::retry_without_end_is_stuck", |desk| {
        desk.touch(GPA + 0x40, Access::Read);
        for _ in 0..AGAIN {
            if desk.fault().is_err() {
                break;
            }
            desk.answer(&FaultReply::Retry);
        }
        match desk.exit()?.0 {
            Exit::Stuck(gpa, _) => same(gpa, GPA + 0x40),
            other => same(other, Exit::Stuck(GPA + 0x40, 0)),
        }
    });
    desk.case("answer::grants_that_fix_nothing_are_stuck", |desk| {
        desk.touch(GPA + 0x40, Access::Write(1));
        for _ in 0..AGAIN {
            if desk.fault().is_err() {
                break;
            }
            // Another page, which is installed.
            desk.answer_claim(ClaimedGrant { gfn: PAGE + 1, ..desk.claim() }, 0, TopUp::default());
        }
        same(matches!(desk.exit()?.0, Exit::Stuck(gpa, _) if gpa == GPA + 0x40), true)
    });
    desk.case("answer::a_late_grant_is_stale", |desk| {
        desk.touch(GPA, Access::Read);
        let fault = desk.fault()?;
        let late = desk.claim();
        same(desk.op(MemOp::Unmap, PAGE + 8, 1, 0).is_ok(), true)?;
        desk.answer_claim(late, 0, TopUp::default());
        let (again, why) = desk.refusal()?;
        same((why, again.mmu_seq), (Refused::Stale, fault.mmu_seq + 1))?;
        desk.answer_claim(ClaimedGrant { mmu_seq: again.mmu_seq, ..late }, 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)
    });
}

fn bad_answers(desk: &mut Desk) {
    desk.case("answer::unknown_variants_reasons_and_bits", |desk| {
        let words = [
            0,
            6 << 56,
            255 << 56,
            5 << 56,
            5 << 56 | 5 << 32,
            5 << 56 | 255 << 32,
            1 << 56 | 1 << 19,
            1 << 56 | 1 << 32,
            1 << 56 | 1 << 40,
            2 << 56 | 1,
            3 << 56 | 1 << 24,
            3 << 56 | 1 << 55,
            4 << 56 | 1 << 32,
        ];
        desk.touch(GPA, Access::Read);
        let fault = desk.fault()?;
        for word in words {
            desk.answer_words([word, 0, 0, 0, 0, 0]);
            let (again, why) = desk.refusal()?;
            same((word, why), (word, Refused::UnknownVariant))?;
            same(again, fault)?;
        }
        Ok(())
    });
    desk.case("flood::refused_operations_change_nothing", |desk| {
        let before = desk.info(0);
        for n in 0..FLOOD {
            let claim = ClaimedGrant { pfn: desk.servers + n, gfn: n, ..desk.claim() };
            same(desk.map(0, claim).is_err(), true)?;
            same(desk.op(MemOp::Donate, desk.servers + n, 1, 0).is_err(), true)?;
            same(desk.op(MemOp::Ready, n, 0, 0).err(), Some(Refused::UnknownToken))?;
        }
        same(desk.info(0), before)?;
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)
    });
    desk.case("answer::tables_are_kept_when_the_grant_is_refused", |desk| {
        let tables = desk.info(0)[1];
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        let first = desk.gift(2);
        desk.answer_claim(ClaimedGrant { pfn: desk.servers, ..desk.claim() }, 0, TopUp { first, count: 2 });
        let (again, why) = desk.refusal()?;
        same((why, u64::from(again.tables_left)), (Refused::NotYours, tables + 2))?;
        same(desk.info(0)[1], tables + 2)
    });
    desk.case("answer::refused_tables_refuse_the_answer", |desk| {
        let before = desk.info(0);
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_claim(desk.claim(), 0, TopUp { first: desk.servers, count: 1 });
        same(desk.refusal()?.1, Refused::NotYours)?;
        desk.answer_words(FaultReply::Retry.to_words(TopUp { first: desk.free, count: 513 }));
        same(desk.refusal()?.1, Refused::BadCount)?;
        same(desk.info(0), before)
    });
}

fn remembered(desk: &mut Desk) {
    desk.case("mmio::is_remembered_for_its_generation", |desk| {
        same(desk.op(MemOp::Generation, 5, 0, 0).is_ok(), true)?;
        desk.touch(GPA + 4, Access::Read);
        desk.fault()?;
        desk.answer(&FaultReply::Mmio(5));
        desk.exit()?;
        desk.touch(GPA + 8, Access::Write(1));
        same(desk.exit()?.0, Exit::Mmio(GPA + 8, 0))?;
        same(desk.op(MemOp::Generation, 6, 0, 0).is_ok(), true)?;
        desk.touch(GPA + 8, Access::Read);
        let fault = desk.fault()?;
        same((fault.kind, fault.gpa.0), (FaultKind::Misconfiguration, GPA + 8))?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)
    });
    desk.case("mmio::another_generation_is_not_remembered", |desk| {
        same(desk.op(MemOp::Generation, 9, 0, 0).is_ok(), true)?;
        for generation in [0, 8, 10] {
            desk.touch(GPA + 4, Access::Read);
            same((generation, desk.fault()?.kind), (generation, FaultKind::Violation))?;
            desk.answer(&FaultReply::Mmio(generation));
            desk.exit()?;
        }
        desk.touch(GPA + 4, Access::Read);
        same(desk.fault()?.kind, FaultKind::Violation)
    });
}

fn pending(desk: &mut Desk) {
    desk.case("pending::waits_for_ready", |desk| {
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_and_wait(&FaultReply::Pending(42), A_WHILE)?;
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.wait(A_WHILE)?;
        same(desk.op(MemOp::Ready, 41, 0, 0).err(), Some(Refused::UnknownToken))?;
        same(desk.op(MemOp::Ready, 42, 0, 0).is_ok(), true)?;
        same(desk.op(MemOp::Ready, 42, 0, 0).err(), Some(Refused::UnknownToken))?;
        desk.receive();
        same(desk.exit()?.0, Exit::Hypercall)
    });
    desk.case("pending::is_asked_again", |desk| {
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_and_wait(&FaultReply::Pending(7), A_WHILE)?;
        same(desk.op(MemOp::Ready, 7, 0, 0).is_ok(), true)?;
        desk.receive();
        same(desk.fault()?.gpa.0, GPA)
    });
    desk.case("pending::a_second_answer_is_not_asked", |desk| {
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_and_wait(&FaultReply::Pending(8), A_WHILE)?;
        let [shape, gfn, pfn, seq] = {
            let c = desk.claim();
            [c.shape | 1 << 56, c.gfn, c.pfn, c.mmu_seq]
        };
        same(desk.call(0, [shape, gfn, pfn, seq, 0, 0]).status, Refused::NotAsked as u64)?;
        same(desk.op(MemOp::Read, PAGE, 0, 0).err(), Some(Refused::NotAsked))?;
        same(desk.op(MemOp::Ready, 8, 0, 0).is_ok(), true)?;
        desk.receive();
        same(desk.fault()?.gpa.0, GPA)
    });
}
