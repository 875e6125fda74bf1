use crate::level::GIGABYTE;
use crate::machine::Cpu;
use crate::serve::Pager;
use crate::testing::{FIRST_PFN, FakeMachine, READ, Seen, WRITE, access, pager_of, slot};
use ipc_proto::fault::{Fault, Qualification};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space, Tracking};
use ipc_proto::version::PROTOCOL;
use std::boxed::Box;

const FETCH: Qualification = Qualification::FETCH;
/// The slot begins half a gigabyte before the one that lies in it, and ends a little behind.
const BASE: u64 = GIGABYTE / 2;
const PAGES: u64 = GIGABYTE + GIGABYTE / 2 + 0x300;
const INSIDE: u64 = GIGABYTE + 0x1_2345;

struct Vm {
    pager: Box<Pager>,
    machine: FakeMachine,
}

impl Vm {
    /// With frames for the slot, one gigabyte of which lies so.
    fn new(largest: Level, options: &[(&str, &str)]) -> Self {
        let mut machine = FakeMachine::default();
        machine.largest = largest;
        let frames = 2 * GIGABYTE - FIRST_PFN + 0x1234;
        let mut pager = pager_of("huge", frames, &mut machine);
        pager.equip(Cpu { abilities: machine.abilities, largest }, None).expect("what it has");
        for (key, value) in options {
            assert_eq!(pager.policy.set(key, value), Ok(()));
        }
        let mut vm = Self { pager, machine };
        let hello = Hello { version: PROTOCOL, features: Features::empty() };
        assert!(matches!(vm.ask(SlotRequest::Hello(hello)), SlotReply::Hello(_)));
        assert_eq!(vm.ask(SlotRequest::Create(slot(1, BASE, PAGES, SlotFlags::empty()))), SlotReply::Done);
        vm
    }

    fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
    }

    /// An access until it is made; says how many faults it took.
    fn touch(&mut self, gfn: u64, tried: Qualification) -> u32 {
        let needs = match tried {
            FETCH => Rights::EXECUTE,
            WRITE => Rights::WRITE,
            _ => Rights::READ,
        };
        for faults in 0..5 {
            if self.machine.guest(gfn, needs) == Seen::Done {
                return faults;
            }
            let fault = Fault { mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) };
            let words = self.pager.answer(&fault, &mut self.machine);
            if let Err(refused) = self.machine.answered(&fault, &words) {
                self.pager.after_refusal(&fault, refused, &mut self.machine);
            }
        }
        panic!("gfn {gfn:#x}: the same fault for ever");
    }

    /// How many pages there are of each size.
    fn sizes(&self) -> (usize, usize, usize) {
        (self.machine.ept.len(), self.machine.large.len(), self.machine.huge.len())
    }
}

#[test]
fn a_gigabyte_that_lies_in_the_slot_is_one_page_and_the_edges_are_smaller() {
    let mut vm = Vm::new(Level::Huge, &[("page", "1g")]);
    let cleared = vm.machine.cleared;
    assert_eq!((vm.touch(INSIDE, WRITE), vm.sizes()), (1, (0, 0, 1)));
    assert_eq!(vm.machine.cleared, cleared, "nothing is zeroed in the fault");
    assert!((0..1024).all(|index| vm.machine.guest_word(INSIDE, index) == 0));
    assert_eq!(vm.touch(2 * GIGABYTE - 1, FETCH), 0, "all of it is there");
    vm.touch(BASE + 5, READ);
    vm.touch(BASE + PAGES - 1, READ);
    assert_eq!(vm.sizes(), (1, 1, 1), "a large page before it, a small one where the slot ends in a block");
}

#[test]
fn a_cpu_without_them_gets_large_pages() {
    let mut vm = Vm::new(Level::Large, &[("page", "1g")]);
    vm.touch(INSIDE, WRITE);
    assert_eq!(vm.sizes(), (0, 1, 0));
    let mut vm = Vm::new(Level::Huge, &[]);
    vm.touch(INSIDE, WRITE);
    assert_eq!(vm.sizes(), (0, 1, 0), "nobody asked for more");
}

#[test]
fn a_fetch_under_the_workaround_splits_one_block_in_one_reply_and_recovery_makes_it_whole() {
    let mut vm = Vm::new(Level::Huge, &[("page", "1g"), ("nx_huge", "on")]);
    vm.touch(INSIDE, WRITE);
    vm.machine.put(INSIDE, 7, 77);
    let before = vm.machine.invepts;
    assert_eq!(vm.touch(INSIDE, FETCH), 1);
    assert_eq!((vm.sizes(), vm.machine.invepts), ((512, 511, 0), before + 1), "the rest comes back in the same reply");
    assert!(vm.machine.large.values().all(|(_, rights)| !rights.contains(Rights::EXECUTE)), "W^X is not widened");
    assert_eq!(vm.machine.guest_word(INSIDE, 7), 77);
    assert_eq!(vm.pager.recover(&mut vm.machine), 1);
    vm.touch(INSIDE, READ);
    assert_eq!(vm.sizes(), (0, 0, 1), "the block is whole, and with it the gigabyte");
    assert_eq!(vm.machine.guest_word(INSIDE, 7), 77);
}

#[test]
fn a_tracked_page_and_memory_types_split_it() {
    let mut vm = Vm::new(Level::Huge, &[("page", "1g")]);
    vm.touch(INSIDE, WRITE);
    vm.machine.put(INSIDE, 7, 77);
    assert_eq!(vm.ask(SlotRequest::Track(Space::Normal, Gfn(INSIDE), Tracking::On)), SlotReply::Done);
    assert_eq!(vm.sizes(), (0, 0, 0), "it goes away whole");
    vm.touch(INSIDE, READ);
    vm.touch(INSIDE + 512, WRITE);
    assert_eq!(vm.sizes(), (1, 1, 0));
    assert_eq!(vm.machine.guest_word(INSIDE, 7), 77);
    let mut vm = Vm::new(Level::Huge, &[("page", "1g")]);
    vm.touch(INSIDE, WRITE);
    let uncached = (INSIDE & !511) << 12;
    for (register, value) in [(0x200, uncached), (0x201, !0x1f_ffff & 0xf_ffff_ffff | 1 << 11), (0x2ff, 0x806)] {
        assert_eq!(vm.ask(SlotRequest::MemoryType(register, value)), SlotReply::Done);
    }
    vm.touch(INSIDE, WRITE);
    assert_eq!(vm.sizes(), (0, 1, 0), "the largest size at which the type is one");
}

#[test]
fn a_dirty_log_makes_it_small_and_its_end_makes_it_whole() {
    let mut vm = Vm::new(Level::Huge, &[("page", "1g")]);
    vm.touch(INSIDE, WRITE);
    let flags = |flags| SlotRequest::SetFlags(Space::Normal, SlotId(1), flags);
    assert_eq!(vm.ask(flags(SlotFlags::LOG_DIRTY_PAGES)), SlotReply::Done);
    vm.touch(INSIDE, WRITE);
    vm.machine.put(INSIDE, 7, 77);
    assert_eq!(vm.sizes(), (1, 0, 0));
    assert_eq!(vm.ask(flags(SlotFlags::empty())), SlotReply::Done);
    vm.touch(INSIDE, WRITE);
    assert_eq!((vm.sizes(), vm.machine.guest_word(INSIDE, 7)), ((0, 0, 1), 77));
}
