//! What KVM's own selftests promise and no other test here says: see docs/kvm-selftests.md.

use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, Seen, WRITE, access, by_policy, slot};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Qualification};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};
use std::boxed::Box;

const NONE: SlotFlags = SlotFlags::empty();

struct Vm {
    pager: Box<Pager>,
    machine: FakeMachine,
}

impl Vm {
    fn new(policy: &str, slots: &[(u16, u64, u64, SlotFlags)]) -> Self {
        let mut machine = FakeMachine::default();
        let pager = by_policy(policy, 9000, &mut machine, slots);
        Self { pager, machine }
    }

    fn ask(&mut self, request: SlotRequest) {
        assert_eq!(self.pager.control(0, request, &mut self.machine), SlotReply::Done, "{request:?}");
    }

    /// An access of a vCPU until it is made: whether it was memory.
    fn is_memory(&mut self, vcpu: u16, gfn: u64, tried: Qualification) -> bool {
        let needs = if tried == WRITE { Rights::WRITE } else { Rights::READ };
        for _ in 0..6 {
            let kind = match self.machine.guest(gfn, needs) {
                Seen::Done => return true,
                Seen::Server => return false,
                Seen::Fault(kind) => kind,
            };
            let tried = if kind == FaultKind::Violation { tried } else { Qualification::empty() };
            let fault = Fault { vcpu, kind, mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) };
            let words = self.pager.answer(&fault, &mut self.machine);
            if let Err(refused) = self.machine.answered(&fault, &words) {
                self.pager.after_refusal(&fault, refused, &mut self.machine);
            } else if matches!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Mmio(_))) {
                return false;
            }
        }
        panic!("gfn {gfn:#x}: the same fault for ever");
    }

    fn taken(&self) -> u64 {
        self.pager.vms[0].vcpus.iter().map(|stats| stats.pf_taken).sum()
    }
}

/// memslot_modification_stress_test: slots come and go while vCPUs use other memory.
#[test]
fn a_slot_that_comes_and_goes_beside_costs_the_others_no_fault_and_no_content() {
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, &[(1, 0x400, 0x400, NONE)]);
        let left = vm.pager.vms[0].pool.left();
        for gfn in 0x400..0x800 {
            assert!(vm.is_memory(0, gfn, WRITE));
            vm.machine.put(gfn, 3, gfn as u32);
        }
        let (before, all) = (vm.taken(), vm.pager.vms[0].pool.left());
        for round in 0..50 {
            vm.ask(SlotRequest::Create(slot(2, 0x1000, 0x200, NONE)));
            assert!(vm.is_memory(1, 0x1000 + round, WRITE));
            vm.ask(SlotRequest::Delete(Space::Normal, SlotId(2)));
            assert!(!vm.is_memory(1, 0x1000 + round, READ), "{policy}: it is gone at once");
            assert!((0x400..0x800).all(|gfn| vm.machine.guest(gfn, Rights::WRITE) == Seen::Done), "{policy}");
        }
        let others = vm.pager.vms[0].vcpus[0].pf_taken;
        assert_eq!(others, before, "{policy}: who uses other memory has not faulted again");
        assert_eq!(vm.pager.vms[0].pool.left(), all, "{policy}: no frame is lost, of {left}");
        assert!((0x400..0x800).all(|gfn| vm.machine.guest_word(gfn, 3) == gfn as u32));
    }
}

/// set_memory_region_test: a slot is moved away under its user and back, and deleted and made again.
#[test]
fn memory_that_moves_away_is_mmio_until_it_is_back() {
    for policy in ["demand", "fault-around", "huge", "eager"] {
        let mut vm = Vm::new(policy, &[(1, 0x400, 0x200, NONE)]);
        assert!(vm.is_memory(0, 0x433, WRITE));
        vm.machine.put(0x433, 3, 77);
        for _ in 0..3 {
            vm.ask(SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x1000)));
            assert!(!vm.is_memory(0, 0x433, READ) && !vm.is_memory(1, 0x433, WRITE), "{policy}");
            vm.ask(SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x400)));
            assert!(vm.is_memory(0, 0x433, READ), "{policy}");
            assert_eq!(vm.machine.guest_word(0x433, 3), 77, "{policy}");
        }
        vm.ask(SlotRequest::Delete(Space::Normal, SlotId(1)));
        assert!(!vm.is_memory(0, 0x433, READ), "{policy}");
        vm.ask(SlotRequest::Create(slot(1, 0x400, 0x200, NONE)));
        assert!(vm.is_memory(0, 0x433, READ), "{policy}");
        assert_eq!(vm.machine.guest_word(0x433, 3), 0, "{policy}: nothing of the old slot");
    }
}

