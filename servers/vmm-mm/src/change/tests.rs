use crate::dirty::Way;
use crate::machine::Cpu;
use crate::serve::Pager;
use crate::testing::{Asked, FakeMachine, READ, Seen, WRITE, access, by_policy, slot};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space, Tracking};
use std::boxed::Box;

const NONE: SlotFlags = SlotFlags::empty();
const ID: SlotId = SlotId(1);
const NORMAL: Space = Space::Normal;

/// A slot of 64 pages, all touched.
fn touched(policy: &str) -> (Box<Pager>, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pager = by_policy(policy, 9000, &mut machine, &[(1, 0x400, 0x800, NONE)]);
    for gfn in 0x400..0x440 {
        let words = pager.answer(&Fault { mmu_seq: machine.mmu_seq, ..access(gfn, WRITE) }, &mut machine);
        let _ = machine.apply(&words);
    }
    (pager, machine)
}

/// Who shrinks rights causes one INVEPT, however many pages it touches.
#[test]
fn every_shrink_is_one_invalidation_however_many_pages() {
    let requests = [
        SlotRequest::Delete(NORMAL, ID),
        SlotRequest::Move(NORMAL, ID, Gfn(0x4000)),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::READONLY),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::PRIVATE),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::PRIVATE | SlotFlags::READONLY),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES),
        SlotRequest::Track(NORMAL, Gfn(0x401), Tracking::On),
        SlotRequest::MemoryType(0x2ff, 0x806),
    ];
    for (request, policy) in requests.into_iter().flat_map(|request| ["demand", "huge", "eager"].map(|p| (request, p)))
    {
        let (mut pager, mut machine) = touched(policy);
        pager.vms[0].stats.large_pages = 1;
        let before = (machine.invepts, machine.mmu_seq);
        assert_eq!(pager.control(0, request, &mut machine), SlotReply::Done);
        let after = (machine.invepts, machine.mmu_seq);
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{policy}: {request:?}: {:?}", machine.asked);
    }
}

#[test]
fn what_only_gives_rights_invalidates_nothing() {
    let (mut pager, mut machine) = touched("demand");
    let set = |flags| SlotRequest::SetFlags(NORMAL, ID, flags);
    assert_eq!(pager.control(0, set(SlotFlags::READONLY), &mut machine), SlotReply::Done);
    let before = machine.invepts;
    for flags in [NONE, NONE] {
        assert_eq!(pager.control(0, set(flags), &mut machine), SlotReply::Done);
    }
    let more = SlotRequest::Create(slot(2, 0x8000, 16, NONE));
    assert_eq!(pager.control(0, more, &mut machine), SlotReply::Done);
    assert_eq!(machine.invepts, before);
}

/// A frame is unmapped before it can be anybody else's.
#[test]
fn the_invalidation_comes_before_the_frames_are_free() {
    let (mut pager, mut machine) = touched("demand");
    machine.refuse_after = Some((1, Refused::BadHandle));
    let left = pager.vms[0].pool.left();
    let refused = pager.control(0, SlotRequest::Delete(NORMAL, ID), &mut machine);
    assert_eq!(machine.asked.last(), Some(&Asked::Unmap(0x400, 0x800)));
    assert!(matches!(refused, SlotReply::Refused(_)));
    assert_eq!((pager.vms[0].pool.left(), machine.ept.len()), (left, 0x40), "what is mapped is nobody else's");
}

