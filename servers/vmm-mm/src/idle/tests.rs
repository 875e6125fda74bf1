use crate::dirty::Way;
use crate::machine::Cpu;
use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, Seen, WRITE, access, by_policy, slot};
use ipc_proto::fault::{Fault, Origin, Qualification};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::memop::Abilities;
use ipc_proto::refused::Refused;
use ipc_proto::slot::{IdlePages, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

const ID: SlotId = SlotId(1);
const BASE: u64 = 0x300;
const PAGES: u64 = 0x1600;

struct Vm {
    pager: Box<Pager>,
    machine: FakeMachine,
    base: u64,
}

impl Vm {
    fn new(policy: &str, abilities: Abilities, flags: SlotFlags) -> Self {
        let mut machine = FakeMachine::default();
        machine.abilities = abilities;
        let mut pager = by_policy(policy, 20_000, &mut machine, &[]);
        pager.equip(Cpu { abilities, largest: Level::Large }, Some(Way::WriteProtect)).expect("every CPU has it");
        let mut vm = Self { pager, machine, base: BASE };
        assert_eq!(vm.ask(SlotRequest::Create(slot(1, BASE, PAGES, flags))), SlotReply::Done);
        vm
    }

    fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
    }

    fn use_page(&mut self, offset: u64, tried: Qualification, origin: Origin) {
        let (gfn, needs) = (self.base + offset, if tried == WRITE { Rights::WRITE } else { Rights::READ });
        for _ in 0..5 {
            let seen = match origin {
                Origin::Vcpu => self.machine.guest(gfn, needs),
                Origin::Window => self.machine.window(gfn, needs),
            };
            if seen == Seen::Done {
                return;
            }
            let fault = Fault { origin, mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) };
            let words = self.pager.answer(&fault, &mut self.machine);
            let _ = self.machine.answered(&fault, &words);
        }
        panic!("page {offset:#x}: the same fault for ever");
    }

    fn read(&mut self, offset: u64) {
        self.use_page(offset, READ, Origin::Vcpu);
    }

    fn idle(&mut self) -> Vec<u64> {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            match self.ask(SlotRequest::Idle(Space::Normal, ID, from)) {
                SlotReply::Idle(IdlePages { first, bits }) => {
                    let at = |place: u64| bits[(place / 64) as usize] >> (place % 64) & 1 == 1;
                    found.extend((0..IdlePages::PAGES).filter(|place| at(*place)).map(|place| first + place));
                    from = first + IdlePages::PAGES;
                }
                SlotReply::Done => return found,
                other => panic!("no answer to the question: {other:?}"),
            }
        }
    }
}

#[test]
fn a_page_that_nobody_used_is_idle_and_one_that_was_is_not() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut vm = Vm::new("demand", abilities, SlotFlags::empty());
        let touched = [0, 1, 0x3ff, 0x400, 0x15ff];
        touched.iter().for_each(|offset| vm.read(*offset));
        assert_eq!(vm.idle(), [], "all that have memory were used");
        assert_eq!(vm.idle(), touched, "none since");
        vm.read(1);
        vm.use_page(0x400, WRITE, Origin::Vcpu);
        vm.use_page(0x15ff, READ, Origin::Window);
        assert_eq!(vm.idle(), [0, 0x3ff], "{abilities:?}");
        assert_eq!(vm.idle(), touched);
        let taken = vm.pager.vms[0].vcpus[0].pf_taken;
        touched.iter().for_each(|offset| vm.read(*offset));
        assert_eq!(vm.pager.vms[0].vcpus[0].pf_taken, taken, "the kernel gives back what a harvest took");
    }
}

#[test]
fn a_large_page_is_used_as_one_and_told_of_wherever_the_question_begins() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut vm = Vm::new("huge", abilities, SlotFlags::empty());
        // The slot begins 256 pages before a block: the second block lies across two answers.
        vm.read(0x100 + 512 + 3);
        vm.read(0x100 + 512 * 3);
        let pages = |n: u64| (0x100 + n * 512)..(0x100 + (n + 1) * 512);
        assert_eq!(vm.idle(), [], "{abilities:?}");
        assert_eq!(vm.idle(), pages(1).chain(pages(3)).collect::<Vec<_>>(), "{abilities:?}");
        vm.read(0x100 + 512 + 500);
        assert_eq!(vm.idle(), pages(3).collect::<Vec<_>>(), "{abilities:?}: no part of the other is idle");
    }
}

#[test]
fn a_large_page_is_used_as_one_where_its_slot_has_moved() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut vm = Vm::new("huge", abilities, SlotFlags::empty());
        let block = 0x100..0x300;
        vm.read(block.start);
        vm.read(block.end);
        // Guest blocks end in the middle of it there: when the next large page is split, its end is mapped small.
        vm.base = BASE + 0x40;
        assert_eq!(vm.ask(SlotRequest::Move(Space::Normal, ID, Gfn(vm.base))), SlotReply::Done);
        vm.read(block.end);
        vm.read(block.end - 1);
        let mut idle = || vm.idle().into_iter().filter(|offset| block.contains(offset)).count();
        assert_eq!((idle(), idle()), (0, 512), "{abilities:?}");
    }
}

#[test]
fn asking_what_is_idle_loses_no_write() {
    let mut vm = Vm::new("demand", Abilities::empty(), SlotFlags::LOG_DIRTY_PAGES);
    vm.use_page(7, WRITE, Origin::Vcpu);
    vm.read(8);
    assert_eq!(vm.idle(), []);
    vm.read(7);
    let dirty = vm.ask(SlotRequest::DirtyLog(Space::Normal, ID, 0));
    assert!(matches!(dirty, SlotReply::Dirty(pages) if pages.bits[0] == 1 << 7), "{dirty:?}");
}

#[test]
fn a_question_that_the_kernel_refuses_is_refused() {
    let mut vm = Vm::new("demand", Abilities::all(), SlotFlags::empty());
    vm.read(3);
    vm.machine.refuse = Some(Refused::BadHandle);
    assert!(matches!(vm.ask(SlotRequest::Idle(Space::Normal, ID, 0)), SlotReply::Refused(_)));
    assert_eq!(
        vm.ask(SlotRequest::Idle(Space::Normal, SlotId(9), 0)),
        SlotReply::Refused(ipc_proto::slot::SlotRefused::NoSuchSlot)
    );
    assert_eq!(vm.idle(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// With A bits and without them, the answers are the pages that were touched once and not since.
    #[test]
    fn both_kinds_of_cpu_say_the_same(rounds in prop::collection::vec(
        prop::collection::vec(prop_oneof![0..50u64, 1000..1100u64, 0..PAGES], 0..30), 1..6,
    )) {
        for abilities in [Abilities::all(), Abilities::empty()] {
            let mut vm = Vm::new("demand", abilities, SlotFlags::empty());
            let mut known = BTreeSet::new();
            for round in &rounds {
                round.iter().for_each(|offset| vm.read(*offset));
                known.extend(round.iter().copied());
                let expected: Vec<u64> = known.iter().copied().filter(|offset| !round.contains(offset)).collect();
                prop_assert_eq!(vm.idle(), expected);
            }
        }
    }
}
