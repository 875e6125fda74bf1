use super::{MESSAGE, REPLY};
use crate::serve::Pager;
use crate::store::Tree;
use crate::testing::{Asked, FakeMachine, READ, WRITE, access, pager, pager_with, slot};
use ipc_proto::fault::{ClaimedReply, Fault, Origin};
use ipc_proto::grant::{Gfn, Gpa, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{DirtyPages, Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use ipc_proto::version::{PROTOCOL, Version};
use ipc_proto::wire;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const NONE: SlotFlags = SlotFlags::empty();
const NORMAL: Space = Space::Normal;
const ID: SlotId = SlotId(1);

fn touched() -> (Box<Pager>, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pager = pager_with(2000, &mut machine, &[(1, 0x100, 0x20, NONE)]);
    for gfn in 0x100..0x120 {
        let words = pager.answer(&access(gfn, WRITE), &mut machine);
        machine.install(&words);
        machine.guest_write(gfn, 3, gfn as u32);
    }
    (pager, machine)
}

fn refused(pager: &mut Pager, request: SlotRequest, machine: &mut FakeMachine) -> Option<SlotRefused> {
    match pager.control(0, request, machine) {
        SlotReply::Refused(why) => Some(why),
        SlotReply::Hello(_)
        | SlotReply::Done
        | SlotReply::Dirty(_)
        | SlotReply::Idle(_)
        | SlotReply::Line(_)
        | SlotReply::Left(_)
        | SlotReply::Slot(_) => None,
    }
}

#[test]
fn nothing_is_done_before_hello() {
    let mut machine = FakeMachine::default();
    let mut pager = pager(100, &mut machine);
    for request in [
        SlotRequest::Create(slot(1, 0, 1, NONE)),
        SlotRequest::Delete(NORMAL, ID),
        SlotRequest::Move(NORMAL, ID, Gfn(0)),
        SlotRequest::SetFlags(NORMAL, ID, NONE),
        SlotRequest::Stats,
        SlotRequest::DirtyLog(NORMAL, ID, 0),
        SlotRequest::Track(NORMAL, Gfn(0), Tracking::On),
        SlotRequest::Why(Gpa(0)),
        SlotRequest::MemoryType(0x2ff, 0),
    ] {
        assert_eq!(refused(&mut pager, request, &mut machine), Some(SlotRefused::NoHello), "{request:?}");
    }
    assert_eq!(pager.control(999, SlotRequest::Stats, &mut machine), SlotReply::Refused(SlotRefused::NoHello));
}

#[test]
fn another_major_version_is_refused_and_another_minor_is_not() {
    let mut machine = FakeMachine::default();
    let mut pager = pager(2000, &mut machine);
    let hello = |version| SlotRequest::Hello(Hello { version, features: Features::all() });
    let other = Version { major: PROTOCOL.major + 1, ..PROTOCOL };
    assert_eq!(refused(&mut pager, hello(other), &mut machine), Some(SlotRefused::Version));
    assert_eq!(refused(&mut pager, SlotRequest::Stats, &mut machine), Some(SlotRefused::NoHello));
    for features in [Features::all().difference(Features::KEEPS), Features::all()] {
        let newer = hello(Version { minor: PROTOCOL.minor + 1, ..PROTOCOL });
        assert_eq!(pager.control(0, newer, &mut machine), SlotReply::Hello(Hello { version: PROTOCOL, features }));
        pager.keep_on(&mut machine).expect("there are frames for what outlives it");
    }
}

#[test]
fn bytes_that_are_no_request_are_malformed() {
    let mut machine = FakeMachine::default();
    let mut pager = pager_with(100, &mut machine, &[]);
    let mut good = [0; MESSAGE];
    let len = wire::encode(&SlotRequest::Create(slot(1, 0, 1, NONE)), &mut good).expect("it fits");
    let cases: [&[u8]; 5] = [&[], &[0xff; 10], &good[..len - 1], &good[..=len], &[99]];
    for bytes in cases {
        let mut reply = [0; REPLY];
        let used = pager.request(0, bytes, &mut reply, &mut machine);
        let answer: SlotReply = wire::decode(&reply[..used]).expect("a reply");
        assert_eq!(answer, SlotReply::Refused(SlotRefused::Malformed), "{bytes:x?}");
    }
    let mut reply = [0; REPLY];
    let used = pager.request(0, &good[..len], &mut reply, &mut machine);
    assert_eq!(wire::decode(&reply[..used]), Ok(SlotReply::Done));
}

#[test]
fn every_request_and_reply_fits_the_buffers() {
    let large =
        Slot { id: SlotId(u16::MAX), space: Space::Smm, base: Gfn(u64::MAX), pages: u64::MAX, flags: SlotFlags::all() };
    let mut request = [0; MESSAGE];
    assert!(wire::encode(&SlotRequest::Create(large), &mut request).is_ok());
    let mut buffer = [0; REPLY];
    let hello = Hello { version: Version { major: u16::MAX, minor: u16::MAX }, features: Features::all() };
    let dirty = SlotReply::Dirty(DirtyPages { first: u64::MAX, bits: [u64::MAX; 16] });
    for reply in [dirty, SlotReply::Hello(hello), SlotReply::Refused(SlotRefused::Overlap(SlotId(u16::MAX)))] {
        assert!(wire::encode(&reply, &mut buffer).is_ok());
    }
}

#[test]
fn a_slot_that_does_not_fit_into_the_frames_is_refused() {
    let mut machine = FakeMachine::default();
    let mut pager = pager_with(Tree::frames_for(0, 60), &mut machine, &[]);
    let ask = |pages| SlotRequest::Create(slot(1, 0, pages, NONE));
    assert_eq!(refused(&mut pager, ask(61), &mut machine), Some(SlotRefused::OutOfMemory));
    assert_eq!(refused(&mut pager, ask(60), &mut machine), None, "nothing was promised to the refused one");
    let more = SlotRequest::Create(slot(2, 100, 1, NONE));
    assert_eq!(refused(&mut pager, more, &mut machine), Some(SlotRefused::OutOfMemory));
    assert_eq!(refused(&mut pager, SlotRequest::Delete(NORMAL, ID), &mut machine), None);
    assert_eq!(refused(&mut pager, more, &mut machine), None, "a deleted slot gives its promise back");
}

#[test]
fn the_refusals_of_the_slots_come_through() {
    let mut machine = FakeMachine::default();
    let mut pager = pager_with(100, &mut machine, &[(1, 0x10, 0x10, NONE)]);
    let far = Gfn(u64::MAX);
    for (request, why) in [
        (SlotRequest::Create(slot(2, 0x40, 0, NONE)), SlotRefused::BadSize),
        (SlotRequest::Create(slot(2, u64::MAX, 1, NONE)), SlotRefused::BeyondGuest),
        (SlotRequest::Create(slot(2, 0x1f, 1, NONE)), SlotRefused::Overlap(ID)),
        (SlotRequest::Create(slot(1, 0x40, 1, NONE)), SlotRefused::Exists),
        (SlotRequest::Create(slot(2, 0x40, 1, SlotFlags::from_bits_retain(8))), SlotRefused::UnknownFlag),
        (SlotRequest::Delete(NORMAL, SlotId(2)), SlotRefused::NoSuchSlot),
        (SlotRequest::Move(NORMAL, ID, far), SlotRefused::BeyondGuest),
        (SlotRequest::SetFlags(NORMAL, ID, SlotFlags::from_bits_retain(8)), SlotRefused::UnknownFlag),
        (SlotRequest::DirtyLog(NORMAL, ID, 0), SlotRefused::NotLogged),
        (SlotRequest::DirtyLog(NORMAL, SlotId(2), 0), SlotRefused::NoSuchSlot),
        (SlotRequest::Track(NORMAL, Gfn(0x20), Tracking::On), SlotRefused::NoSuchSlot),
        (SlotRequest::MemoryType(0x10, 0), SlotRefused::UnknownRegister),
        (SlotRequest::SetFlags(Space::Smm, ID, NONE), SlotRefused::NoSuchSlot),
    ] {
        assert_eq!(refused(&mut pager, request, &mut machine), Some(why), "{request:?}");
    }
    assert_eq!(machine.asked, [], "a refused request asks nothing of the kernel");
}

#[test]
fn a_deleted_slot_is_unmapped_before_its_frames_are_free() {
    let (mut pager, mut machine) = touched();
    let before = pager.vms[0].pool.left();
    assert_eq!(refused(&mut pager, SlotRequest::Delete(NORMAL, ID), &mut machine), None);
    assert_eq!(machine.asked, [Asked::Unmap(0x100, 0x20)]);
    assert!(machine.ept.is_empty());
    assert_eq!(pager.vms[0].pool.left(), before + Tree::frames_for(0, 0x20), "the pages and the node over them");
    let words = pager.answer(&access(0x100, READ), &mut machine);
    assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Mmio(machine.generation)));
}

