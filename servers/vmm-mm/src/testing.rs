//! A kernel for tests: it keeps what the replies map, as an EPT would, and the bytes of the frames.
//!
//! [`kernel`] is what the pager asks of it, [`guest`] what a guest does with what is mapped.

mod guest;
mod heard;
mod kernel;

pub(crate) use guest::Seen;
pub(crate) use heard::heard;

use crate::machine::{Memory, WORDS};
use crate::policy::Chosen;
use crate::serve::Pager;
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{ClaimedGrant, Gfn, Gpa, Level, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::memop::{Abilities, Harvest, LOG};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use ipc_proto::version::PROTOCOL;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::string::String;
use std::vec::Vec;

/// The pfn of the pager's first frame in tests.
pub(crate) const FIRST_PFN: u64 = 0x1000;

/// What was asked of the kernel, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Unmap(u64, u64),
    Protect(u64, u64, Rights),
    Harvest(u64, u64, Harvest),
}

/// What the CPU goes by and leaves behind, of one page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The rights of the CPU: the granted ones, but for those that a harvest has taken.
    pub allowed: Rights,
    pub accessed: bool,
    pub dirty: bool,
}

/// Pages of one size: gfn to pfn and granted rights.
pub(crate) type Pages = BTreeMap<u64, (u64, Rights)>;

pub(crate) struct FakeMachine {
    /// The content of frames; an empty one is all zeros.
    frames: HashMap<u32, Vec<u32>>,
    /// gfn to pfn and rights of small pages, of VM 0.
    pub ept: Pages,
    /// The same of large pages.
    pub large: Pages,
    /// The same of pages of a gigabyte.
    pub huge: Pages,
    /// By the first gfn of a page, whatever its size.
    pub traces: BTreeMap<u64, Trace>,
    /// Of those, the pages that no window shows.
    pub hidden: BTreeSet<u64>,
    /// Blocks that have a table for small pages.
    tables: BTreeSet<u64>,
    /// Gigabytes that have a table for large pages.
    directories: BTreeSet<u64>,
    /// The kernel keeps tables for ever.
    pub hoards: bool,
    /// Pages whose accesses the VM's server emulates, with the generation of the slots at that time.
    pub mmio: BTreeMap<u64, u64>,
    pub generation: u64,
    /// What the window shows for writing though the log is on.
    shown: BTreeSet<u64>,
    /// What the CPU has logged; `None` while it does not.
    pub log: Option<Vec<u64>>,
    /// How much the CPU can log before it must be taken.
    pub log_size: usize,
    pub abilities: Abilities,
    pub largest: Level,
    /// Faults that the kernel mended by itself.
    pub mended: u64,
    pub invepts: u64,
    /// The pager's message page: further grants of the reply.
    message: BTreeMap<usize, ClaimedGrant>,
    /// The same page after a harvest.
    harvested: Vec<u64>,
    /// Frames that were given for tables.
    pub donated: u64,
    /// How many `Map` operations the kernel has tables for; `None` for enough.
    pub tables_left: Option<u64>,
    pub asked: Vec<Asked>,
    /// The kernel refuses the next operation with this.
    pub refuse: Option<Refused>,
    /// The same, after so many more that it does.
    pub refuse_after: Option<(u32, Refused)>,
    pub stats: Vec<(String, u64)>,
    pub mmu_seq: u64,
    pub cleared: u64,
    /// How often the pool asked for time.
    pub asked_for_time: u32,
    /// The boot modules of the pager.
    pub images: Vec<Vec<u8>>,
    /// Tokens that were said to be ready.
    pub ready: Vec<u64>,
    /// When the pager asked for a notice.
    pub wake: Option<u64>,
    /// What time it is.
    pub tsc: u64,
    /// How much of it passes until somebody looks again.
    pub each_look: u64,
    /// Frames that the pager has, without those that were given away.
    pub owned: BTreeSet<u64>,
    /// So many of them are told at once.
    pub tells: usize,
    /// What the pager has kept; 0 for nothing.
    pub kept: u64,
    /// After so many writes and operations more the pager dies.
    pub dies_after: Option<u64>,
}

/// What a pager's death unwinds with.
pub(crate) struct Death;

impl Default for FakeMachine {
    fn default() -> Self {
        Self {
            frames: HashMap::new(),
            ept: Pages::new(),
            large: Pages::new(),
            huge: Pages::new(),
            traces: BTreeMap::new(),
            hidden: BTreeSet::new(),
            tables: BTreeSet::new(),
            directories: BTreeSet::new(),
            hoards: false,
            mmio: BTreeMap::new(),
            generation: 0,
            shown: BTreeSet::new(),
            log: None,
            log_size: LOG,
            abilities: Abilities::all(),
            largest: Level::Huge,
            mended: 0,
            invepts: 0,
            message: BTreeMap::new(),
            harvested: Vec::new(),
            donated: 0,
            tables_left: None,
            asked: Vec::new(),
            refuse: None,
            refuse_after: None,
            stats: Vec::new(),
            mmu_seq: 0,
            cleared: 0,
            asked_for_time: 0,
            images: Vec::new(),
            ready: Vec::new(),
            wake: None,
            tsc: 0,
            each_look: 0,
            owned: BTreeSet::new(),
            tells: usize::MAX,
            kept: 0,
            dies_after: None,
        }
    }
}

