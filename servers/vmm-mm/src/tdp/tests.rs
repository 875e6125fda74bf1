use crate::serve::Pager;
use crate::testing::{Asked, FakeMachine, READ, WRITE, access, by_policy};
use ipc_proto::fault::{ClaimedReply, Fault, Qualification};
use ipc_proto::grant::{Gfn, Gpa, Level, Rights};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space, Topic, Tracking};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

const NONE: SlotFlags = SlotFlags::empty();
const LOGGED: SlotFlags = SlotFlags::LOG_DIRTY_PAGES;
const NO_WRITE: Rights = Rights::READ.union(Rights::EXECUTE);
const ID: SlotId = SlotId(1);

/// A slot that begins and ends inside of a block, with two whole blocks in it.
const BASE: u64 = 0x300;
const PAGES: u64 = 0x600;

struct Vm {
    pager: Box<Pager>,
    machine: FakeMachine,
}

impl Vm {
    fn new(policy: &str, flags: SlotFlags) -> Self {
        let mut machine = FakeMachine::default();
        let pager = by_policy(policy, 8192, &mut machine, &[(1, BASE, PAGES, flags)]);
        Self { pager, machine }
    }

    fn fault(&self, gfn: u64, tried: Qualification) -> Fault {
        Fault { mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) }
    }

    /// The guest's access, until the EPT allows it; hands back the last reply.
    fn touch(&mut self, gfn: u64, tried: Qualification) -> ClaimedReply {
        let fault = self.fault(gfn, tried);
        let words = self.pager.answer(&fault, &mut self.machine);
        if let Err(refused) = self.machine.apply(&words) {
            let words = self.pager.after_refusal(&fault, refused, &mut self.machine);
            assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry), "{refused}");
            return self.touch(gfn, tried);
        }
        ClaimedReply::from_words(&words).expect("a reply")
    }

    fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
    }

    /// What the pager tells of an address.
    fn why(&mut self, gpa: u64) -> String {
        let mut told = String::new();
        for line in 0.. {
            let SlotReply::Line(text) = self.ask(SlotRequest::Tell(Topic::Why(Gpa(gpa)), line)) else { break };
            told.push_str(text.as_str());
            told.push('\n');
        }
        told
    }

    fn flags(&mut self, flags: SlotFlags) {
        assert_eq!(self.ask(SlotRequest::SetFlags(Space::Normal, ID, flags)), SlotReply::Done);
    }

    fn rights(&self, gfn: u64) -> Option<Rights> {
        self.machine.leaf(gfn).map(|(_, rights)| rights)
    }
}

#[test]
fn a_window_is_one_run_and_stays_in_the_slot_and_the_table() {
    let mut vm = Vm::new("fault-around", NONE);
    assert!(matches!(vm.touch(0x510, READ), ClaimedReply::Map(_, 0)), "one grant");
    assert_eq!(vm.machine.ept.keys().copied().collect::<Vec<_>>(), (0x510..0x520).collect::<Vec<_>>());
    assert!(matches!(vm.touch(0x527, WRITE), ClaimedReply::Map(_, 0)), "also from the middle");
    assert_eq!(vm.machine.ept.len(), 32);
    let stats = vm.pager.vms[0].vcpus[0];
    assert_eq!((stats.pf_taken, stats.pf_fixed), (2, 32), "a prefetch is fixed and not taken");
    assert_eq!(vm.pager.vms[0].stats.pages_filled, 32);
    assert_eq!(vm.pager.policy.set("window", "512"), Ok(()));
    vm.touch(BASE, READ);
    let low: Vec<u64> = vm.machine.ept.keys().copied().filter(|gfn| *gfn < 0x510).collect();
    assert_eq!(low, (BASE..0x400).collect::<Vec<_>>(), "from the slot's beginning to the table's end");
}

#[test]
fn a_window_over_known_pages_maps_their_own_frames() {
    let mut vm = Vm::new("fault-around", NONE);
    vm.touch(0x510, WRITE);
    vm.machine.guest_write(0x51f, 3, 77);
    let before = vm.machine.ept.clone();
    vm.machine.ept.clear();
    vm.touch(0x518, READ);
    assert_eq!(vm.machine.ept, before);
    assert_eq!(vm.machine.guest_word(0x51f, 3), 77);
}

