//! The pager against a simple reference: random slot changes, faults of several vCPUs and through the window, what was
//! written in each of the three ways, idle pages, tracking, memory types, remembered MMIO, blocks made whole, pages mapped
//! ahead, frames taken back and promised, equal pages made one and written again, slots with a boot module's content, answers
//! that arrive late or twice, and refusals of the kernel. After each step pager ⇔ EPT ⇔ reference.
//!
//! `FAULTLINE_MODEL_STEPS` says how many steps (20,000 if it is not set), `FAULTLINE_MODEL_SEED` replays a run: a
//! failure prints both, with the shortest run of steps that fails.

mod check;
mod pass;
mod step;

use crate::machine::Cpu;
use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, Seen, WRITE, access, by_policy, slot};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{DirtyPages, IdlePages, SlotFlags, SlotId, SlotReply, SlotRequest, Space, Tracking};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;
use step::{FEW, Setting, Step, Tried, setting, step};

/// Steps of one run.
const RUN: usize = 200;
/// Which word of a page is looked at.
const WORD: usize = 9;
const NORMAL: Space = Space::Normal;
/// Slots of this number have the content of a boot module of so many pages.
const WITH_IMAGE: u16 = 4;
const IMAGE_PAGES: u64 = 700;

/// A slot of the reference: everything about a page by its offset.
#[derive(Default)]
struct Memory {
    base: u64,
    pages: u64,
    flags: SlotFlags,
    content: BTreeMap<u64, u32>,
    /// What a page holds that was never written comes from a boot module.
    image: bool,
    dirty: BTreeSet<u64>,
    tracked: BTreeSet<u64>,
    /// Accessed since it was last told of, and mapped ever since.
    used: BTreeSet<u64>,
}

impl Memory {
    fn holds(&self, offset: u64) -> u32 {
        let unwritten = if self.image && offset < IMAGE_PAGES { in_image(offset) } else { 0 };
        self.content.get(&offset).copied().unwrap_or(unwritten)
    }

    fn allows(&self, offset: u64, tried: Tried) -> bool {
        let seen = !matches!(tried, Tried::ThroughWindow(_)) || !self.flags.contains(SlotFlags::PRIVATE);
        let written = matches!(tried, Tried::Write(_) | Tried::ThroughWindow(_));
        let writable = !self.flags.contains(SlotFlags::READONLY) && !self.tracked.contains(&offset);
        seen && (!written || writable)
    }
}

/// What the module's page has in the word that is looked at: some pages are equal, some are zero.
const fn in_image(page: u64) -> u32 {
    (page % 5 * 77) as u32
}

struct World {
    setting: Setting,
    pager: Box<Pager>,
    machine: FakeMachine,
    slots: BTreeMap<u16, Memory>,
}

impl World {
    fn new(setting: Setting) -> Self {
        let Setting { policy, nx, prunes, way, abilities, frames } = setting;
        let mut machine = FakeMachine::default();
        (machine.hoards, machine.abilities, machine.log_size) = (!prunes, abilities, 6);
        machine.tsc = 1;
        let word = |page: u64, index: usize| if index == WORD { in_image(page) } else { 0 };
        let image = (0..IMAGE_PAGES).flat_map(|page| (0..1024).map(move |index| word(page, index)));
        machine.images.push(image.flat_map(u32::to_le_bytes).collect());
        let mut pager = by_policy(policy, frames, &mut machine, &[]);
        assert!(pager.set_image(SlotId(WITH_IMAGE), 0));
        pager.wake(&mut machine);
        pager.equip(Cpu { abilities, largest: Level::Huge }, Some(way)).expect("a way that the CPU has");
        if nx {
            // Of the huge policy; the others have no such option.
            let _ = pager.policy.set("nx_huge", "on");
        }
        Self { setting, pager, machine, slots: BTreeMap::new() }
    }

    fn at(&mut self, gfn: u64) -> Option<(&mut Memory, u64)> {
        let slot = self.slots.values_mut().find(|slot| gfn.wrapping_sub(slot.base) < slot.pages)?;
        let offset = gfn - slot.base;
        Some((slot, offset))
    }

