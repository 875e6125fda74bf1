//! The pager against a simple reference: random slot changes, faults of several vCPUs and through the window, dirty
//! logs, tracking, memory types, answers that arrive late and refusals of the kernel. After each step EPT ⇔ model.
//!
//! `FAULTLINE_MODEL_STEPS` says how many steps (20,000 if it is not set), `FAULTLINE_MODEL_SEED` replays a run: a
//! failure prints both, with the shortest run of steps that fails.

use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, WRITE, access, by_policy, slot};
use ipc_proto::fault::{ClaimedReply, Fault, Origin, Qualification};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotId, SlotReply, SlotRequest, Space, Tracking};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;

/// Steps of one run.
const RUN: usize = 200;
/// Which word of a page is looked at.
const WORD: usize = 9;
const NORMAL: Space = Space::Normal;

#[derive(Clone, Debug)]
enum Step {
    Create(u16, u64, u64, SlotFlags),
    Delete(u16),
    Move(u16, u64),
    Flags(u16, SlotFlags),
    Access(u16, u64, Tried),
    /// The answer to a write is worked out, the slot is deleted or moved, then the answer arrives.
    Overtaken(u16, u64, u16, Option<u64>),
    Track(u64, Tracking),
    DirtyLog(u16),
    /// The guest makes 64 KiB at this address uncached.
    MemoryType(u64),
    /// The kernel refuses the next change.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
enum Tried {
    Read,
    Write(u32),
    Fetch,
    ThroughWindow(u32),
}

fn tried() -> impl Strategy<Value = Tried> {
    prop_oneof![
        3 => Just(Tried::Read),
        5 => (1u32..1000).prop_map(Tried::Write),
        1 => Just(Tried::Fetch),
        1 => (1u32..1000).prop_map(Tried::ThroughWindow),
    ]
}

/// Around a few places, so that steps meet: blocks begin at multiples of 512.
fn gfn() -> impl Strategy<Value = u64> {
    (0u64..5, prop_oneof![3 => 0u64..24, 1 => 488u64..512, 1 => 0u64..512]).prop_map(|(block, page)| block * 512 + page)
}

fn base() -> impl Strategy<Value = u64> {
    prop_oneof![2 => (0u64..5).prop_map(|block| block * 512), 1 => (0u64..40).prop_map(|part| part * 64), 1 => gfn()]
}

fn step() -> impl Strategy<Value = Step> {
    let (id, vcpu) = (0u16..5, 0u16..4);
    let pages = prop_oneof![1u64..24, 500u64..530, Just(1024), Just(512)];
    let flags = (0u32..8).prop_map(SlotFlags::from_bits_retain);
    let tracking = prop_oneof![Just(Tracking::On), Just(Tracking::Off)];
    prop_oneof![
        3 => (id.clone(), base(), pages, prop_oneof![2 => Just(SlotFlags::empty()), 1 => flags.clone()])
            .prop_map(|(id, base, pages, flags)| Step::Create(id, base, pages, flags)),
        1 => id.clone().prop_map(Step::Delete),
        1 => (id.clone(), base()).prop_map(|(id, base)| Step::Move(id, base)),
        2 => (id.clone(), flags).prop_map(|(id, flags)| Step::Flags(id, flags)),
        16 => (vcpu.clone(), gfn(), tried()).prop_map(|(vcpu, gfn, tried)| Step::Access(vcpu, gfn, tried)),
        1 => (vcpu, gfn(), id.clone(), prop::option::of(base()))
            .prop_map(|(vcpu, gfn, id, base)| Step::Overtaken(vcpu, gfn, id, base)),
        1 => (gfn(), tracking).prop_map(|(gfn, tracking)| Step::Track(gfn, tracking)),
        2 => id.prop_map(Step::DirtyLog),
        1 => gfn().prop_map(Step::MemoryType),
        1 => Just(Step::Refuse),
    ]
}

/// A policy, whether the CPU needs the NX workaround, and whether the kernel frees empty tables.
fn setting() -> impl Strategy<Value = (&'static str, bool, bool)> {
    (prop::sample::select(crate::policy::Chosen::NAMES), any::<bool>(), any::<bool>())
}

/// A slot of the reference: everything about a page by its offset.
#[derive(Default)]
struct Memory {
    base: u64,
    pages: u64,
    flags: SlotFlags,
    content: BTreeMap<u64, u32>,
    dirty: BTreeSet<u64>,
    tracked: BTreeSet<u64>,
}

impl Memory {
    fn allows(&self, offset: u64, tried: Tried) -> bool {
        let seen = !matches!(tried, Tried::ThroughWindow(_)) || !self.flags.contains(SlotFlags::PRIVATE);
        let written = matches!(tried, Tried::Write(_) | Tried::ThroughWindow(_));
        let writable = !self.flags.contains(SlotFlags::READONLY) && !self.tracked.contains(&offset);
        seen && (!written || writable)
    }
}

struct World {
    pager: Box<Pager>,
    machine: FakeMachine,
    slots: BTreeMap<u16, Memory>,
}

impl World {
    fn new((policy, nx, prunes): (&str, bool, bool)) -> Self {
        let mut machine = FakeMachine::default();
        machine.prunes = prunes;
        let mut pager = by_policy(policy, 6000, &mut machine, &[]);
        if nx {
            // Of the huge policy; the others have no such option.
            let _ = pager.policy.set("nx_huge", "on");
        }
        Self { pager, machine, slots: BTreeMap::new() }
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

    fn allowed(&self, gfn: u64, needs: Rights) -> bool {
        self.machine.leaf(gfn).is_some_and(|(_, rights)| rights.contains(needs))
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

    /// An access as hardware makes it: again until the EPT allows it, or the pager says that it is not memory.
    fn access(&mut self, vcpu: u16, gfn: u64, tried: Tried) {
        let expected = self.at(gfn).is_some_and(|(slot, offset)| slot.allows(offset, tried));
        let needs = match tried {
            Tried::Read => Rights::READ,
            Tried::Write(_) | Tried::ThroughWindow(_) => Rights::WRITE,
            Tried::Fetch => Rights::EXECUTE,
        };
        let private = matches!(tried, Tried::ThroughWindow(_)) && !expected;
        let mut tries = 0;
        while private || !self.allowed(gfn, needs) {
            tries += 1;
            assert!(tries < 8, "gfn {gfn:#x}, {tried:?}: the same fault for ever");
            let fault = self.fault(vcpu, gfn, tried);
            let mut words = self.pager.answer(&fault, &mut self.machine);
            if let Err(refused) = self.machine.apply(&words) {
                words = self.pager.after_refusal(&fault, refused, &mut self.machine);
            }
            match ClaimedReply::from_words(&words).expect("a reply") {
                ClaimedReply::Mmio => return assert!(!expected, "gfn {gfn:#x}, {tried:?}: it is memory"),
                // The fake kernel refused the change that the pager needed.
                ClaimedReply::Deny(_) => assert!(tries < 3, "gfn {gfn:#x}, {tried:?}: denied twice"),
                ClaimedReply::Map(..) | ClaimedReply::Retry => {}
                ClaimedReply::Pending(_) => panic!("nothing is waited for"),
            }
        }
        assert!(expected, "gfn {gfn:#x}, {tried:?}: the EPT allows what no slot does");
        self.done(gfn, tried);
    }

    fn done(&mut self, gfn: u64, tried: Tried) {
        let seen = self.machine.guest_word(gfn, WORD);
        let (slot, offset) = self.at(gfn).expect("what is memory has a slot");
        assert_eq!(seen, slot.content.get(&offset).copied().unwrap_or(0), "gfn {gfn:#x} has other content");
        if let Tried::Write(value) | Tried::ThroughWindow(value) = tried {
            slot.content.insert(offset, value);
            if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                slot.dirty.insert(offset);
            }
            self.machine.guest_write(gfn, WORD, value);
        }
    }

    fn overtaken(&mut self, vcpu: u16, gfn: u64, id: u16, base: Option<u64>) {
        if self.allowed(gfn, Rights::WRITE) {
            return;
        }
        let fault = self.fault(vcpu, gfn, Tried::Write(1));
        let words = self.pager.answer(&fault, &mut self.machine);
        let mapped = matches!(ClaimedReply::from_words(&words), Ok(ClaimedReply::Map(..)));
        if let Some((slot, offset)) = self.at(gfn)
            && mapped
            && slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES)
        {
            // The log may say more than was written, never less.
            slot.dirty.insert(offset);
        }
        if self.machine.mmu_seq != fault.mmu_seq {
            // It took a large page away: what it worked out is of the new number, and arrives first.
            let _ = self.machine.apply(&words);
            return;
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
                SlotReply::Hello(_) => panic!("nobody said hello"),
            }
        }
        let slot = self.slots.get_mut(&id).expect("a slot that was not refused");
        assert_eq!(found, core::mem::take(&mut slot.dirty), "slot {id}");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(id, base, pages, flags) => {
                let memory = Memory { base, pages, flags, ..Memory::default() };
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
            Step::MemoryType(gfn) => {
                for (register, value) in
                    [(0x200, gfn << 12), (0x201, !0xffff & 0xf_ffff_ffff | 1 << 11), (0x2ff, 0x806)]
                {
                    self.ask(SlotRequest::MemoryType(register, value), |_| {});
                }
            }
            Step::Refuse => self.machine.refuse = Some(Refused::BadHandle),
        }
    }