#[test]
fn the_huge_policy_maps_whole_blocks_and_the_edges_of_a_slot_small() {
    let mut vm = Vm::new("huge", NONE);
    vm.touch(0x4ab, WRITE);
    vm.touch(0x7ff, READ);
    vm.touch(BASE, READ);
    vm.touch(BASE + PAGES - 1, READ);
    assert_eq!(vm.machine.large.keys().copied().collect::<Vec<_>>(), [0x400, 0x600]);
    assert_eq!(vm.machine.ept.keys().copied().collect::<Vec<_>>(), [BASE, BASE + PAGES - 1]);
    assert_eq!(vm.rights(0x5ff), Some(Rights::all()));
    let stats = vm.pager.vms[0].stats;
    assert_eq!((stats.large_pages, stats.pages_filled), (2, 2 * 512 + 2));
    for index in [0, 1023] {
        assert_eq!(vm.machine.guest_word(0x5ff, index), 0);
    }
}

#[test]
fn a_deleted_slot_gives_its_large_pages_back() {
    let mut vm = Vm::new("huge", NONE);
    let before = vm.pager.vms[0].pool.left();
    vm.touch(0x400, WRITE);
    assert_eq!(vm.ask(SlotRequest::Delete(Space::Normal, ID)), SlotReply::Done);
    assert!(vm.machine.large.is_empty());
    assert_eq!(vm.pager.vms[0].pool.left(), before);
}

#[test]
fn without_frames_in_a_row_pages_are_small() {
    let mut machine = FakeMachine::default();
    let pager = by_policy("huge", 700, &mut machine, &[(1, 0x200, 0x200, NONE)]);
    let mut vm = Vm { pager, machine };
    while vm.pager.vms[0].pool.left() > 300 {
        assert!(vm.pager.vms[0].pool.take_run(1, 1, &mut vm.machine).is_some());
    }
    assert!(
        matches!(vm.touch(0x234, WRITE), ClaimedReply::Map(claim, 0) if claim.typed().is_ok_and(|grant| grant.level == Level::Page))
    );
}

#[test]
fn a_kernel_that_takes_no_large_page_there_gets_small_ones() {
    let mut vm = Vm::new("huge", NONE);
    vm.machine.hoards = true;
    // Something small was mapped there once: the table is still there.
    vm.pager.policy = crate::policy::Chosen::by_name("demand").expect("it exists");
    vm.touch(0x777, READ);
    vm.flags(SlotFlags::PRIVATE);
    assert!(vm.machine.ept.is_empty());
    assert_eq!(vm.ask(SlotRequest::Delete(Space::Normal, ID)), SlotReply::Done);
    assert_eq!(vm.ask(SlotRequest::Create(crate::testing::slot(1, BASE, PAGES, NONE))), SlotReply::Done);
    vm.pager.policy = crate::policy::Chosen::by_name("huge").expect("it exists");
    vm.touch(0x700, WRITE);
    assert!(vm.machine.large.is_empty() && vm.machine.ept.contains_key(&0x700));
    assert_eq!(vm.pager.vms[0].stats.replies_refused, 2, "once more after an unmap, and not again for every page");
    vm.machine.ept.clear();
    vm.touch(0x701, WRITE);
    assert_eq!(vm.pager.vms[0].stats.replies_refused, 2);
}

#[test]
fn with_the_workaround_a_fetch_splits_the_page_and_the_data_stays() {
    let mut vm = Vm::new("huge", NONE);
    assert_eq!(vm.pager.policy.set("nx_huge", "on"), Ok(()));
    vm.touch(0x4ab, WRITE);
    assert_eq!(vm.rights(0x4ab), Some(Rights::READ | Rights::WRITE), "no large page can be fetched from");
    vm.machine.guest_write(0x4ab, 5, 99);
    let reply = vm.touch(0x4ab, Qualification::FETCH);
    assert!(matches!(reply, ClaimedReply::Map(..)));
    assert_eq!(vm.machine.asked, [Asked::Unmap(0x400, 512)], "the large page goes away, once");
    assert!(vm.machine.large.is_empty());
    assert_eq!((vm.machine.ept.len(), vm.rights(0x4ab)), (512, Some(Rights::all())), "its pages come in one reply");
    assert_eq!(vm.machine.guest_word(0x4ab, 5), 99);
    assert_eq!(vm.pager.vms[0].stats.splits, 1);
}