    /// Sends the request; the model changes only with one that was done.
    fn ask(&mut self, request: SlotRequest, then: impl FnOnce(&mut BTreeMap<u16, Memory>)) -> SlotReply {
        let reply = self.pager.control(0, request, &mut self.machine);
        if reply == SlotReply::Done {
            then(&mut self.slots);
        }
        reply
    }

    fn fault(&self, vcpu: u16, gfn: u64, tried: Tried) -> Fault {
        let (qualification, origin) = match tried {
            Tried::Read => (READ, Origin::Vcpu),
            Tried::Write(_) => (WRITE, Origin::Vcpu),
            Tried::Fetch => (Qualification::FETCH, Origin::Vcpu),
            Tried::ThroughWindow(_) => (WRITE, Origin::Window),
        };
        Fault { vcpu, origin, mmu_seq: self.machine.mmu_seq, ..access(gfn, qualification) }
    }

    /// Asks the pager, and gives the kernel its answer.
    fn fault_once(&mut self, fault: &Fault) -> ClaimedReply {
        let mut words = self.pager.answer(fault, &mut self.machine);
        if let Err(refused) = self.machine.answered(fault, &words) {
            self.machine.drop_message();
            words = self.pager.after_refusal(fault, refused, &mut self.machine);
        }
        ClaimedReply::from_words(&words).expect("a reply")
    }

    /// What becomes of an access with what is mapped now.
    fn tried(&mut self, gfn: u64, tried: Tried) -> Seen {
        let needs = match tried {
            Tried::Read => Rights::READ,
            Tried::Write(_) | Tried::ThroughWindow(_) => Rights::WRITE,
            Tried::Fetch => Rights::EXECUTE,
        };
        match tried {
            Tried::ThroughWindow(_) => self.machine.window(gfn, needs),
            Tried::Read | Tried::Write(_) | Tried::Fetch => self.machine.guest(gfn, needs),
        }
    }

    /// An access as hardware makes it: again until the EPT allows it, or the pager says that it is not memory.
    fn access(&mut self, vcpu: u16, gfn: u64, tried: Tried) {
        let expected = self.at(gfn).is_some_and(|(slot, offset)| slot.allows(offset, tried));
        for tries in 0.. {
            assert!(tries < 40, "gfn {gfn:#x}, {tried:?}: the same fault for ever");
            let kind = match self.tried(gfn, tried) {
                Seen::Done => break,
                Seen::Server => return assert!(!expected, "gfn {gfn:#x}, {tried:?}: it is memory"),
                Seen::Fault(kind) => kind,
            };
            let fault = match kind {
                FaultKind::LogFull => access(0, Qualification::empty()),
                FaultKind::Misconfiguration => {
                    Fault { qualification: Qualification::empty(), ..self.fault(vcpu, gfn, tried) }
                }
                FaultKind::Violation => self.fault(vcpu, gfn, tried),
            };
            match self.fault_once(&Fault { kind, mmu_seq: self.machine.mmu_seq, ..fault }) {
                ClaimedReply::Mmio(_) => return assert!(!expected, "gfn {gfn:#x}, {tried:?}: it is memory"),
                // The fake kernel refused the change that the pager needed.
                ClaimedReply::Deny(DenyReason::OutOfMemory) if self.setting.frames == FEW => return,
                ClaimedReply::Deny(_) => assert!(tries < 3, "gfn {gfn:#x}, {tried:?}: denied twice"),
                ClaimedReply::Map(..) | ClaimedReply::Retry => {}
                ClaimedReply::Pending(token) => self.wait(token),
            }
        }
        assert!(expected, "gfn {gfn:#x}, {tried:?}: the EPT allows what no slot does");
        self.done(gfn, tried);
    }

