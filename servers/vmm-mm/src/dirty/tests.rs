use super::Way;
use crate::machine::Cpu;
use crate::policy::Chosen;
use crate::serve::Pager;
use crate::testing::{Asked, FIRST_PFN, FakeMachine, READ, Seen, WRITE, access, by_policy};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::memop::{Abilities, HARVEST, Harvest};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

const NONE: SlotFlags = SlotFlags::empty();
const LOGGED: SlotFlags = SlotFlags::LOG_DIRTY_PAGES;
const WAYS: [Way; 3] = [Way::WriteProtect, Way::DirtyBits, Way::Pml];
const ID: SlotId = SlotId(1);
/// The slot begins and ends inside of a block.
const BASE: u64 = 0x300;
const PAGES: u64 = 0x1600;

struct Vm {
    pager: Box<Pager>,
    machine: FakeMachine,
}

impl Vm {
    fn new(policy: &str, way: Way, flags: SlotFlags) -> Self {
        let mut machine = FakeMachine::default();
        machine.log_size = 8;
        let mut pager = by_policy(policy, 20_000, &mut machine, &[]);
        let cpu = Cpu { abilities: machine.abilities, largest: Level::Huge };
        assert_eq!(pager.equip(cpu, Some(way)), Ok(()));
        let mut vm = Self { pager, machine };
        assert_eq!(vm.ask(SlotRequest::Create(crate::testing::slot(1, BASE, PAGES, flags))), SlotReply::Done);
        vm
    }

    fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
    }

    fn flags(&mut self, flags: SlotFlags) {
        assert_eq!(self.ask(SlotRequest::SetFlags(Space::Normal, ID, flags)), SlotReply::Done);
    }

    fn fault(&mut self, fault: &Fault) {
        let fault = Fault { mmu_seq: self.machine.mmu_seq, ..*fault };
        let words = self.pager.answer(&fault, &mut self.machine);
        if let Err(refused) = self.machine.answered(&fault, &words) {
            let words = self.pager.after_refusal(&fault, refused, &mut self.machine);
            assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry), "{refused}");
        }
    }

    /// An access of the guest, until it is made.
    fn touch(&mut self, gfn: u64, tried: Qualification) {
        let needs = if tried == WRITE { Rights::WRITE } else { Rights::READ };
        for _ in 0..5 {
            match self.machine.guest(gfn, needs) {
                Seen::Done => return,
                Seen::Server => panic!("it is memory"),
                Seen::Fault(FaultKind::LogFull) => {
                    self.fault(&Fault { kind: FaultKind::LogFull, ..access(0, Qualification::empty()) });
                }
                Seen::Fault(kind) => self.fault(&Fault { kind, ..access(gfn, tried) }),
            }
        }
        panic!("gfn {gfn:#x}: the same fault for ever");
    }

    /// The same of the VM's server, through its window.
    fn window(&mut self, gfn: u64, needs: Rights) {
        for _ in 0..5 {
            match self.machine.window(gfn, needs) {
                Seen::Done => return,
                Seen::Fault(_) | Seen::Server => {
                    let tried = if needs == Rights::WRITE { WRITE } else { READ };
                    self.fault(&Fault { origin: Origin::Window, ..access(gfn, tried) });
                }
            }
        }
        panic!("gfn {gfn:#x}: the same fault for ever");
    }

    fn dirty(&mut self) -> Vec<u64> {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            match self.ask(SlotRequest::DirtyLog(Space::Normal, ID, from)) {
                SlotReply::Dirty(DirtyPages { first, bits }) => {
                    let at = |place: u64| bits[(place / 64) as usize] >> (place % 64) & 1 == 1;
                    found.extend((0..DirtyPages::PAGES).filter(|place| at(*place)).map(|place| first + place));
                    from = first + DirtyPages::PAGES;
                }
                SlotReply::Done => return found,
                other => panic!("no answer to the question: {other:?}"),
            }
        }
    }
}

