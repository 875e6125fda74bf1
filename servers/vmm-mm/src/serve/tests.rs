use super::{TABLES_BATCH, TABLES_LOW};
use crate::fault::Prefetch;
use crate::resolve::PfRet;
use crate::stats::PfStats;
use crate::testing::{Asked, FIRST_PFN, FakeMachine, READ, WRITE, access, pager, pager_with, slot};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification, TopUp};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Rights};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use ipc_proto::words::Words;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

const NONE: SlotFlags = SlotFlags::empty();
const READONLY: SlotFlags = SlotFlags::READONLY;

fn reply(words: &Words) -> ClaimedReply {
    ClaimedReply::from_words(words).expect("a reply of this version")
}

fn map(words: &Words) -> Grant {
    match reply(words) {
        ClaimedReply::Map(claim, 0) => claim.typed().expect("a grant that is one"),
        other => panic!("not one mapping: {other:?}"),
    }
}

fn one_slot(flags: SlotFlags) -> (Box<super::Pager>, FakeMachine) {
    let mut machine = FakeMachine::default();
    let pager = pager_with(2000, &mut machine, &[(1, 0x100, 0x100, flags)]);
    (pager, machine)
}

#[test]
fn a_ram_fault_is_answered_with_its_page_and_nothing_else() {
    let (mut pager, mut machine) = one_slot(NONE);
    let fault = Fault { mmu_seq: 42, ..access(0x123, WRITE) };
    let words = pager.answer(&fault, &mut machine);
    let grant = map(&words);
    assert_eq!((grant.gfn, grant.count, grant.level), (Gfn(0x123), 1, Level::Page));
    assert_eq!((grant.rights, grant.mem_type, grant.mmu_seq), (Rights::all(), MemType::WriteBack, 42));
    assert!((FIRST_PFN..FIRST_PFN + 2000).contains(&grant.pfn.0), "a frame of the pager's own");
    assert_eq!(TopUp::from_word(words[4]).count, 0, "a full table pool gets nothing");
}

/// Fault 1 of the DragonOS port: it mapped a fresh page and not the frame that it had resolved.
#[test]
fn what_is_mapped_is_the_slots_memory() {
    let (mut pager, mut machine) = one_slot(NONE);
    let first = map(&pager.answer(&access(0x123, WRITE), &mut machine));
    let neighbour = map(&pager.answer(&access(0x124, READ), &mut machine));
    let again = map(&pager.answer(&access(0x123, READ), &mut machine));
    assert_eq!(first.pfn, again.pfn, "a page keeps its frame");
    assert_ne!(first.pfn, neighbour.pfn);
}

#[test]
fn a_new_page_reads_zero() {
    let (mut pager, mut machine) = one_slot(NONE);
    for gfn in 0x100..0x200 {
        let words = pager.answer(&access(gfn, READ), &mut machine);
        machine.install(&words);
        assert!((0..1024).all(|index| machine.guest_word(gfn, index) == 0));
    }
}

/// Fault 2: the EPT flags were a constant.
#[test]
fn the_rights_are_the_slots() {
    let (mut pager, mut machine) = one_slot(READONLY);
    let grant = map(&pager.answer(&access(0x100, READ), &mut machine));
    assert_eq!(grant.rights, Rights::READ | Rights::EXECUTE);
    assert_eq!(reply(&pager.answer(&access(0x100, WRITE), &mut machine)), ClaimedReply::Mmio(0));
}

/// Fault 3: a failed install was ignored and reported as fixed.
#[test]
fn a_stale_reply_is_tried_again() {
    let (mut pager, mut machine) = one_slot(NONE);
    let fault = access(0x100, READ);
    let _ = pager.answer(&fault, &mut machine);
    let words = pager.after_refusal(&fault, Refused::Stale, &mut machine);
    assert_eq!(reply(&words), ClaimedReply::Retry);
}

#[test]
fn any_other_refused_reply_denies_the_access() {
    for refused in Refused::ALL {
        if [Refused::Stale, Refused::NoTables].contains(refused) {
            continue;
        }
        let (mut pager, mut machine) = one_slot(NONE);
        let fault = access(0x100, READ);
        let _ = pager.answer(&fault, &mut machine);
        let words = pager.after_refusal(&fault, *refused, &mut machine);
        assert_eq!(reply(&words), ClaimedReply::Deny(DenyReason::Internal), "{refused}");
    }
}

