//! The pager against a simple reference: random slot changes, faults of several vCPUs and through the window, what was
//! written in each of the three ways, idle pages, tracking, memory types, remembered MMIO, blocks made whole, pages mapped
//! ahead, frames taken back and promised, equal pages made one and written again, slots with a boot module's content, answers
//! that arrive late or twice, and refusals of the kernel. After each step pager ⇔ EPT ⇔ reference; at the end of a run
//! every frame comes back.
//!
//! `FAULTLINE_MODEL_STEPS` says how many steps (20,000 if it is not set), `FAULTLINE_MODEL_SEED` replays a run: a
//! failure prints both, with the shortest run of steps that fails, among so many as `FAULTLINE_MODEL_SHRINKS` says.
//!
//! That it notices is shown by `mutants.toml` beside the crate: pagers with one mistake each, for every kind of step.

mod check;
mod pass;
mod slots;
mod step;
mod told;

use crate::machine::Cpu;
use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, Seen, WRITE, access, by_policy};
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Level, Rights};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use ipc_proto::words::Words;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;
use step::{Setting, Step, Tried, setting, step};

/// Steps of one run.
const RUN: usize = 200;
/// Which word of a page is looked at.
const WORD: usize = 9;
const NORMAL: Space = Space::Normal;
/// Those that fault.
const VCPUS: usize = 4;
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
    /// Accessed since it was last told of, whatever became of it.
    touched: BTreeSet<u64>,
    /// Of what was used: the policy has taken the bits that said so, and must have noted it.
    noted: BTreeSet<u64>,
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
    /// Base, mask and default of the memory types that the guest has set.
    types: [u64; 3],
    /// Faults that each vCPU has taken.
    taken: [u64; VCPUS],
}

impl World {
    fn new(setting: Setting) -> Self {
        let Setting { policy, nx, prunes, way, abilities, frames } = setting;
        let mut machine = FakeMachine::default();
        (machine.hoards, machine.abilities, machine.log_size) = (!prunes, abilities, 3);
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
        Self { setting, pager, machine, slots: BTreeMap::new(), types: [0; 3], taken: [0; VCPUS] }
    }

    fn at(&mut self, gfn: u64) -> Option<(&mut Memory, u64)> {
        let slot = self.slots.values_mut().find(|slot| gfn.wrapping_sub(slot.base) < slot.pages)?;
        let offset = gfn - slot.base;
        Some((slot, offset))
    }

    fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
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

    /// What the pager answers.
    fn answer(&mut self, fault: &Fault) -> Words {
        self.taken[usize::from(fault.vcpu)] += u64::from(fault.kind != FaultKind::LogFull);
        self.pager.answer(fault, &mut self.machine)
    }

    /// Asks the pager, and gives the kernel its answer.
    fn fault_once(&mut self, fault: &Fault) -> ClaimedReply {
        let mut words = self.answer(fault);
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
        let mut denials = 0;
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
                ClaimedReply::Deny(DenyReason::OutOfMemory) if self.setting.is_short() => return,
                ClaimedReply::Deny(_) => {
                    denials += 1;
                    assert!(denials < 3, "gfn {gfn:#x}, {tried:?}: denied again and again");
                }
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
        slot.touched.insert(offset);
        if let Tried::Write(value) | Tried::ThroughWindow(value) = tried {
            slot.content.insert(offset, value);
            if slot.flags.contains(SlotFlags::LOG_DIRTY_PAGES) {
                slot.dirty.insert(offset);
            }
            self.machine.put(gfn, WORD, value);
        }
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

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(id, base, pages, flags) => self.create(id, base, pages, flags),
            Step::Delete(id) => self.delete(id),
            Step::Move(id, base) => self.relocate(id, base),
            Step::Flags(id, flags) => self.set_flags(id, flags),
            Step::Access(vcpu, gfn, tried) => self.access(vcpu, gfn, tried),
            Step::Overtaken(vcpu, gfn, id, base) => self.overtaken(vcpu, gfn, id, base),
            Step::Track(gfn, tracking) => self.track(gfn, tracking),
            Step::DirtyLog(id) => self.dirty_log(id),
            Step::Idle(id) => self.idle(id),
            Step::Both(gfn, tried) => self.both(gfn, tried),
            Step::Recover => self.recover(),
            Step::MemoryType(gfn) => self.memory_type(gfn),
            Step::Time => self.time_passes(),
            Step::Prefault(first, pages) => self.prefault(first, pages),
            Step::Refuse(after) => self.machine.refuse_after = Some((after, Refused::BadHandle)),
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
    let max_shrink_iters = number("FAULTLINE_MODEL_SHRINKS", 300) as u32;
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&(setting(), proptest::collection::vec(step(), RUN)), |(setting, steps)| {
        let mut world = World::new(setting);
        for step in steps {
            world.step(step);
            world.check();
        }
        world.everything_comes_back();
        Ok(())
    });
    if let Err(error) = result {
        let text: String = std::format!("{error}");
        panic!("FAULTLINE_MODEL_SEED={seed} FAULTLINE_MODEL_STEPS={steps}: {text}");
    }
}
