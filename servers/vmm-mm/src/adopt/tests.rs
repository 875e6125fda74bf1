//! A pager that dies at any write to its memory, and before any operation of the kernel: the next one knows everything, and
//! the guest cannot tell.

use super::*;
use crate::backing::guest::{Fill, Guest};
use crate::policy::Chosen;
use crate::shares::whole;
use crate::store::Content;
use crate::testing::{Death, FIRST_PFN, FakeMachine, slot};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::slot::{SlotId, SlotReply, SlotRequest, Tracking};
use ipc_proto::text::Text;
use ipc_proto::version::PROTOCOL;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

/// What a guest, or its server, does; it can be tried again.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create(u16, u64, u64, SlotFlags),
    Delete(u16),
    Move(u16, u64),
    Flags(u16, SlotFlags),
    Write(u64, Fill),
    Read(u64),
    Dirty(u16),
    Track(u64),
    /// There is time.
    Idle(usize),
}

struct Mortal {
    guest: Guest,
    policy: &'static str,
    frames: u64,
    deaths: u32,
    /// Pages that were written since the log was last read to its end.
    unread: Vec<u64>,
}

impl Mortal {
    fn new(policy: &'static str, frames: u64) -> Self {
        let mut machine = FakeMachine::default();
        machine.tsc = 1;
        machine.owned = (FIRST_PFN..FIRST_PFN + frames).collect();
        let mut pager = Self::prepared(policy, frames, &machine);
        pager.take_over(&whole(frames), &mut machine);
        pager.keep_on(&mut machine).expect("there are frames enough");
        let hello = SlotRequest::Hello(Hello { version: PROTOCOL, features: Features::empty() });
        assert!(matches!(pager.control(0, hello, &mut machine), SlotReply::Hello(_)));
        pager.wake(&mut machine);
        let guest = Guest { pager, machine, holds: BTreeMap::new(), notices: 0 };
        Self { guest, policy, frames, deaths: 0, unread: Vec::new() }
    }

    fn prepared(policy: &str, frames: u64, machine: &FakeMachine) -> Box<Pager> {
        let mut pager = Box::new(Pager::empty());
        pager.prepare(FIRST_PFN, &whole(frames), 40, Chosen::by_name(policy).expect("there is such a policy"));
        let cpu = crate::machine::Cpu { abilities: machine.abilities, largest: machine.largest };
        pager.equip(cpu, None).expect("any CPU will do");
        pager
    }

    /// The pager is gone, and the next one knows what it knew.
    fn die(&mut self) -> Adopted {
        self.deaths += 1;
        let machine = &mut self.guest.machine;
        machine.drop_message();
        machine.dies_after = None;
        machine.wake = None;
        machine.ready.clear();
        self.guest.pager = Self::prepared(self.policy, self.frames, machine);
        let adopted = self.guest.pager.adopt((machine.kept, &whole(self.frames)), self.deaths, machine);
        let adopted = adopted.unwrap_or_else(|broken| panic!("after death {}: {broken:x?}", self.deaths));
        assert_eq!(adopted.used + adopted.free + adopted.given, self.frames);
        assert_eq!(adopted.free, self.guest.pager.vms[0].pool.left());
        self.guest.pager.wake(machine);
        self.agree();
        adopted
    }

    /// What is mapped is what the trees say.
    fn agree(&mut self) {
        self.guest.check();
        for (gfn, (pfn, _)) in self.guest.machine.ept.clone() {
            let slot = self.guest.pager.vms[0].slots.lookup(Space::Normal, Gfn(gfn)).expect("a slot holds it");
            let page = slot.tree.page(slot.offset(Gfn(gfn)), &self.guest.machine);
            assert_eq!(page.frame().map(|frame| FIRST_PFN + u64::from(frame)), Some(pfn), "gfn {gfn:#x}");
        }
    }