#[test]
fn the_best_way_that_the_cpu_has_is_taken_and_no_other_on_request() {
    let bits = Abilities::ACCESSED_DIRTY;
    assert_eq!(Way::best(Abilities::empty()), Way::WriteProtect);
    assert_eq!(Way::best(bits), Way::DirtyBits);
    assert_eq!(Way::best(bits | Abilities::LOG), Way::Pml);
    let mut pager = Box::new(Pager::empty());
    pager.prepare(FIRST_PFN, &[1, 0, 0, 0, 0, 0, 0, 1], 40, Chosen::by_name("demand").expect("there is such a policy"));
    let cpu = Cpu { abilities: bits, largest: Level::Large };
    assert_eq!(pager.equip(cpu, None), Ok(()));
    assert_eq!(pager.vms[7].watch.way, Way::DirtyBits);
    assert_eq!(pager.vms[6].watch.cpu, Cpu::PLAIN, "of another pager's VM nothing is written");
    assert_eq!(pager.equip(cpu, Some(Way::Pml)), Err(Way::Pml));
    assert_eq!(pager.vms[0].watch.way, Way::DirtyBits, "as it was");
    assert_eq!(pager.equip(cpu, Some(Way::WriteProtect)), Ok(()));
    assert_eq!(pager.vms[0].watch.way, Way::WriteProtect);
    for (way, name) in WAYS.into_iter().zip(Way::NAMES) {
        assert_eq!((way.name(), Way::by_name(name)), (*name, Some(way)));
    }
    assert_eq!(Way::by_name("Pml"), None);
}

#[test]
fn what_was_written_is_told_once_and_nothing_else() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        for gfn in [0x300, 0x4ff, 0x500, 0x18ff] {
            vm.touch(gfn, WRITE);
        }
        vm.touch(0x301, READ);
        assert_eq!(vm.dirty(), [0, 0x1ff, 0x200, 0x15ff], "{way:?}");
        assert_eq!(vm.dirty(), [], "{way:?}: what was told is clean");
        vm.touch(0x301, WRITE);
        vm.touch(0x4ff, WRITE);
        assert_eq!(vm.dirty(), [1, 0x1ff], "{way:?}");
        assert_eq!(vm.pager.vms[0].stats.dirty_pages, 6);
    }
}

/// The first dirty page that is found may let its answer reach beyond what was looked at to find it.
#[test]
fn an_answer_is_whole_wherever_it_begins() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        let written = [70, DirtyPages::PAGES + 5];
        written.iter().for_each(|offset| vm.touch(BASE + offset, WRITE));
        assert_eq!(vm.dirty(), written, "{way:?}");
    }
}

#[test]
fn a_page_that_was_written_before_is_written_again_without_the_pager() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        vm.touch(0x400, WRITE);
        let taken = vm.pager.vms[0].vcpus[0].pf_taken;
        for _ in 0..3 {
            assert_eq!(vm.dirty(), [0x100], "{way:?}");
            vm.touch(0x400, WRITE);
        }
        assert_eq!(vm.pager.vms[0].vcpus[0].pf_taken, taken, "{way:?}");
        let mended = if way == Way::WriteProtect { 3 } else { 0 };
        assert_eq!(vm.machine.mended, mended, "{way:?}: the kernel gives back what it took");
    }
}

#[test]
fn a_full_log_is_taken_and_loses_nothing() {
    let mut vm = Vm::new("demand", Way::Pml, LOGGED);
    (0x400..0x440).for_each(|gfn| vm.touch(gfn, WRITE));
    let full = vm.machine.asked.iter().filter(|asked| matches!(asked, Asked::Harvest(.., Harvest::Log))).count();
    assert!(full > 2, "the log of 8 pages was full more than once");
    assert_eq!(vm.dirty(), (0x100..0x140).collect::<Vec<_>>());
}

#[test]
fn the_log_is_on_while_a_slot_wants_it() {
    let mut vm = Vm::new("demand", Way::Pml, NONE);
    assert!(vm.machine.log.is_none());
    vm.flags(LOGGED);
    assert!(vm.machine.log.is_some());
    let second = crate::testing::slot(2, 0x4000, 16, LOGGED);
    assert_eq!(vm.ask(SlotRequest::Create(second)), SlotReply::Done);
    vm.flags(NONE);
    assert!(vm.machine.log.is_some(), "the other one wants it still");
    assert_eq!(vm.ask(SlotRequest::Delete(Space::Normal, SlotId(2))), SlotReply::Done);
    assert!(vm.machine.log.is_none());
}