    fn done(&mut self, gfn: u64, tried: Tried) {
        let seen = self.machine.guest_word(gfn, WORD);
        let (slot, offset) = self.at(gfn).expect("what is memory has a slot");
        assert_eq!(seen, slot.holds(offset), "gfn {gfn:#x} has other content");
        slot.used.insert(offset);
        if let Tried::Write(value) | Tried::ThroughWindow(value) = tried {
            slot.content.insert(offset, value);
            if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                slot.dirty.insert(offset);
            }
            self.machine.put(gfn, WORD, value);
        }
    }

    fn overtaken(&mut self, vcpu: u16, gfn: u64, id: u16, base: Option<u64>) {
        if !matches!(self.machine.guest(gfn, Rights::WRITE), Seen::Fault(FaultKind::Violation)) {
            // It was made.
            if self.at(gfn).is_some() {
                self.access(vcpu, gfn, Tried::Write(1));
            }
            return;
        }
        let fault = self.fault(vcpu, gfn, Tried::Write(1));
        let words = self.pager.answer(&fault, &mut self.machine);
        if self.machine.mmu_seq != fault.mmu_seq {
            // It took something away: what it worked out is of the new number, and arrives first.
            let _ = self.machine.answered(&fault, &words);
            self.machine.drop_message();
            return self.access(vcpu, gfn, Tried::Write(1));
        }
        match base {
            Some(base) => self.step(Step::Move(id, base)),
            None => self.step(Step::Delete(id)),
        }
        let before = (self.machine.ept.clone(), self.machine.large.clone());
        if self.machine.mmu_seq != fault.mmu_seq
            && let Err(refused) = self.machine.apply(&words)
        {
            assert_eq!(refused, Refused::Stale);
            let words = self.pager.after_refusal(&fault, refused, &mut self.machine);
            assert_eq!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Retry));
        }
        assert_eq!((self.machine.ept.clone(), self.machine.large.clone()), before, "an overtaken answer maps nothing");
        self.machine.drop_message();
    }

    /// Both vCPUs have faulted; the second is answered when the first one's page is there already.
    fn both(&mut self, gfn: u64, tried: Tried) {
        let Seen::Fault(kind) = self.tried(gfn, tried) else { return self.access(0, gfn, tried) };
        let faults = [0, 1].map(|vcpu| Fault { kind, ..self.fault(vcpu, gfn, tried) });
        if kind == FaultKind::Violation {
            for fault in faults {
                self.fault_once(&fault);
                self.machine.drop_message();
            }
        }
        for vcpu in [0, 1] {
            self.access(vcpu, gfn, tried);
        }
    }

    /// What is told to be idle was not used since it was last told of.
    fn idle(&mut self, id: u16) {
        let mut from = 0;
        loop {
            match self.ask(SlotRequest::Idle(NORMAL, SlotId(id), from), |_| {}) {
                SlotReply::Idle(IdlePages { first, bits }) => {
                    let slot = self.slots.get_mut(&id).expect("a slot that was not refused");
                    for place in 0..IdlePages::PAGES {
                        let idle = bits[(place / 64) as usize] >> (place % 64) & 1 == 1;
                        assert!(!idle || !slot.used.contains(&(first + place)), "page {place:#x} was used");
                    }
                    from = first + IdlePages::PAGES;
                    slot.used = slot.used.split_off(&from);
                }
                SlotReply::Done => {
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.used.clear();
                    }
                    return;
                }
                SlotReply::Refused(_) => {
                    // Some of it may have been harvested by then.
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.used.clear();
                    }
                    return;
                }
                SlotReply::Hello(_)
                | SlotReply::Dirty(_)
                | SlotReply::Line(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => {
                    panic!("nobody asked for that")
                }
            }
        }
    }

    /// The pager says what was written, no more: once the kernel has done what it was asked.
    fn dirty_log(&mut self, id: u16) {
        let (mut from, mut found) = (0, BTreeSet::new());
        let refuses = self.machine.refuse.is_some();
        loop {
            match self.ask(SlotRequest::DirtyLog(NORMAL, SlotId(id), from), |_| {}) {
                SlotReply::Dirty(DirtyPages { first, bits }) => {
                    let at = |place: u64| bits[(place / 64) as usize] >> (place % 64) & 1 == 1;
                    found.extend((0..DirtyPages::PAGES).filter(|place| at(*place)).map(|place| first + place));
                    from = first + DirtyPages::PAGES;
                }
                SlotReply::Done => break,
                SlotReply::Refused(_) => {
                    let logged =
                        self.slots.get(&id).is_some_and(|slot| !(slot.flags & SlotFlags::LOG_DIRTY_PAGES).is_empty());
                    return assert!(!logged || refuses);
                }
                SlotReply::Hello(_)
                | SlotReply::Idle(_)
                | SlotReply::Line(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => {
                    panic!("nobody asked for that")
                }
            }
        }
        let slot = self.slots.get_mut(&id).expect("a slot that was not refused");
        assert_eq!(found, core::mem::take(&mut slot.dirty), "slot {id}");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(id, base, pages, flags) => {
                let memory = Memory { base, pages, flags, image: id == WITH_IMAGE, ..Memory::default() };
                self.ask(SlotRequest::Create(slot(id, base, pages, flags)), |slots| {
                    slots.insert(id, memory);
                });
            }
            Step::Delete(id) => {
                self.ask(SlotRequest::Delete(NORMAL, SlotId(id)), |slots| {
                    slots.remove(&id);
                });
            }
            Step::Move(id, base) => {
                self.ask(SlotRequest::Move(NORMAL, SlotId(id), Gfn(base)), |slots| {
                    slots.entry(id).and_modify(|slot| slot.base = base);
                });
            }
            Step::Flags(id, flags) => {
                self.ask(SlotRequest::SetFlags(NORMAL, SlotId(id), flags), |slots| {
                    let slot = slots.get_mut(&id).expect("the slot of a request that was done");
                    if flags.contains(SlotFlags::LOG_DIRTY_PAGES) != slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                        slot.dirty.clear();
                    }
                    slot.flags = flags;
                });
            }
            Step::Access(vcpu, gfn, tried) => self.access(vcpu, gfn, tried),
            Step::Overtaken(vcpu, gfn, id, base) => self.overtaken(vcpu, gfn, id, base),
            Step::Track(gfn, tracking) => {
                let done = self.ask(SlotRequest::Track(NORMAL, Gfn(gfn), tracking), |_| {}) == SlotReply::Done;
                if done && let Some((slot, offset)) = self.at(gfn) {
                    match tracking {
                        Tracking::On => slot.tracked.insert(offset),
                        Tracking::Off => slot.tracked.remove(&offset),
                    };
                }
            }
            Step::DirtyLog(id) => self.dirty_log(id),
            Step::Idle(id) => self.idle(id),
            Step::Both(gfn, tried) => self.both(gfn, tried),
            Step::Recover => {
                for gfn in (0..5).map(|block| Gfn(block * 512)) {
                    self.pager.recover_block(0, gfn, &mut self.machine);
                }
            }
            Step::MemoryType(gfn) => {
                for (register, value) in
                    [(0x200, gfn << 12), (0x201, !0xffff & 0xf_ffff_ffff | 1 << 11), (0x2ff, 0x806)]
                {
                    self.ask(SlotRequest::MemoryType(register, value), |_| {});
                }
            }
            Step::Time => self.time_passes(),
            Step::Prefault(first, pages) => self.prefault(first, pages),
            Step::Refuse => self.machine.refuse = Some(Refused::BadHandle),
        }
    }
}

#[test]
fn memory_is_what_the_reference_says() {
    let number = |name: &str, or: u64| std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let steps = number("FAULTLINE_MODEL_STEPS", 20_000);
    let seed = number("FAULTLINE_MODEL_SEED", now.as_nanos() as u64);
    std::println!("FAULTLINE_MODEL_SEED={seed} FAULTLINE_MODEL_STEPS={steps}");
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let cases = (steps / RUN as u64).max(1) as u32;
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&(setting(), proptest::collection::vec(step(), RUN)), |(setting, steps)| {
        let mut world = World::new(setting);
        for step in steps {
            world.step(step);
            world.check();
        }
        Ok(())
    });
    if let Err(error) = result {
        let text: String = std::format!("{error}");
        panic!("FAULTLINE_MODEL_SEED={seed} FAULTLINE_MODEL_STEPS={steps}: {text}");
    }
}