#[test]
fn a_moved_slot_keeps_its_content() {
    let (mut pager, mut machine) = touched();
    assert_eq!(refused(&mut pager, SlotRequest::Move(NORMAL, ID, Gfn(0x110)), &mut machine), None);
    assert_eq!(machine.asked, [Asked::Unmap(0x100, 0x20)], "where it was, not where it goes");
    for gfn in 0x110..0x130 {
        let fault = Fault { mmu_seq: machine.mmu_seq, ..access(gfn, READ) };
        let words = pager.answer(&fault, &mut machine);
        machine.install(&words);
        assert_eq!(machine.guest_word(gfn, 3), gfn as u32 - 0x10);
    }
    assert_eq!(pager.vms[0].stats.pages_filled, 0x20, "no page was filled twice");
}

#[test]
fn flags_that_only_give_rights_ask_nothing_of_the_kernel() {
    let (mut pager, mut machine) = touched();
    let set = |flags| SlotRequest::SetFlags(NORMAL, ID, flags);
    assert_eq!(refused(&mut pager, set(SlotFlags::READONLY), &mut machine), None);
    assert_eq!(machine.asked.len(), 1);
    assert_eq!(refused(&mut pager, set(SlotFlags::READONLY), &mut machine), None, "as it was");
    assert_eq!(refused(&mut pager, set(NONE), &mut machine), None);
    assert_eq!(machine.asked.len(), 1);
    let fault = Fault { mmu_seq: machine.mmu_seq, ..access(0x100, WRITE) };
    let words = pager.answer(&fault, &mut machine);
    assert_eq!(machine.install(&words).map(|grant| grant.rights), Some(Rights::all()));
}