/// demand_paging_test: several vCPUs touch all of memory, in any order; each page is filled once.
#[test]
fn every_page_is_filled_once_whoever_touches_it_first() {
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, &[(1, 0x400, 0x600, NONE)]);
        for step in 0..4 * 0x600u64 {
            let (vcpu, offset) = ((step % 4) as u16, (step * 7 + step / 5) % 0x600);
            assert!(vm.is_memory(vcpu, 0x400 + offset, if step % 3 == 0 { WRITE } else { READ }));
        }
        (0x400..0xa00).for_each(|gfn| assert!(vm.is_memory(3, gfn, READ)));
        assert_eq!(vm.pager.vms[0].stats.pages_filled, 0x600, "{policy}");
        let frames: std::collections::BTreeSet<_> =
            (0x400..0xa00).map(|gfn| vm.machine.leaf(gfn).map(|(pfn, _)| pfn)).collect();
        assert_eq!(frames.len(), 0x600, "{policy}: no two pages have one frame");
    }
}

/// pre_fault_memory_test: what was mapped ahead is not faulted for; what is no memory is not mapped.
#[test]
fn memory_that_is_mapped_ahead_is_not_faulted_for_and_ends_with_the_slot() {
    let mut vm = Vm::new("eager", &[(1, 0x433, 0x555, NONE)]);
    assert_eq!(vm.machine.ept.len(), 0x555);
    assert!((0x433..0x433 + 0x555).all(|gfn| vm.machine.guest(gfn, Rights::WRITE) == Seen::Done));
    assert_eq!(vm.taken(), 0, "a prefetch is not a fault taken");
    assert!(!vm.is_memory(0, 0x432, READ) && !vm.is_memory(0, 0x433 + 0x555, READ));
    vm.machine.tables_left = Some(0);
    vm.machine.refuse_after = Some((3, ipc_proto::refused::Refused::NoTables));
    vm.ask(SlotRequest::Create(slot(2, 0x2000, 0x600, NONE)));
    assert!(vm.is_memory(0, 0x25ff, WRITE), "what could not be mapped ahead is faulted in");
}

/// mmu_stress_test: all of memory is written, then may not be written, then may be again.
#[test]
fn memory_that_is_read_only_for_a_while_is_what_it_was() {
    for policy in ["demand", "fault-around", "huge", "eager"] {
        let mut vm = Vm::new(policy, &[(1, 0x400, 0x600, NONE)]);
        for gfn in 0x400..0xa00 {
            assert!(vm.is_memory((gfn % 4) as u16, gfn, WRITE));
            vm.machine.put(gfn, 3, gfn as u32);
        }
        for _ in 0..2 {
            vm.ask(SlotRequest::SetFlags(Space::Normal, SlotId(1), SlotFlags::READONLY));
            assert!((0x400..0xa00).all(|gfn| !vm.is_memory(0, gfn, WRITE)), "{policy}: every write is seen");
            assert!((0x400..0xa00).all(|gfn| vm.is_memory(1, gfn, READ)), "{policy}: and no read");
            vm.ask(SlotRequest::SetFlags(Space::Normal, SlotId(1), NONE));
            assert!((0x400..0xa00).all(|gfn| vm.is_memory(2, gfn, WRITE)), "{policy}");
        }
        assert!((0x400..0xa00).all(|gfn| vm.machine.guest_word(gfn, 3) == gfn as u32), "{policy}");
    }
}

/// pre_fault_memory_test, of a VM that runs: what the server has asked for is there, and nobody faults for it.
#[test]
fn memory_that_is_prefaulted_is_there_when_it_is_touched() {
    for policy in ["demand", "fault-around", "huge", "share"] {
        let mut vm = Vm::new(policy, &[(1, 0x3f0, 0x610, NONE)]);
        assert!(vm.is_memory(0, 0x4ab, WRITE), "one page is mapped before, in the middle of it");
        let taken = vm.taken();
        let (mut first, end, mut asked) = (0x3f0, 0xa00, 0);
        while first < end {
            match vm.pager.control(0, SlotRequest::Prefault(Gfn(first), end - first), &mut vm.machine) {
                SlotReply::Done => first = end,
                SlotReply::Left(left) => {
                    assert!(left < end - first, "{policy}: there is no progress");
                    first = end - left;
                }
                reply => panic!("{policy}: {reply:?}"),
            }
            asked += 1;
        }
        assert!(policy == "huge" || asked > 4, "{policy}: nobody else was served for {} pages", end - 0x3f0);
        for gfn in 0x3f0..0xa00 {
            assert_eq!(vm.machine.guest(gfn, Rights::READ), Seen::Done, "{policy}: gfn {gfn:#x}");
        }
        assert_eq!(vm.taken(), taken, "{policy}: a prefetch is not taken");
    }
}