impl FakeMachine {
    /// Makes every frame hold rubbish, as memory does at boot.
    fn page(&self, frame: u32, index: usize) -> u32 {
        self.frames.get(&frame).map_or(0xdead_beef, |words| words.get(index).copied().unwrap_or(0))
    }

    /// One more thing is about to be done, unless the pager dies before.
    pub(crate) fn lives(&mut self) {
        match self.dies_after.as_mut() {
            Some(0) => std::panic::resume_unwind(std::boxed::Box::new(Death)),
            Some(left) => *left -= 1,
            None => {}
        }
    }

    /// The pages of one size.
    fn pages(&mut self, level: Level) -> &mut Pages {
        match level {
            Level::Page => &mut self.ept,
            Level::Large => &mut self.large,
            Level::Huge => &mut self.huge,
        }
    }
}

impl Memory for FakeMachine {
    fn clear(&mut self, frame: u32) {
        self.lives();
        self.cleared += 1;
        self.frames.insert(frame, Vec::new());
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        self.page(frame, index)
    }

    fn ask_for_time(&mut self) {
        self.asked_for_time += 1;
    }

    fn ask_for_frames(&mut self) {
        self.wake = Some(self.tsc);
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        self.lives();
        let words = self.frames.entry(frame).or_insert_with(|| std::vec![0xdead_beef; WORDS]);
        words.resize(WORDS, 0);
        words[index] = value;
    }

    fn read_image(&mut self, image: u8, page: u64, frame: u32) -> bool {
        let Some(bytes) = self.images.get(usize::from(image)) else { return false };
        let mut content = [0; 4096];
        for (to, from) in content.iter_mut().zip(bytes.iter().skip(page as usize * 4096)) {
            *to = *from;
        }
        self.write(frame, &content);
        true
    }
}

/// The state is large: tests keep it on the heap.
pub(crate) fn pager(frames: u64, machine: &mut FakeMachine) -> std::boxed::Box<Pager> {
    pager_of("demand", frames, machine)
}

pub(crate) fn pager_of(policy: &str, frames: u64, machine: &mut FakeMachine) -> std::boxed::Box<Pager> {
    let mut pager = std::boxed::Box::new(Pager::empty());
    let policy = Chosen::by_name(policy).expect("there is such a policy");
    pager.open(FIRST_PFN, &crate::shares::whole(frames), 40, policy, machine);
    pager
}

/// A pager whose VM 0 has been greeted and has these slots: number, base, pages, flags.
pub(crate) fn pager_with(
    frames: u64,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let pager = pager(frames, machine);
    greeted(pager, machine, slots)
}

/// As [`pager_with`], by another policy.
pub(crate) fn by_policy(
    policy: &str,
    frames: u64,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let pager = pager_of(policy, frames, machine);
    greeted(pager, machine, slots)
}

fn greeted(
    mut pager: std::boxed::Box<Pager>,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let hello = Hello { version: PROTOCOL, features: Features::empty() };
    assert!(matches!(pager.control(0, SlotRequest::Hello(hello), machine), SlotReply::Hello(_)));
    for (id, base, pages, flags) in slots {
        let slot = slot(*id, *base, *pages, *flags);
        assert_eq!(pager.control(0, SlotRequest::Create(slot), machine), SlotReply::Done);
    }
    pager
}

pub(crate) fn slot(id: u16, base: u64, pages: u64, flags: SlotFlags) -> Slot {
    Slot { id: SlotId(id), space: Space::Normal, base: Gfn(base), pages, flags }
}

/// A guest's access to the first byte of `gfn`.
pub(crate) fn access(gfn: u64, qualification: Qualification) -> Fault {
    Fault {
        vcpu: 0,
        vm: 0,
        tables_left: 100,
        origin: Origin::Vcpu,
        kind: FaultKind::Violation,
        gpa: Gpa(gfn << 12),
        qualification,
        idt_vectoring: 0,
        mmu_seq: 0,
        rip: RIP,
    }
}

/// Where the guest of the tests is.
pub(crate) const RIP: u64 = 0xffff_ffff_8100_1234;
pub(crate) const READ: Qualification = Qualification::READ;
pub(crate) const WRITE: Qualification = Qualification::WRITE;