#[test]
fn logging_begins_clean_in_a_slot_that_is_in_use() {
    for (way, policy) in WAYS.into_iter().flat_map(|way| ["demand", "fault-around", "huge"].map(|name| (way, name))) {
        let mut vm = Vm::new(policy, way, NONE);
        for gfn in [0x400, 0x4ab, 0x500] {
            vm.touch(gfn, WRITE);
        }
        vm.flags(LOGGED);
        assert_eq!(vm.dirty(), [], "{way:?} {policy}");
        vm.touch(0x4ab, WRITE);
        vm.touch(0x4ac, READ);
        assert_eq!(vm.dirty(), [0x1ab], "{way:?} {policy}");
        assert!(vm.machine.large.is_empty(), "{way:?}: a bit for 512 pages says too much");
        vm.flags(NONE);
        vm.touch(0x4ac, WRITE);
        vm.flags(LOGGED);
        assert_eq!(vm.dirty(), [], "{way:?} {policy}: it begins clean again");
    }
}

#[test]
fn what_is_large_is_made_small_by_one_operation_and_whole_when_logging_ends() {
    for way in WAYS {
        let mut vm = Vm::new("huge", way, NONE);
        for gfn in [0x400, 0x600, 0x800] {
            vm.touch(gfn, WRITE);
            vm.machine.put(gfn, 5, gfn as u32);
        }
        assert_eq!(vm.machine.large.len(), 3);
        let before = vm.machine.invepts;
        vm.flags(LOGGED);
        assert_eq!(vm.machine.invepts, before + 1, "{way:?}: three large pages, one operation");
        vm.touch(0x400, WRITE);
        assert_eq!((vm.machine.large.len(), vm.dirty()), (0, std::vec![0x100]), "{way:?}");
        vm.flags(NONE);
        vm.touch(0x600, READ);
        assert_eq!(vm.machine.large.keys().copied().collect::<Vec<_>>(), [0x600], "{way:?}");
        vm.touch(0x800, READ);
        assert_eq!([0x600, 0x800].map(|gfn| vm.machine.guest_word(gfn, 5)), [0x600, 0x800]);
        assert_eq!(vm.pager.vms[0].stats.collapses, 3);
    }
}

#[test]
fn writes_through_the_window_are_told_too_and_told_again() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        vm.window(0x410, Rights::WRITE);
        vm.window(0x411, Rights::READ);
        assert_eq!(vm.dirty(), [0x110], "{way:?}");
        vm.window(0x410, Rights::WRITE);
        assert_eq!(vm.dirty(), [0x110], "{way:?}: the window shows the page for writing no longer");
        vm.touch(0x410, WRITE);
        assert_eq!(vm.dirty(), [0x110], "{way:?}: nor hides it from the guest's own writes");
    }
}

#[test]
fn what_takes_a_mapping_away_loses_no_write() {
    let changes: [fn(&mut Vm); 5] = [
        |vm| vm.flags(LOGGED | SlotFlags::PRIVATE),
        |vm| vm.flags(LOGGED | SlotFlags::READONLY),
        |vm| assert_eq!(vm.ask(SlotRequest::Move(Space::Normal, ID, Gfn(BASE + 0x40))), SlotReply::Done),
        |vm| assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(0x400), Tracking::On)), SlotReply::Done),
        |vm| {
            vm.pager.vms[0].stats.large_pages = 1;
            assert_eq!(vm.ask(SlotRequest::MemoryType(0x2ff, 0x806)), SlotReply::Done);
        },
    ];
    for way in WAYS {
        for (number, change) in changes.iter().enumerate() {
            let mut vm = Vm::new("demand", way, LOGGED);
            vm.touch(0x400, WRITE);
            vm.touch(0x401, READ);
            change(&mut vm);
            assert_eq!(vm.dirty(), [0x100], "{way:?}, change {number}");
            assert_eq!(vm.dirty(), [], "{way:?}, change {number}");
        }
    }
}

#[test]
fn a_neighbour_that_is_mapped_again_stays_dirty() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        vm.touch(0x410, WRITE);
        vm.pager.policy = crate::policy::Chosen::by_name("fault-around").expect("it exists");
        vm.touch(0x411, READ);
        assert_eq!(vm.dirty(), [0x110], "{way:?}: the window around 0x411 has the page in it");
    }
}