/// The part of a range that has no memory is reported, and what has gone is not mapped again.
#[test]
fn what_has_no_slot_is_not_prefaulted() {
    let mut vm = Vm::new("demand", &[(1, 0x100, 16, SlotFlags::READONLY | SlotFlags::LOG_DIRTY_PAGES)]);
    let mut ask = |first, pages| vm.pager.control(0, SlotRequest::Prefault(Gfn(first), pages), &mut vm.machine);
    assert_eq!(ask(0x10c, 8), SlotReply::Left(4));
    assert_eq!(ask(0x110, 4), SlotReply::Refused(SlotRefused::NoSuchSlot));
    assert_eq!(ask(u64::MAX, 2), SlotReply::Refused(SlotRefused::NoSuchSlot));
    assert_eq!(ask(0x100, 0), SlotReply::Done);
    assert!(vm.machine.ept.values().all(|(_, rights)| !rights.contains(Rights::WRITE)), "the slot is read-only");
    vm.ask(SlotRequest::Delete(Space::Normal, SlotId(1)));
    let reply = vm.pager.control(0, SlotRequest::Prefault(Gfn(0x10c), 1), &mut vm.machine);
    assert_eq!((reply, vm.machine.ept.len()), (SlotReply::Refused(SlotRefused::NoSuchSlot), 0));
}

/// set_memory_region_test: a slot that is one large page moves down by a small one and back. At the same address is the next
/// page meanwhile, never the one that was there.
#[test]
fn a_slot_that_is_moved_out_of_line_shows_each_page_where_it_is_now() {
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, &[(1, 0x400, 0x200, NONE)]);
        for gfn in [0x400, 0x401, 0x5ff] {
            assert!(vm.is_memory(0, gfn, WRITE));
            vm.machine.put(gfn, 3, gfn as u32);
        }
        for _ in 0..2 {
            vm.ask(SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x3ff)));
            assert!(vm.is_memory(0, 0x400, READ) && vm.is_memory(0, 0x3ff, READ), "{policy}");
            assert_eq!((vm.machine.guest_word(0x3ff, 3), vm.machine.guest_word(0x400, 3)), (0x400, 0x401), "{policy}");
            assert!(!vm.is_memory(0, 0x5ff, READ), "{policy}: behind it there is none");
            vm.ask(SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x400)));
            assert!([0x400, 0x401, 0x5ff].iter().all(|gfn| vm.is_memory(0, *gfn, READ)), "{policy}");
            assert_eq!((vm.machine.guest_word(0x400, 3), vm.machine.guest_word(0x5ff, 3)), (0x400, 0x5ff), "{policy}");
        }
    }
}

/// mmu_stress_test: of many slots every second one is deleted under its user. The others keep what they have, mapped.
#[test]
fn every_second_slot_goes_and_the_others_stay() {
    const SLOTS: u16 = 64;
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, &[]);
        let base = |id: u16| 0x1000 + u64::from(id) * 0x40;
        (0..SLOTS).for_each(|id| vm.ask(SlotRequest::Create(slot(id, base(id), 0x40, NONE))));
        for gfn in base(0)..base(SLOTS) {
            assert!(vm.is_memory(0, gfn, WRITE));
            vm.machine.put(gfn, 3, gfn as u32);
        }
        (0..SLOTS).step_by(2).for_each(|id| vm.ask(SlotRequest::Delete(Space::Normal, SlotId(id))));
        for id in 0..SLOTS {
            for gfn in base(id)..base(id + 1) {
                let there = vm.machine.guest(gfn, Rights::WRITE) == Seen::Done;
                assert_eq!(there, id % 2 == 1, "{policy}: slot {id}, gfn {gfn:#x}");
                assert!(!there || vm.machine.guest_word(gfn, 3) == gfn as u32, "{policy}: gfn {gfn:#x}");
            }
        }
    }
}

/// dirty_log_test: a slot at the very end of guest memory, whose last pages are no whole word of the bitmap, logged from its
/// beginning on.
#[test]
fn the_last_pages_of_guest_memory_are_logged() {
    const PAGES: u64 = 0x800 + 16;
    const BASE: u64 = (1 << 28) - PAGES;
    let mut vm = Vm::new("demand", &[(1, BASE, PAGES, SlotFlags::LOG_DIRTY_PAGES)]);
    for offset in [0, 63, 64, 0x7ff, 0x800, PAGES - 1] {
        assert!(vm.is_memory(0, BASE + offset, WRITE));
        let mut told = std::vec::Vec::new();
        let mut from = 0;
        while let SlotReply::Dirty(pages) =
            vm.pager.control(0, SlotRequest::DirtyLog(Space::Normal, SlotId(1), from), &mut vm.machine)
        {
            told.extend((0..1024).filter(|n| pages.bits[n / 64] >> (n % 64) & 1 == 1).map(|n| pages.first + n as u64));
            from = pages.first + 1024;
        }
        assert_eq!(told, [offset]);
    }
    assert!(!vm.is_memory(0, 1 << 28, READ), "there is none behind it");
}