    fn ask(&mut self, request: SlotRequest, done_before: SlotRefused) {
        let reply = self.guest.ask(request);
        assert!(reply == SlotReply::Done || reply == SlotReply::Refused(done_before), "{request:?}: {reply:?}");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(id, base, pages, flags) => {
                self.ask(SlotRequest::Create(slot(id, base, pages, flags)), SlotRefused::Exists);
            }
            Step::Delete(id) => {
                self.ask(SlotRequest::Delete(Space::Normal, SlotId(id)), SlotRefused::NoSuchSlot);
                self.guest.holds.clear();
            }
            Step::Move(id, base) => {
                self.ask(SlotRequest::Move(Space::Normal, SlotId(id), Gfn(base)), SlotRefused::Malformed)
            }
            Step::Flags(id, flags) => {
                // A log begins with all pages clean.
                self.unread.clear();
                self.ask(SlotRequest::SetFlags(Space::Normal, SlotId(id), flags), SlotRefused::Malformed);
            }
            Step::Write(gfn, fill) => {
                self.guest.touch(gfn, Rights::WRITE).expect("there is room");
                let dies = self.guest.machine.dies_after.take();
                self.guest.write(gfn, fill).expect("it was just touched");
                self.guest.machine.dies_after = dies;
                self.unread.push(gfn);
            }
            Step::Read(gfn) => self.guest.read(gfn).expect("it is there"),
            Step::Dirty(id) => {
                let told = self.guest.dirty(id);
                assert!(
                    self.unread.iter().all(|gfn| told.contains(gfn)),
                    "{:?} were written, told is {told:?}",
                    self.unread
                );
                self.unread.clear();
            }
            Step::Track(gfn) => {
                self.ask(SlotRequest::Track(Space::Normal, Gfn(gfn), Tracking::On), SlotRefused::Malformed);
                self.ask(SlotRequest::Track(Space::Normal, Gfn(gfn), Tracking::Off), SlotRefused::Malformed);
            }
            Step::Idle(most) => self.guest.idle(most),
        }
    }

    /// All steps; the pager dies after so many writes and operations, and what it died over is tried again. Whether it died.
    fn live(&mut self, steps: &[Step], dies_after: u64) -> bool {
        self.guest.machine.dies_after = Some(dies_after);
        for step in steps {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step(*step)));
            if let Err(panic) = outcome {
                assert!(panic.is::<Death>(), "{step:?} after {dies_after}");
                self.die();
                self.step(*step);
            }
        }
        let dead = self.guest.machine.dies_after.is_none();
        self.guest.machine.dies_after = None;
        let pages: Vec<u64> = self.guest.holds.keys().copied().collect();
        pages.into_iter().for_each(|gfn| self.guest.read(gfn).expect("it is there"));
        self.die();
        let pages: Vec<u64> = self.guest.holds.keys().copied().collect();
        pages.into_iter().for_each(|gfn| self.guest.read(gfn).expect("it is there"));
        dead
    }
}

/// Dies at every `stride`th write or operation of the steps. Says how often.
fn dies_everywhere(policy: &'static str, frames: u64, stride: usize, steps: &[Step]) -> u32 {
    let mut deaths = 0;
    for dies_after in (0..).step_by(stride) {
        if !Mortal::new(policy, frames).live(steps, dies_after) {
            return deaths;
        }
        deaths += 1;
    }
    deaths
}

const PLAIN: SlotFlags = SlotFlags::empty();

#[test]
fn slots_and_pages_outlive_the_pager_whatever_it_dies_over() {
    let mut steps = std::vec![Step::Create(1, 0, 600, PLAIN)];
    steps.extend((0..12).map(|n| Step::Write(n * 50, Fill::Easy(n as u32))));
    steps.extend([Step::Move(1, 4096), Step::Move(1, 0), Step::Create(2, 1 << 20, 3, PLAIN)]);
    steps.extend([Step::Flags(1, SlotFlags::READONLY), Step::Flags(1, PLAIN), Step::Track(50), Step::Delete(2)]);
    let deaths = dies_everywhere("demand", 700, 1, &steps);
    assert!(deaths > 60, "it died {deaths} times only");
}

#[test]
fn compressed_pages_outlive_the_pager_whatever_it_dies_over() {
    let mut steps = std::vec![Step::Create(1, 0, 48, PLAIN)];
    let fill = |n: u64| if n % 5 == 4 { Fill::Zero } else { Fill::Easy(n as u32) };
    steps.extend((0..32).map(|n| Step::Write(n, fill(n))));
    steps.extend((0..32).map(|n| Step::Read(31 - n)));
    let deaths = dies_everywhere("clock", 20, 1811, &steps);
    assert!(deaths > 8, "it died {deaths} times only");
}

#[test]
fn no_written_page_is_forgotten_whatever_the_pager_dies_over() {
    let mut steps = std::vec![Step::Create(1, 0, 64, SlotFlags::LOG_DIRTY_PAGES)];
    for round in 0..3 {
        // Some in a row, others not.
        steps.extend(
            (0..8).map(|n| Step::Write(if n < 4 { n + 4 * round } else { n * 7 + round }, Fill::Easy(n as u32))),
        );
        steps.push(Step::Dirty(1));
    }
    let deaths = dies_everywhere("demand", 100, 3, &steps);
    assert!(deaths > 40, "it died {deaths} times only");
}