/// Each change is refused at every operation of the kernel that it needs, and then the slot is what it was.
#[test]
fn a_change_that_is_refused_half_way_leaves_the_slot_as_it_was() {
    let requests = [
        SlotRequest::Delete(NORMAL, ID),
        SlotRequest::Move(NORMAL, ID, Gfn(0x4000)),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::READONLY),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::PRIVATE),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES | SlotFlags::READONLY),
        SlotRequest::Track(NORMAL, Gfn(0x401), Tracking::On),
    ];
    for (request, way) in
        requests.into_iter().flat_map(|request| [Way::WriteProtect, Way::Pml].map(|way| (request, way)))
    {
        for after in 0..8 {
            let (mut pager, mut machine) = touched("demand");
            let cpu = Cpu { abilities: machine.abilities, largest: Level::Large };
            pager.equip(cpu, Some(way)).expect("it has it");
            machine.refuse_after = Some((after, Refused::BadHandle));
            if pager.control(0, request, &mut machine) == SlotReply::Done {
                assert!(after > 0, "{request:?}: asks the kernel");
                continue;
            }
            machine.refuse_after = None;
            let slot = pager.vms[0].slots.lookup(NORMAL, Gfn(0x401)).expect("where it was");
            assert_eq!((slot.id(), slot.flags()), (ID, NONE), "{request:?} {after}");
            assert_eq!(slot.state(), crate::memslot::State::Valid);
            assert!(machine.log.is_none(), "{request:?} {after}: nobody wants the log");
            machine.ept.clear();
            let fault = Fault { mmu_seq: machine.mmu_seq, ..access(0x401, WRITE) };
            let words = pager.answer(&fault, &mut machine);
            assert_eq!(machine.install(&words).map(|grant| grant.rights), Some(Rights::all()), "{request:?} {after}");
        }
    }
}

/// Flags change at once: there is no time between two of them, and no fault sees half of a change.
#[test]
fn flags_change_in_one_step_from_any_to_any() {
    for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))) {
        let (from, to) = (SlotFlags::from_bits_retain(from), SlotFlags::from_bits_retain(to));
        let (mut pager, mut machine) = touched("demand");
        assert_eq!(pager.control(0, SlotRequest::SetFlags(NORMAL, ID, from), &mut machine), SlotReply::Done);
        assert_eq!(pager.control(0, SlotRequest::SetFlags(NORMAL, ID, to), &mut machine), SlotReply::Done);
        let readonly = to.contains(SlotFlags::READONLY);
        let writable = machine.ept.values().any(|(_, rights)| rights.contains(Rights::WRITE));
        assert!(!(readonly && writable), "{from:?} to {to:?}");
        let fault = Fault { mmu_seq: machine.mmu_seq, ..access(0x401, WRITE) };
        let words = pager.answer(&fault, &mut machine);
        let mapped = machine.answered(&fault, &words).expect("accepted").is_some();
        let allowed = machine.leaf(0x401).is_some_and(|(_, rights)| rights.contains(Rights::WRITE));
        assert_eq!(mapped || allowed, !readonly, "{from:?} to {to:?}");
        let private = to.contains(SlotFlags::PRIVATE);
        assert!(machine.ept.keys().all(|gfn| machine.hidden.contains(gfn) == private), "{from:?} to {to:?}");
        let window = Fault { origin: Origin::Window, ..fault };
        let reply = ClaimedReply::from_words(&pager.answer(&window, &mut machine)).expect("a reply");
        let seen = !readonly && !to.contains(SlotFlags::PRIVATE);
        assert_eq!(matches!(reply, ClaimedReply::Map(..)), seen, "{from:?} to {to:?}");
    }
}

/// An access to an address of no slot, as the guest makes it: whether the pager was asked.
fn mmio(pager: &mut Pager, machine: &mut FakeMachine, gfn: u64) -> (u32, Seen) {
    for asked in 0..5 {
        match machine.guest(gfn, Rights::READ) {
            Seen::Fault(kind) => {
                let tried = if kind == FaultKind::Violation { READ } else { Qualification::empty() };
                let fault = Fault { kind, mmu_seq: machine.mmu_seq, ..access(gfn, tried) };
                let words = pager.answer(&fault, machine);
                if let Err(refused) = machine.answered(&fault, &words) {
                    let words = pager.after_refusal(&fault, refused, machine);
                    assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry), "{refused}");
                    continue;
                }
                if matches!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Mmio(_))) {
                    return (asked + 1, Seen::Server);
                }
            }
            seen => return (asked, seen),
        }
    }
    panic!("gfn {gfn:#x}: the same fault for ever");
}

#[test]
fn mmio_is_remembered_until_a_slot_changes_and_then_asked_again() {
    let (mut pager, mut machine) = touched("demand");
    assert_eq!(mmio(&mut pager, &mut machine, 0xfee00), (1, Seen::Server));
    for _ in 0..3 {
        assert_eq!(mmio(&mut pager, &mut machine, 0xfee00), (0, Seen::Server), "without the pager");
    }
    for request in [
        SlotRequest::Create(slot(2, 0x8000, 16, NONE)),
        SlotRequest::Move(NORMAL, SlotId(2), Gfn(0x9000)),
        SlotRequest::SetFlags(NORMAL, SlotId(2), SlotFlags::READONLY),
        SlotRequest::Delete(NORMAL, SlotId(2)),
    ] {
        assert_eq!(pager.control(0, request, &mut machine), SlotReply::Done);
        assert_eq!(mmio(&mut pager, &mut machine, 0xfee00), (1, Seen::Server), "{request:?}: asked once");
        assert_eq!(mmio(&mut pager, &mut machine, 0xfee00), (0, Seen::Server), "{request:?}: and refreshed");
    }
}