/// Fault 4: a lock was taken on the install path and never released. Here nothing is held between two faults.
#[test]
fn faults_of_several_vcpus_are_answered_in_any_order() {
    let (mut pager, mut machine) = one_slot(NONE);
    for round in 0..4 {
        for vcpu in [2, 0, 3, 1] {
            let fault = Fault { vcpu, ..access(0x100 + round * 4 + u64::from(vcpu), WRITE) };
            assert_eq!(map(&pager.answer(&fault, &mut machine)).gfn, fault.gpa.gfn());
        }
    }
    let taken: Vec<u64> = pager.vms[0].vcpus.iter().map(|stats| stats.pf_taken).collect();
    assert_eq!(taken, [4, 4, 4, 4], "each vCPU has its own counts");
}

/// Fault 5: a fault without a slot was an error that the caller unwrapped.
#[test]
fn no_slot_is_mmio() {
    let (mut pager, mut machine) = one_slot(NONE);
    for gfn in [0, 0xff, 0x200, 0xfee00, u64::MAX >> 12] {
        for tried in [READ, WRITE, Qualification::FETCH] {
            assert_eq!(reply(&pager.answer(&access(gfn, tried), &mut machine)), ClaimedReply::Mmio(1));
        }
    }
}

/// Fault 6: delete, move and flag changes could not be reached; odd page counts were refused.
/// The VM's server could only emulate the instruction at RIP, which has not made the access.
#[test]
fn what_is_no_memory_cannot_deliver_an_event() {
    const OF_UD: u32 = 1 << 31 | 3 << 8 | 6;
    let (mut pager, mut machine) = one_slot(READONLY);
    for (gfn, tried, kind) in [
        (0xb8, READ, FaultKind::Violation),
        (0xb8, READ, FaultKind::Misconfiguration),
        (0x100, WRITE, FaultKind::Violation),
    ] {
        let fault = Fault { kind, idt_vectoring: OF_UD, ..access(gfn, tried) };
        assert_eq!(reply(&pager.answer(&fault, &mut machine)), ClaimedReply::Deny(DenyReason::NoSlot), "{gfn:#x}");
    }
    let fault = Fault { idt_vectoring: OF_UD, ..access(0x100, READ) };
    assert_eq!(map(&pager.answer(&fault, &mut machine)).gfn, Gfn(0x100), "memory can");
}

#[test]
fn slots_are_made_moved_changed_and_deleted_by_message() {
    let (mut pager, mut machine) = one_slot(NONE);
    let mut ask = |request| pager.control(0, request, &mut machine);
    assert_eq!(ask(SlotRequest::Create(slot(2, 0x301, 3, NONE))), SlotReply::Done);
    assert_eq!(ask(SlotRequest::Move(Space::Normal, SlotId(2), Gfn(0x403))), SlotReply::Done);
    assert_eq!(ask(SlotRequest::SetFlags(Space::Normal, SlotId(2), READONLY)), SlotReply::Done);
    assert_eq!(ask(SlotRequest::Delete(Space::Normal, SlotId(2))), SlotReply::Done);
    assert_eq!(reply(&pager.answer(&access(0x403, READ), &mut machine)), ClaimedReply::Mmio(5));
}

/// Fault 7: the sequence number never changed and nothing was flushed when rights shrank.
#[test]
fn shrinking_rights_are_one_operation_of_the_kernel() {
    let (mut pager, mut machine) = one_slot(NONE);
    for gfn in 0x100..0x120 {
        let words = pager.answer(&access(gfn, WRITE), &mut machine);
        machine.install(&words);
    }
    let request = SlotRequest::SetFlags(Space::Normal, SlotId(1), READONLY);
    assert_eq!(pager.control(0, request, &mut machine), SlotReply::Done);
    let keep = Rights::READ | Rights::EXECUTE;
    assert_eq!(machine.asked, [Asked::Protect(0x100, 0x100, keep)]);
    assert!(machine.ept.values().all(|(_, rights)| *rights == keep));
}