#[test]
fn a_slot_that_becomes_private_is_taken_out_of_the_window() {
    let (mut pager, mut machine) = touched();
    let request = SlotRequest::SetFlags(NORMAL, ID, SlotFlags::PRIVATE);
    assert_eq!(refused(&mut pager, request, &mut machine), None);
    assert_eq!(machine.asked, [Asked::Unmap(0x100, 0x20)]);
    let window = Fault { origin: Origin::Window, ..access(0x100, READ) };
    let words = pager.answer(&window, &mut machine);
    assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Mmio(0)));
    let fault = Fault { mmu_seq: machine.mmu_seq, ..access(0x100, READ) };
    let words = pager.answer(&fault, &mut machine);
    machine.install(&words);
    assert_eq!(machine.guest_word(0x100, 3), 0x100, "the guest has it as it was");
}

#[test]
fn a_change_that_the_kernel_refuses_changes_nothing() {
    for request in [
        SlotRequest::Delete(NORMAL, ID),
        SlotRequest::Move(NORMAL, ID, Gfn(0x900)),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::READONLY),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::PRIVATE),
        SlotRequest::SetFlags(NORMAL, ID, SlotFlags::LOG_DIRTY_PAGES),
        SlotRequest::Track(NORMAL, Gfn(0x100), Tracking::On),
    ] {
        let (mut pager, mut machine) = touched();
        machine.refuse = Some(Refused::BadHandle);
        let why = refused(&mut pager, request, &mut machine);
        assert_eq!(why, Some(SlotRefused::Kernel(Refused::BadHandle)), "{request:?}");
        assert_eq!(machine.leaf(0x100).map(|(_, rights)| rights), Some(Rights::all()), "{request:?}");
        machine.ept.clear();
        let words = pager.answer(&access(0x100, WRITE), &mut machine);
        assert_eq!(machine.install(&words).map(|grant| grant.rights), Some(Rights::all()), "{request:?}");
        assert_eq!(machine.guest_word(0x100, 3), 0x100);
    }
}