#[test]
fn a_tracked_page_is_never_writable() {
    for policy in ["demand", "fault-around", "huge", "eager"] {
        let mut vm = Vm::new(policy, NONE);
        vm.touch(0x4ab, WRITE);
        assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(0x4ab), Tracking::On)), SlotReply::Done);
        for gfn in [0x4aa, 0x4ab, 0x4ac] {
            vm.touch(gfn, READ);
        }
        assert_eq!(vm.rights(0x4ab), Some(NO_WRITE), "{policy}");
        assert_eq!(vm.touch(0x4ab, WRITE), ClaimedReply::Mmio(0), "{policy}");
        vm.touch(0x4ac, WRITE);
        assert_eq!(vm.rights(0x4ab), Some(NO_WRITE), "{policy}: a neighbour's fault must not give it");
        assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(0x4ab), Tracking::Off)), SlotReply::Done);
        assert!(matches!(vm.touch(0x4ab, WRITE), ClaimedReply::Map(..)));
        assert_eq!(vm.rights(0x4ab), Some(Rights::all()), "{policy}");
    }
}

#[test]
fn a_page_is_tracked_before_it_has_a_frame() {
    let mut vm = Vm::new("huge", NONE);
    assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(0x4ab), Tracking::On)), SlotReply::Done);
    assert_eq!(vm.touch(0x4ab, WRITE), ClaimedReply::Mmio(0));
    vm.touch(0x4ac, WRITE);
    assert!(vm.machine.large.is_empty(), "no large page over it");
    vm.touch(0x4ab, READ);
    assert_eq!(vm.rights(0x4ab), Some(NO_WRITE));
}

#[test]
fn the_eager_policy_maps_a_slot_when_it_is_made() {
    let mut vm = Vm::new("eager", NONE);
    assert_eq!(vm.machine.ept.keys().copied().collect::<Vec<_>>(), (BASE..BASE + PAGES).collect::<Vec<_>>());
    assert_eq!(vm.pager.vms[0].vcpus[0].pf_taken, 0);
    vm.machine.tables_left = Some(0);
    let more = crate::testing::slot(2, 0x1000, 0x400, NONE);
    assert_eq!(vm.ask(SlotRequest::Create(more)), SlotReply::Done);
    assert!(vm.machine.donated > 0 && vm.machine.ept.contains_key(&0x13ff), "tables are given when they are missing");
    vm.machine.ept.clear();
    vm.touch(0x4ab, READ);
    assert_eq!(vm.machine.ept.len(), 512, "what was taken comes back a table at a time");
}

#[test]
fn memory_types_that_differ_make_pages_small_again() {
    let mut vm = Vm::new("huge", NONE);
    vm.touch(0x4ab, WRITE);
    vm.machine.guest_write(0x4ab, 5, 99);
    for (register, value) in [(0x200, 0x40_0000), (0x201, !0xfff & 0xf_ffff_ffff | 1 << 11), (0x2ff, 6 | 1 << 11)] {
        assert_eq!(vm.ask(SlotRequest::MemoryType(register, value)), SlotReply::Done);
    }
    vm.touch(0x4ab, WRITE);
    vm.touch(0x600, WRITE);
    assert_eq!(vm.machine.large.keys().copied().collect::<Vec<_>>(), [0x600]);
    assert_eq!(vm.machine.guest_word(0x4ab, 5), 99);
}

#[test]
fn why_asks_the_ledger_and_changes_nothing() {
    let mut vm = Vm::new("huge", LOGGED);
    vm.touch(0x4ab, WRITE);
    let before = (vm.machine.ept.clone(), vm.machine.asked.clone(), vm.pager.vms[0].pool.left());
    for gpa in [0x4ab_123, 0x4ac_000, 0, u64::MAX] {
        assert_eq!(vm.ask(SlotRequest::Why(ipc_proto::grant::Gpa(gpa))), SlotReply::Done);
    }
    assert_eq!((vm.machine.ept.clone(), vm.machine.asked.clone(), vm.pager.vms[0].pool.left()), before);
    let (number, last) = vm.pager.vms[0].history.answers().last().expect("one answer");
    assert_eq!((number, last.to.gpa.gfn(), last.slot), (0, Gfn(0x4ab), Some(ID)));
}