/// Fault 8, as far as a pager sees it: a misconfiguration is answered.
#[test]
fn a_misconfiguration_is_answered_by_the_slots_that_there_are_now() {
    let (mut pager, mut machine) = one_slot(NONE);
    let misconfigured = |gfn| Fault { kind: FaultKind::Misconfiguration, ..access(gfn, Qualification::empty()) };
    let stale = reply(&pager.answer(&misconfigured(0x900), &mut machine));
    assert_eq!(stale, ClaimedReply::Mmio(1), "no slot: refreshed with the present generation");
    let grant = map(&pager.answer(&misconfigured(0x100), &mut machine));
    assert_eq!((grant.gfn, grant.rights), (Gfn(0x100), Rights::all()), "a slot by now: its memory");
}

#[test]
fn a_window_fault_is_answered_like_a_guests_and_counted_apart() {
    let (mut pager, mut machine) = one_slot(NONE);
    let window = Fault { origin: Origin::Window, ..access(0x110, WRITE) };
    let through_window = map(&pager.answer(&window, &mut machine));
    let by_guest = map(&pager.answer(&access(0x110, READ), &mut machine));
    assert_eq!(through_window.pfn, by_guest.pfn, "both see one memory");
    assert_eq!(pager.vms[0].stats.window_faults, 1);
}

#[test]
fn out_of_frames_is_denied_and_a_page_that_has_one_still_works() {
    let mut machine = FakeMachine::default();
    // 2 pages, one node, and their promise; then the kernel's tables take what was promised.
    let mut pager = pager_with(3, &mut machine, &[(1, 0, 2, NONE)]);
    assert!(matches!(reply(&pager.answer(&access(0, READ), &mut machine)), ClaimedReply::Map(..)));
    let hungry = Fault { tables_left: 0, ..access(0, READ) };
    assert_eq!(TopUp::from_word(pager.answer(&hungry, &mut machine)[4]).count, 1, "the last frame");
    let denied = ClaimedReply::Deny(DenyReason::OutOfMemory);
    assert_eq!(reply(&pager.answer(&access(1, READ), &mut machine)), denied);
    assert!(matches!(reply(&pager.answer(&access(0, READ), &mut machine)), ClaimedReply::Map(..)));
    assert_eq!(pager.vms[0].vcpus[0].pf_denied, 1);
}

#[test]
fn a_low_table_pool_is_topped_up_with_the_reply() {
    let (mut pager, mut machine) = one_slot(NONE);
    let low = Fault { tables_left: TABLES_LOW - 1, ..access(0x100, READ) };
    let words = pager.answer(&low, &mut machine);
    let (grant, given) = (map(&words), TopUp::from_word(words[4]));
    assert_eq!(given.count, TABLES_BATCH);
    let run = given.first..given.first + u64::from(given.count);
    assert!(!run.contains(&grant.pfn.0), "a frame has one owner");
    for gfn in 0x100..0x200 {
        let pfn = map(&pager.answer(&access(gfn, READ), &mut machine)).pfn.0;
        assert!(!run.contains(&pfn), "what was given is never granted");
    }
    let enough = Fault { tables_left: TABLES_LOW, ..access(0x101, READ) };
    assert_eq!(TopUp::from_word(pager.answer(&enough, &mut machine)[4]).count, 0);
}

/// The kernel takes the table frames of a reply before it looks at the grant.
#[test]
fn table_frames_of_a_refused_reply_are_not_given_again() {
    let (mut pager, mut machine) = one_slot(NONE);
    let low = Fault { tables_left: 0, ..access(0x100, READ) };
    let given = TopUp::from_word(pager.answer(&low, &mut machine)[4]);
    let enough = Fault { tables_left: TABLES_LOW, ..low };
    let retry = pager.after_refusal(&enough, Refused::Stale, &mut machine);
    assert_eq!(retry[4], 0);
    let more = TopUp::from_word(pager.answer(&low, &mut machine)[4]);
    assert!(more.first >= given.first + u64::from(given.count) || more.first + u64::from(more.count) <= given.first);
    assert_eq!(pager.vms[0].stats.tables_given, 2 * u64::from(TABLES_BATCH));
}

#[test]
fn a_reply_that_lacked_tables_brings_some_and_is_not_tried_for_ever() {
    let (mut pager, mut machine) = one_slot(NONE);
    let low = Fault { tables_left: 0, ..access(0x100, READ) };
    let words = pager.after_refusal(&low, Refused::NoTables, &mut machine);
    assert_eq!(reply(&words), ClaimedReply::Retry);
    assert_eq!(TopUp::from_word(words[4]).count, TABLES_BATCH);
    let enough = Fault { tables_left: TABLES_LOW, ..low };
    let words = pager.after_refusal(&enough, Refused::NoTables, &mut machine);
    assert_eq!(reply(&words), ClaimedReply::Deny(DenyReason::Internal));
    while pager.vms[0].pool.take_run(1, 1, &mut machine).is_some() {}
    let words = pager.after_refusal(&low, Refused::NoTables, &mut machine);
    assert_eq!(reply(&words), ClaimedReply::Deny(DenyReason::OutOfMemory));
}