    /// EPT ⇔ model: nothing is mapped that no slot holds, no frame twice, no right that is not to be had.
    fn check(&mut self) {
        let mut frames = BTreeSet::new();
        let small = self.machine.ept.iter().map(|(gfn, leaf)| (*gfn, 1, *leaf));
        let large = self.machine.large.iter().map(|(gfn, leaf)| (*gfn, 512, *leaf));
        let leaves: Vec<_> = small.chain(large).collect();
        for (gfn, pages, (pfn, rights)) in leaves {
            for n in 0..pages {
                assert!(frames.insert(pfn + n), "frame {:#x} is mapped twice", pfn + n);
            }
            let (slot, offset) = self.at(gfn).expect("what is mapped has a slot");
            assert!(offset + pages <= slot.pages, "a large page reaches beyond its slot");
            let dirty = (offset..offset + pages).all(|offset| slot.dirty.contains(&offset));
            let tracked = slot.tracked.range(offset..offset + pages).next().is_some();
            let forbidden = slot.flags.contains(SlotFlags::READONLY)
                || tracked
                || slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) && !dirty;
            assert!(!(forbidden && rights.contains(Rights::WRITE)), "gfn {gfn:#x} is writable");
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
    let result = runner.run(&(setting(), prop::collection::vec(step(), RUN)), |(setting, steps)| {
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