/// The whole story of an address, as people read it.
#[test]
fn why_tells_slot_ledger_walk_and_the_last_results_with_who_tried_what() {
    let mut vm = Vm::new("demand", LOGGED);
    vm.touch(0x4ab, READ);
    vm.touch(0x600, WRITE);
    assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(0x4ab), Tracking::On)), SlotReply::Done);
    let allowed = Qualification::READABLE | Qualification::EXECUTABLE;
    let fault = vm.fault(0x4ab, WRITE | allowed | Qualification::GVA_VALID | Qualification::GVA_TRANSLATED);
    vm.pager.answer(&fault, &mut vm.machine);
    let told = vm.why(0x4ab_010);
    for part in [
        "gpa 0x4ab010",
        "slot 1 of",
        "Tracked",
        "ledger: gfn 0x4ab -> pfn",
        "EPT level 4: 0x0000000000001007 table in pfn 0x1",
        "EPT level 1: 0x",
        "mmu_seq: Some(",
        "*answer 0: Vcpu 0 gpa 0x4ab000 rip 0xffffffff81001234 seq 0 READ, slot Some(1): Some(Fixed)",
        " answer 1: Vcpu 0 gpa 0x600000 rip 0xffffffff81001234 seq 0 WRITE,",
        "WRITE | READABLE | EXECUTABLE | GVA_VALID | GVA_TRANSLATED, slot Some(1): Some(Emulate)",
    ] {
        assert!(told.contains(part), "`{part}` is missing:\n{told}");
    }
    let mut vm = Vm::new("demand", NONE);
    vm.touch(0x600, WRITE);
    let (told, line) = (vm.why(0x600_000), "*first touch 0: gpa 0x600000 rip 0xffffffff81001234 seq 0 WRITE");
    assert!(told.contains(line), "`{line}` is missing:\n{told}");
}

/// The race that the sequence number is for: the answer is worked out, the slot goes, the answer arrives.
#[test]
fn an_answer_that_an_invalidation_overtook_maps_nothing() {
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, NONE);
        vm.touch(0x600, READ);
        let fault = vm.fault(0x4ab, WRITE);
        let words = vm.pager.answer(&fault, &mut vm.machine);
        assert_eq!(vm.ask(SlotRequest::Delete(Space::Normal, ID)), SlotReply::Done);
        assert_eq!(vm.machine.apply(&words), Err(Refused::Stale), "{policy}");
        assert!(vm.machine.leaf(0x4ab).is_none());
        let words = vm.pager.after_refusal(&fault, Refused::Stale, &mut vm.machine);
        assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry));
        assert_eq!(vm.touch(0x4ab, WRITE), ClaimedReply::Mmio(vm.machine.generation), "{policy}: the slot is gone");
    }
}

/// The sequence number is sampled before the frame is looked for, not when the answer is made.
#[test]
fn a_fault_that_waited_while_memory_was_taken_away_is_stale() {
    for policy in ["demand", "fault-around", "huge"] {
        let mut vm = Vm::new(policy, NONE);
        let fault = vm.fault(0x4ab, WRITE);
        vm.flags(SlotFlags::PRIVATE);
        let words = vm.pager.answer(&fault, &mut vm.machine);
        assert_eq!(vm.machine.apply(&words), Err(Refused::Stale), "{policy}");
    }
}

#[test]
fn tracking_that_is_refused_leaves_a_tracked_page_tracked() {
    let mut vm = Vm::new("demand", NONE);
    vm.touch(0x4ab, READ);
    let track = SlotRequest::Track(Space::Normal, Gfn(0x4ab), Tracking::On);
    assert_eq!(vm.ask(track), SlotReply::Done);
    vm.machine.refuse = Some(Refused::BadHandle);
    let _ = vm.ask(track);
    vm.machine.refuse = None;
    assert_eq!(vm.touch(0x4ab, WRITE), ClaimedReply::Mmio(0));
}