#[test]
fn a_fault_that_the_ledger_already_allows_is_spurious() {
    let (mut pager, mut machine) = one_slot(NONE);
    let words = pager.answer(&access(0x100, WRITE), &mut machine);
    machine.install(&words);
    let _ = pager.answer(&access(0x100, WRITE), &mut machine);
    assert_eq!((pager.vms[0].vcpus[0].pf_fixed, pager.vms[0].vcpus[0].pf_spurious), (1, 1));
    machine.ept.clear();
    let _ = pager.answer(&access(0x100, WRITE), &mut machine);
    assert_eq!((pager.vms[0].vcpus[0].pf_fixed, pager.vms[0].vcpus[0].pf_spurious), (2, 1));
}

#[test]
fn every_fault_is_counted_once() {
    let (mut pager, mut machine) = one_slot(READONLY);
    let _ = pager.answer(&access(0x100, READ), &mut machine);
    let _ = pager.answer(&access(0x100, WRITE), &mut machine);
    let _ = pager.answer(&access(0, WRITE), &mut machine);
    let stats = pager.vms[0].vcpus[0];
    assert_eq!((stats.pf_taken, stats.pf_fixed, stats.pf_emulate), (3, 1, 2));
    assert_eq!(pager.vms[0].stats.pages_filled, 1);
}

#[test]
fn each_result_has_its_count_and_what_nobody_waits_for_is_not_taken() {
    let mut stats = PfStats::ZERO;
    for result in [PfRet::Fixed, PfRet::Emulate, PfRet::Spurious, PfRet::Retry, PfRet::Continue, PfRet::Invalid] {
        stats.count(Prefetch::No, result);
    }
    stats.count(Prefetch::Yes, PfRet::Fixed);
    stats.count_denied();
    let PfStats { pf_taken, pf_fixed, pf_emulate, pf_spurious, pf_fast, pf_retry, pf_denied } = stats;
    assert_eq!((pf_taken, pf_fixed, pf_emulate, pf_spurious), (7, 2, 1, 1));
    assert_eq!((pf_fast, pf_retry, pf_denied), (0, 1, 1));
}

/// KVM's `fast_page_fault`: the page has its frame and is mapped, and only a right is missing.
#[test]
fn a_right_without_a_new_frame_is_the_fast_case() {
    let (mut pager, mut machine) = one_slot(SlotFlags::LOG_DIRTY_PAGES);
    for (tried, fast) in [(READ, 0), (WRITE, 1)] {
        let words = pager.answer(&access(0x100, tried), &mut machine);
        machine.install(&words);
        assert_eq!(pager.vms[0].vcpus[0].pf_fast, fast);
    }
    assert_eq!((pager.vms[0].vcpus[0].pf_fixed, pager.vms[0].stats.pages_filled), (2, 1));
}

#[test]
fn a_fault_of_nobody_is_denied() {
    let mut machine = FakeMachine::default();
    let mut pager = pager(100, &mut machine);
    for fault in [Fault { vm: 999, ..access(0, READ) }, Fault { vcpu: 999, ..access(0, READ) }] {
        let words = pager.answer(&fault, &mut machine);
        assert_eq!(reply(&words), ClaimedReply::Deny(DenyReason::Internal));
    }
}

proptest! {
    /// Whatever words the kernel's message holds, there is an answer that the kernel can read.
    #[test]
    fn no_fault_stops_the_pager(words in any::<[u64; 6]>(), low in 0u64..1 << 20) {
        let (mut pager, mut machine) = one_slot(NONE);
        for words in [words, [words[0] & 0x0101_ffff_0003_0003, low << 12, words[2], words[3], 0, 0]] {
            if let Ok(fault) = Fault::from_words(&words) {
                let answer = pager.answer(&fault, &mut machine);
                prop_assert!(ClaimedReply::from_words(&answer).is_ok());
            }
        }
    }
}