#[test]
fn memory_that_appears_where_mmio_was_remembered_is_memory_at_once() {
    for policy in ["demand", "fault-around", "huge"] {
        let (mut pager, mut machine) = touched(policy);
        for gfn in [0x8000, 0x8001, 0x81ff] {
            assert_eq!(mmio(&mut pager, &mut machine, gfn), (1, Seen::Server));
        }
        assert_eq!(pager.control(0, SlotRequest::Create(slot(2, 0x8000, 512, NONE)), &mut machine), SlotReply::Done);
        for gfn in [0x8000, 0x8001, 0x81ff] {
            let (asked, seen) = mmio(&mut pager, &mut machine, gfn);
            assert_eq!(seen, Seen::Done, "{policy}: it is memory");
            assert!(asked <= 4, "{policy}");
            machine.guest_word(gfn, 0);
        }
        if policy == "huge" {
            assert!(machine.large.contains_key(&0x8000), "the tables of what was remembered are not in the way");
        }
        let delete = SlotRequest::Delete(NORMAL, SlotId(2));
        assert_eq!(pager.control(0, delete, &mut machine), SlotReply::Done);
        assert_eq!(mmio(&mut pager, &mut machine, 0x8001), (1, Seen::Server), "{policy}: and none again");
    }
}

#[test]
fn only_an_address_of_no_slot_is_remembered() {
    let (mut pager, mut machine) = touched("demand");
    let readonly = SlotRequest::SetFlags(NORMAL, ID, SlotFlags::READONLY);
    assert_eq!(pager.control(0, readonly, &mut machine), SlotReply::Done);
    let answer = |pager: &mut Pager, machine: &mut FakeMachine, fault: Fault| {
        ClaimedReply::from_words(&pager.answer(&Fault { mmu_seq: machine.mmu_seq, ..fault }, machine))
    };
    let written = answer(&mut pager, &mut machine, access(0x401, WRITE));
    assert_eq!(written, Ok(ClaimedReply::Mmio(0)), "its reads are memory");
    let window = answer(&mut pager, &mut machine, Fault { origin: Origin::Window, ..access(0x8000, READ) });
    assert_eq!(window, Ok(ClaimedReply::Mmio(0)), "a window has no entries to remember it in");
    let vm = &mut pager.vms[0];
    vm.watch.mmio.begin(0, &mut machine).expect("accepted");
    let during = answer(&mut pager, &mut machine, access(0x8000, READ));
    assert_eq!(during, Ok(ClaimedReply::Mmio(0)), "a change is in progress");
    pager.vms[0].watch.mmio.end();
    let after = answer(&mut pager, &mut machine, access(0x8000, READ));
    assert_eq!(after, Ok(ClaimedReply::Mmio(machine.generation)));
}

/// Else a log that begins would not take the large page away: the pager took it for small.
#[test]
fn tracking_that_is_refused_leaves_a_large_page_large() {
    let (mut pager, mut machine) = touched("huge");
    assert!(machine.large.contains_key(&0x400));
    machine.refuse = Some(Refused::BadHandle);
    let refused = pager.control(0, SlotRequest::Track(NORMAL, Gfn(0x401), Tracking::On), &mut machine);
    assert!(matches!(refused, SlotReply::Refused(_)), "{refused:?}");
    let log = SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES);
    assert_eq!(pager.control(0, log, &mut machine), SlotReply::Done);
    assert!(machine.large.is_empty(), "a logged slot has no large pages");
}