#[test]
fn large_pages_outlive_the_pager_whole_and_split() {
    let steps = [
        Step::Create(1, 0, 1024, PLAIN),
        Step::Write(3, Fill::Easy(1)),
        Step::Write(700, Fill::Noise(2)),
        Step::Track(5),
        Step::Flags(1, SlotFlags::LOG_DIRTY_PAGES),
        Step::Write(9, Fill::Easy(3)),
        Step::Dirty(1),
        Step::Flags(1, PLAIN),
        Step::Read(700),
        Step::Idle(3),
    ];
    let deaths = dies_everywhere("huge", 2048, 83, &steps);
    assert!(deaths > 9, "it died {deaths} times only");
}

#[test]
fn shared_frames_outlive_the_pager() {
    let mut steps = std::vec![Step::Create(1, 0, 64, PLAIN)];
    steps.extend((0..8).map(Step::Read));
    steps.extend((8..24).map(|n| Step::Write(n, Fill::Easy(n as u32 / 4))));
    steps.push(Step::Idle(40));
    steps.extend((0..16).map(|n| Step::Write(n, Fill::Noise(n as u32))));
    let deaths = dies_everywhere("share", 100, 1201, &steps);
    assert!(deaths > 9, "it died {deaths} times only");
}

/// The policy that was chosen last is the next incarnation's, whatever the pager dies over, and so are memory types.
#[test]
fn what_was_set_outlives_the_pager() {
    let names = ["huge", "fault-around", "demand"];
    for dies_after in 0.. {
        let mut mortal = Mortal::new("demand", 100);
        mortal.ask(SlotRequest::MemoryType(0x2ff, 0xc06), SlotRefused::Malformed);
        mortal.ask(SlotRequest::MemoryType(0x26f, u64::MAX / 0xff), SlotRefused::Malformed);
        mortal.ask(SlotRequest::MemoryType(0x203, 0xf_8000_0800), SlotRefused::Malformed);
        mortal.guest.machine.dies_after = Some(dies_after);
        let mut chosen = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for name in names {
                mortal.ask(SlotRequest::Policy(Text::cut(name)), SlotRefused::Malformed);
                chosen += 1;
            }
        }));
        let types = mortal.guest.pager.vms[0].mtrrs;
        mortal.die();
        assert_eq!(mortal.guest.pager.vms[0].mtrrs, types);
        assert_ne!(types, crate::mtrr::Mtrrs::OFF);
        let now = mortal.guest.pager.policy.name();
        let last = names.get(chosen.max(1) - 1).filter(|_| chosen > 0).copied().unwrap_or("demand");
        assert!(now == last || Some(&now) == names.get(chosen), "{now} after {chosen} were chosen");
        if outcome.is_ok() {
            assert!(dies_after > 100, "it died {dies_after} times only");
            return;
        }
    }
}

/// What comes of an adoption of 100 frames by what was kept there.
fn adopted(mortal: &mut Mortal, kept: u64) -> Result<Adopted, Broken> {
    let mut pager = Mortal::prepared(mortal.policy, 100, &mortal.guest.machine);
    pager.adopt((kept, &whole(100)), 1, &mut mortal.guest.machine)
}

/// Pages 3 to 6 of a slot of 16 have been written; their frames lie in a row from the one that is told.
fn with_a_row() -> (Mortal, u32) {
    let mut mortal = Mortal::new("demand", 100);
    mortal.step(Step::Create(1, 0, 16, PLAIN));
    (3..7).for_each(|gfn| mortal.step(Step::Write(gfn, Fill::Easy(gfn as u32))));
    let slot = mortal.guest.pager.vms[0].slots.lookup(Space::Normal, Gfn(3)).expect("the slot");
    let frame = slot.tree.page(3, &mortal.guest.machine).frame().expect("it was written");
    (mortal, frame)
}