#[test]
fn a_slot_of_the_smm_space_never_touches_what_is_mapped() {
    let (mut pager, mut machine) = touched();
    let smm = Slot { space: Space::Smm, ..slot(1, 0x100, 0x20, NONE) };
    for request in [
        SlotRequest::Create(smm),
        SlotRequest::SetFlags(Space::Smm, ID, SlotFlags::READONLY),
        SlotRequest::Move(Space::Smm, ID, Gfn(0x110)),
        SlotRequest::Delete(Space::Smm, ID),
    ] {
        assert_eq!(refused(&mut pager, request, &mut machine), None, "{request:?}");
    }
    assert_eq!((machine.asked.len(), machine.ept.len()), (0, 0x20));
}

#[test]
fn the_figures_are_reported_when_they_are_asked_for() {
    let (mut pager, mut machine) = touched();
    let _ = pager.answer(&access(0, READ), &mut machine);
    assert_eq!(refused(&mut pager, SlotRequest::Stats, &mut machine), None);
    let stats: BTreeMap<_, _> = machine.stats.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    assert_eq!((stats["pf_taken"], stats["pf_fixed"], stats["pf_emulate"]), (0x21, 0x20, 1));
    assert_eq!((stats["pages_filled"], stats["frames_left"]), (0x20, pager.vms[0].pool.left()));
}

/// What happens to a guest's memory: slot changes by its server, accesses by its vCPUs and through the window.
#[derive(Clone, Debug)]
enum Step {
    Create(u16, u64, u64, SlotFlags),
    Delete(u16),
    Move(u16, u64),
    Flags(u16, SlotFlags),
    Write(u16, u64, u32),
    Read(u16, u64),
    /// The kernel refuses the next change.
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    let (id, gfn, vcpu) = (0u16..6, 0u64..60, 0u16..4);
    let flags = (0u32..8).prop_map(|bits| SlotFlags::from_bits_retain(bits & 5));
    prop_oneof![
        2 => (id.clone(), gfn.clone(), 1u64..16, flags.clone())
            .prop_map(|(id, base, pages, flags)| Step::Create(id, base, pages, flags)),
        1 => id.clone().prop_map(Step::Delete),
        1 => (id.clone(), gfn.clone()).prop_map(|(id, base)| Step::Move(id, base)),
        1 => (id, flags).prop_map(|(id, flags)| Step::Flags(id, flags)),
        6 => (vcpu.clone(), gfn.clone(), 1u32..1000).prop_map(|(vcpu, gfn, value)| Step::Write(vcpu, gfn, value)),
        4 => (vcpu, gfn).prop_map(|(vcpu, gfn)| Step::Read(vcpu, gfn)),
        1 => Just(Step::Refuse),
    ]
}

/// The reference: slots by number, each with what is in its pages.
#[derive(Default)]
struct Model(BTreeMap<u16, (u64, SlotFlags, Vec<u32>)>);

impl Model {
    fn at(&mut self, gfn: u64) -> Option<(SlotFlags, &mut u32)> {
        let (base, flags, pages) =
            self.0.values_mut().find(|(base, _, pages)| (*base..*base + pages.len() as u64).contains(&gfn))?;
        Some((*flags, &mut pages[(gfn - *base) as usize]))
    }
}

struct Run {
    pager: Box<Pager>,
    machine: FakeMachine,
    model: Model,
}

impl Run {
    /// Sends the request; the model changes only with a request that was done.
    fn control(&mut self, request: SlotRequest, then: impl FnOnce(&mut Model)) {
        match self.pager.control(0, request, &mut self.machine) {
            SlotReply::Done => then(&mut self.model),
            SlotReply::Refused(_) => {}
            SlotReply::Hello(_)
            | SlotReply::Dirty(_)
            | SlotReply::Idle(_)
            | SlotReply::Line(_)
            | SlotReply::Left(_)
            | SlotReply::Slot(_) => {
                panic!("none was asked for")
            }
        }
    }