/// The same where writes were not told of yet, however they are seen; and none of them is lost.
#[test]
fn what_is_noted_before_it_goes_costs_no_invalidation_of_its_own() {
    let requests = [
        SlotRequest::Move(NORMAL, ID, Gfn(0x4000)),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES | SlotFlags::PRIVATE),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES | SlotFlags::READONLY),
        SlotRequest::Track(NORMAL, Gfn(0x401), Tracking::On),
    ];
    for (request, way) in
        requests.into_iter().flat_map(|request| [Way::WriteProtect, Way::DirtyBits, Way::Pml].map(|way| (request, way)))
    {
        let mut machine = FakeMachine::default();
        let mut pager = by_policy("demand", 9000, &mut machine, &[]);
        pager.equip(Cpu { abilities: machine.abilities, largest: Level::Page }, Some(way)).expect("the CPU has it");
        let logged = slot(1, 0x400, 0x800, SlotFlags::LOG_DIRTY_PAGES);
        assert_eq!(pager.control(0, SlotRequest::Create(logged), &mut machine), SlotReply::Done);
        for gfn in 0x400..0x410 {
            let words = pager.answer(&Fault { mmu_seq: machine.mmu_seq, ..access(gfn, WRITE) }, &mut machine);
            let _ = machine.install(&words);
            machine.guest_write(gfn, 0, 1);
        }
        let before = machine.invepts;
        assert_eq!(pager.control(0, request, &mut machine), SlotReply::Done);
        assert_eq!(machine.invepts - before, 1, "{way:?}: {request:?}: {:?}", machine.asked);
        let told = pager.control(0, SlotRequest::DirtyLog(NORMAL, ID, 0), &mut machine);
        assert!(matches!(told, SlotReply::Dirty(pages) if pages.bits[0] == 0xffff), "{way:?}: {request:?}: {told:?}");
    }
}

/// What the CPU has logged of other slots is not taken for a slot that moves, so that is no second invalidation; and nothing
/// is lost or told too much for it, of either, wherever slots lie afterwards.
#[test]
fn a_move_is_one_invalidation_whatever_else_the_cpu_has_logged() {
    let mut machine = FakeMachine::default();
    let mut pager = by_policy("demand", 9000, &mut machine, &[]);
    pager.equip(Cpu { abilities: machine.abilities, largest: Level::Page }, Some(Way::Pml)).expect("the CPU has it");
    let logged = SlotFlags::LOG_DIRTY_PAGES;
    for slot in [slot(1, 0x400, 0x100, logged), slot(2, 0x800, 0x100, logged)] {
        assert_eq!(pager.control(0, SlotRequest::Create(slot), &mut machine), SlotReply::Done);
    }
    let write = |pager: &mut Pager, machine: &mut FakeMachine, gfn: u64| {
        let words = pager.answer(&Fault { mmu_seq: machine.mmu_seq, ..access(gfn, WRITE) }, machine);
        let _ = machine.install(&words);
        machine.guest_write(gfn, 0, 1);
    };
    for gfn in [0x401, 0x802, 0x403] {
        write(&mut pager, &mut machine, gfn);
    }
    let before = machine.invepts;
    assert_eq!(pager.control(0, SlotRequest::Move(NORMAL, ID, Gfn(0x4000)), &mut machine), SlotReply::Done);
    assert_eq!(machine.invepts - before, 1, "{:?}", machine.asked);
    // The other slot lies where the log says that something was written.
    assert_eq!(pager.control(0, SlotRequest::Move(NORMAL, SlotId(2), Gfn(0x400)), &mut machine), SlotReply::Done);
    assert_eq!(machine.invepts - before, 2, "{:?}", machine.asked);
    write(&mut pager, &mut machine, 0x405);
    for (id, bits) in [(2, 1 << 2 | 1 << 5), (1, 1 << 1 | 1 << 3)] {
        let told = pager.control(0, SlotRequest::DirtyLog(NORMAL, SlotId(id), 0), &mut machine);
        assert!(matches!(told, SlotReply::Dirty(pages) if pages.bits[0] == bits), "slot {id}: {told:?}");
        let again = pager.control(0, SlotRequest::DirtyLog(NORMAL, SlotId(id), 0), &mut machine);
        assert_eq!(again, SlotReply::Done);
    }
    machine.guest_write(0x405, 0, 2);
    let told = pager.control(0, SlotRequest::DirtyLog(NORMAL, SlotId(2), 0), &mut machine);
    assert!(matches!(told, SlotReply::Dirty(pages) if pages.bits[0] == 1 << 5), "it is written again: {told:?}");
}