#[test]
fn a_harvest_that_the_kernel_refuses_forgets_nothing() {
    for way in WAYS {
        let mut vm = Vm::new("demand", way, LOGGED);
        vm.touch(0x400, WRITE);
        vm.machine.refuse = Some(Refused::BadHandle);
        let refused = vm.ask(SlotRequest::DirtyLog(Space::Normal, ID, 0));
        assert_eq!(refused, SlotReply::Refused(SlotRefused::Kernel(Refused::BadHandle)), "{way:?}");
        assert_eq!(vm.dirty(), [0x100], "{way:?}");
    }
}

/// A slot of 64 MiB and more in several harvests, each in pieces that end with a block.
#[test]
fn a_large_slot_is_asked_about_in_few_operations() {
    let mut vm = Vm::new("demand", Way::DirtyBits, NONE);
    let pages = 3 * HARVEST;
    let big = crate::testing::slot(2, 0x10_0000 + 7, pages, LOGGED);
    vm.pager.vms[0].pool.open(crate::testing::FIRST_PFN, 0, 200_000, &mut vm.machine);
    assert_eq!(vm.ask(SlotRequest::Create(big)), SlotReply::Done);
    let last = 0x10_0000 + 7 + pages - 1;
    vm.touch(last, WRITE);
    vm.machine.asked.clear();
    let SlotReply::Dirty(DirtyPages { first, bits }) = vm.ask(SlotRequest::DirtyLog(Space::Normal, SlotId(2), 0))
    else {
        panic!("the last page is dirty");
    };
    assert_eq!(first + 63 - u64::from(bits[0].leading_zeros()), pages - 1);
    assert!(vm.machine.asked.len() <= 6, "{:?}", vm.machine.asked);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u64),
    Write(u64),
    Window(u64),
    Ask,
    Private,
    Plain,
    Restart,
    Move(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![0..40u64, 0x100..0x140u64, 1020..1030u64, 0..PAGES];
    prop_oneof![
        6 => offset.clone().prop_map(Step::Read),
        12 => offset.clone().prop_map(Step::Write),
        3 => offset.prop_map(Step::Window),
        2 => Just(Step::Ask),
        1 => Just(Step::Private),
        1 => Just(Step::Plain),
        1 => Just(Step::Restart),
        1 => (0..64u64).prop_map(|n| Step::Move(0x200 + n * 64)),
    ]
}

/// The same run in one way: every answer to the question what was written.
fn answers(policy: &str, way: Way, steps: &[Step]) -> Vec<Vec<u64>> {
    let mut vm = Vm::new(policy, way, LOGGED);
    let (mut base, mut private, mut expected) = (BASE, false, BTreeSet::new());
    let mut all = Vec::new();
    for step in steps {
        match *step {
            Step::Read(offset) => vm.touch(base + offset, READ),
            Step::Write(offset) => {
                vm.touch(base + offset, WRITE);
                expected.insert(offset);
            }
            Step::Window(offset) if !private => {
                vm.window(base + offset, Rights::WRITE);
                expected.insert(offset);
            }
            Step::Window(_) => {}
            Step::Ask => {
                let told = vm.dirty();
                assert_eq!(told, core::mem::take(&mut expected).into_iter().collect::<Vec<_>>(), "{way:?} {policy}");
                all.push(told);
            }
            Step::Private | Step::Plain => {
                private = matches!(step, Step::Private);
                vm.flags(if private { LOGGED | SlotFlags::PRIVATE } else { LOGGED });
            }
            Step::Restart => {
                vm.flags(if private { SlotFlags::PRIVATE } else { NONE });
                vm.flags(if private { LOGGED | SlotFlags::PRIVATE } else { LOGGED });
                expected.clear();
            }
            Step::Move(to) => {
                assert_eq!(vm.ask(SlotRequest::Move(Space::Normal, ID, Gfn(to))), SlotReply::Done);
                base = to;
            }
        }
    }
    all.push(vm.dirty());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The three ways say the same of the same run, and what was written is what they say.
    #[test]
    fn three_ways_one_answer(
        policy in prop::sample::select(&["demand", "fault-around", "huge", "eager"][..]),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let [protect, bits, log] = WAYS.map(|way| answers(policy, way, &steps));
        prop_assert_eq!(&protect, &bits);
        prop_assert_eq!(&protect, &log);
    }
}