/// What cannot be right is not gone on with.
#[test]
fn what_makes_no_sense_is_refused() {
    let (mut mortal, frame) = with_a_row();
    let kept = mortal.guest.machine.kept;
    assert_eq!(adopted(&mut mortal, kept + 1), Err(Broken::Head));
    assert_eq!(adopted(&mut mortal, FIRST_PFN + 100), Err(Broken::Head));
    let pages = [
        // A frame that a page before has, or one behind it, or the pager itself; one that there is not.
        (9, Content::Own(frame + 1), Broken::Frame(frame + 1)),
        (2, Content::Own(frame + 2), Broken::Frame(frame + 2)),
        (9, Content::Own((kept - FIRST_PFN) as u32), Broken::Frame((kept - FIRST_PFN) as u32)),
        (9, Content::Own(100), Broken::Frame(100)),
        (9, Content::Shared(100), Broken::Frame(100)),
        // A unit of no frame of the store, the head of one, and one of a frame that there is not.
        (9, Content::Packed(frame * 32 + 5), Broken::Stored(frame * 32 + 5)),
        (9, Content::Packed(90 * 32), Broken::Stored(90 * 32)),
        (9, Content::Packed(100 * 32 + 1), Broken::Stored(100 * 32 + 1)),
        // Mapped, and in no tree: at the beginning of a row, and in it.
        (3, Content::Nothing, Broken::Mapped(FIRST_PFN + u64::from(frame))),
        (5, Content::Nothing, Broken::Mapped(FIRST_PFN + u64::from(frame) + 2)),
    ];
    for (page, content, broken) in pages {
        let Guest { pager, machine, .. } = &mut mortal.guest;
        let tree = &mut pager.vms[0].slots.lookup(Space::Normal, Gfn(page)).expect("the slot").tree;
        let before = tree.page(page, machine).content();
        tree.set(page, content, machine);
        assert_eq!(adopted(&mut mortal, kept), Err(broken), "page {page}: {content:?}");
        let Guest { pager, machine, .. } = &mut mortal.guest;
        let tree = &mut pager.vms[0].slots.lookup(Space::Normal, Gfn(page)).expect("the slot").tree;
        tree.set(page, before, machine);
        assert!(adopted(&mut mortal, kept).is_ok(), "page {page} is as it was");
    }
}

/// A frame that somebody has is the pager's, whether it is a page's or a node of a tree.
#[test]
fn a_frame_that_is_not_the_pagers_is_refused() {
    let (mut mortal, frame) = with_a_row();
    let kept = mortal.guest.machine.kept;
    let VmMemory { slots, pool, .. } = &mut mortal.guest.pager.vms[0];
    let tree = &mut slots.lookup(Space::Normal, Gfn(3)).expect("the slot").tree;
    let (root, _) = tree.plant(pool, &mut mortal.guest.machine).expect("it has been");
    for lost in [frame, frame + 3, root - 1] {
        mortal.guest.machine.owned.remove(&(FIRST_PFN + u64::from(lost)));
        assert_eq!(adopted(&mut mortal, kept), Err(Broken::Frame(lost)));
        mortal.guest.machine.owned.insert(FIRST_PFN + u64::from(lost));
    }
    // Nobody has this one: the kernel may.
    mortal.guest.machine.owned.remove(&(FIRST_PFN + 60));
    let adopted = adopted(&mut mortal, kept).expect("nobody has it");
    assert_eq!((adopted.given, adopted.used + adopted.free), (1, 99));
}

/// A unit of the compressed store is one page's.
#[test]
fn a_compressed_page_that_two_pages_have_is_refused() {
    let mut mortal = Mortal::new("clock", 20);
    mortal.step(Step::Create(1, 0, 48, PLAIN));
    (0..32).for_each(|gfn| mortal.step(Step::Write(gfn, Fill::Easy(gfn as u32))));
    let Mortal { guest: Guest { pager, machine, .. }, .. } = &mut mortal;
    let kept = machine.kept;
    let tree = &mut pager.vms[0].slots.iter_mut().next().expect("the slot").tree;
    let packed = tree.next(0, machine, |page| matches!(page.content(), Content::Packed(_)));
    let (_, page) = packed.expect("there are more pages than frames");
    let Content::Packed(place) = page.content() else { unreachable!() };
    tree.open(40, &mut pager.vms[0].pool, machine).expect("the node is there");
    let tree = &mut pager.vms[0].slots.iter_mut().next().expect("the slot").tree;
    tree.set(40, page.content(), machine);
    let mut next = Mortal::prepared("clock", 20, machine);
    assert_eq!(next.adopt((kept, &whole(20)), 1, machine), Err(Broken::Stored(place)));
}

/// Free frames that lie in a row are one region, however many the kernel tells at once.
#[test]
fn free_frames_in_a_row_are_one_region() {
    let mut machine = FakeMachine::default();
    machine.owned = (FIRST_PFN..FIRST_PFN + 200).collect();
    machine.tells = 7;
    let mut pager = Mortal::prepared("demand", 200, &machine);
    pager.take_over(&whole(200), &mut machine);
    pager.keep_on(&mut machine).expect("there are frames enough");
    let mut next = Mortal::prepared("demand", 200, &machine);
    let kept = machine.kept;
    let adopted = next.adopt((kept, &whole(200)), 1, &mut machine).expect("nothing is wrong");
    let (first, count) = next.vms[0].pool.take_zeroed_run(1, &mut machine);
    assert_eq!((first, count), (0, 1));
    assert_eq!(next.vms[0].pool.take_row(150, &mut machine).map(|first| u64::from(first) + 150), Some(adopted.free));
}
