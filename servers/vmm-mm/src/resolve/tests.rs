use super::{Resolution, resolve};
use crate::fault::PageFault;
use crate::memslot::{MemSlots, State};
use crate::testing::{READ, WRITE, access, slot};
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{SlotFlags, SlotId, Space};

const GFN: u64 = 0x105;

fn answer(fault: Fault, flags: SlotFlags, state: State) -> Resolution {
    let mut slots = MemSlots::empty();
    slots.open(40);
    slots.create(&slot(1, 0x100, 0x10, flags)).expect("a good slot");
    slots.set_state(Space::Normal, SlotId(1), state).expect("it exists");
    let fault = PageFault::from_message(&fault);
    let found = slots.lookup(Space::Normal, Gfn(GFN));
    resolve(&fault, found.as_deref())
}

fn on(flags: SlotFlags, qualification: Qualification) -> Resolution {
    answer(access(GFN, qualification), flags, State::Valid)
}

#[test]
fn ram_gets_all_rights_whatever_was_tried() {
    for tried in [READ, WRITE, Qualification::FETCH, READ | WRITE] {
        assert_eq!(on(SlotFlags::empty(), tried), Resolution::Ram(Rights::all()));
    }
}

#[test]
fn a_read_only_slot_is_never_mapped_writable() {
    let rights = Rights::READ | Rights::EXECUTE;
    for tried in [READ, Qualification::FETCH] {
        assert_eq!(on(SlotFlags::READONLY, tried), Resolution::Ram(rights));
    }
}

#[test]
fn a_write_to_a_read_only_slot_is_mmio() {
    for tried in [WRITE, READ | WRITE] {
        assert_eq!(on(SlotFlags::READONLY, tried), Resolution::Emulate);
    }
}

#[test]
fn no_slot_is_mmio_and_not_an_error() {
    for tried in [READ, WRITE, Qualification::FETCH] {
        let fault = PageFault::from_message(&access(GFN, tried));
        assert_eq!(resolve(&fault, None), Resolution::Emulate);
    }
}

#[test]
fn a_misconfiguration_is_decided_by_the_slots_that_there_are_now() {
    let fault = Fault { kind: FaultKind::Misconfiguration, ..access(GFN, Qualification::empty()) };
    assert_eq!(answer(fault, SlotFlags::empty(), State::Valid), Resolution::Ram(Rights::all()));
    assert_eq!(answer(fault, SlotFlags::READONLY, State::Valid), Resolution::Ram(Rights::READ | Rights::EXECUTE));
    assert_eq!(answer(fault, SlotFlags::empty(), State::Invalid), Resolution::Retry);
    assert_eq!(resolve(&PageFault::from_message(&fault), None), Resolution::Emulate);
}

#[test]
fn a_slot_that_is_being_changed_is_tried_again() {
    for flags in [SlotFlags::empty(), SlotFlags::READONLY] {
        assert_eq!(answer(access(GFN, WRITE), flags, State::Invalid), Resolution::Retry);
    }
}

#[test]
fn a_private_slot_is_seen_by_the_guest_and_not_through_a_window() {
    let window = Fault { origin: Origin::Window, ..access(GFN, READ) };
    assert_eq!(answer(window, SlotFlags::PRIVATE, State::Valid), Resolution::Emulate);
    assert_eq!(on(SlotFlags::PRIVATE, READ), Resolution::Ram(Rights::all()));
    assert_eq!(answer(window, SlotFlags::empty(), State::Valid), Resolution::Ram(Rights::all()));
}