    /// An access as hardware makes it: what the EPT allows needs no fault.
    fn access(&mut self, vcpu: u16, gfn: u64, write: Option<u32>) {
        let needs = if write.is_some() { Rights::WRITE } else { Rights::READ };
        let allowed = self.machine.ept.get(&gfn).is_some_and(|(_, rights)| rights.contains(needs));
        let expected = match self.model.at(gfn) {
            None => false,
            Some((flags, _)) => write.is_none() || !flags.contains(SlotFlags::READONLY),
        };
        if !allowed {
            let tried = if write.is_some() { WRITE } else { READ };
            let fault = Fault { vcpu, mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) };
            let words = self.pager.answer(&fault, &mut self.machine);
            let mapped = self.machine.install(&words).is_some();
            assert_eq!(mapped, expected, "gfn {gfn:#x}, {tried:?}");
            if !mapped {
                return;
            }
        }
        assert!(expected, "the EPT allows what no slot does: gfn {gfn:#x}");
        let (_, content) = self.model.at(gfn).expect("a slot");
        assert_eq!(self.machine.guest_word(gfn, 9), *content, "gfn {gfn:#x} has other content");
        if let Some(value) = write {
            *content = value;
            self.machine.guest_write(gfn, 9, value);
        }
    }

    /// EPT ⇔ model: nothing is mapped that no slot holds, no frame twice, no right that the slot does not give.
    fn check(&mut self) {
        let mut frames = BTreeSet::new();
        for (gfn, (pfn, rights)) in &self.machine.ept {
            assert!(frames.insert(*pfn), "frame {pfn:#x} is mapped twice");
            let (flags, _) = self.model.at(*gfn).expect("what is mapped has a slot");
            assert!(!(flags.contains(SlotFlags::READONLY) && rights.contains(Rights::WRITE)));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(id, base, pages, flags) => {
                self.control(SlotRequest::Create(slot(id, base, pages, flags)), |model| {
                    model.0.insert(id, (base, flags, std::vec![0; pages as usize]));
                });
            }
            Step::Delete(id) => self.control(SlotRequest::Delete(NORMAL, SlotId(id)), |model| {
                model.0.remove(&id);
            }),
            Step::Move(id, base) => {
                self.control(SlotRequest::Move(NORMAL, SlotId(id), Gfn(base)), |model| {
                    model.0.entry(id).and_modify(|slot| slot.0 = base);
                });
            }
            Step::Flags(id, flags) => {
                self.control(SlotRequest::SetFlags(NORMAL, SlotId(id), flags), |model| {
                    model.0.entry(id).and_modify(|slot| slot.1 = flags);
                });
            }
            Step::Write(vcpu, gfn, value) => self.access(vcpu, gfn, Some(value)),
            Step::Read(vcpu, gfn) => self.access(vcpu, gfn, None),
            Step::Refuse => self.machine.refuse = Some(Refused::BadHandle),
        }
        self.check();
    }
}

proptest! {
    /// Slot changes, faults of several vCPUs and refusals of the kernel, in any order: the guest reads what it wrote,
    /// and the EPT is what the slots say.
    #[test]
    fn memory_is_what_the_model_says(steps in prop::collection::vec(step(), 1..200)) {
        let mut machine = FakeMachine::default();
        let mut run = Run { pager: pager_with(300, &mut machine, &[]), machine, model: Model::default() };
        for step in steps {
            run.step(step);
        }
    }

    #[test]
    fn no_bytes_stop_the_pager(bytes in prop::collection::vec(any::<u8>(), 0..=MESSAGE)) {
        let mut machine = FakeMachine::default();
        let mut pager = pager_with(50, &mut machine, &[(1, 0, 8, NONE)]);
        let mut reply = [0; REPLY];
        let used = pager.request(0, &bytes, &mut reply, &mut machine);
        prop_assert!(wire::decode::<SlotReply>(&reply[..used]).is_ok());
    }
}
