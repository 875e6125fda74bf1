//! A kernel that maps nothing and refuses what it is told to, and frames that are bytes.

use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, Rights};
use ipc_proto::memop::{Abilities, Harvest};
use ipc_proto::refused::Refused;
use ipc_proto::walk::Walk;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use vmm_mm::machine::{Cpu, Kernel, LogSwitch, Memory, OwnedRun, WORDS};

/// The pager's first frame: 2 MiB, so that there are large pages.
pub const FIRST_PFN: u64 = 0x200;
/// Its frames: a large page's, and some.
pub const FRAMES: u32 = 700;

#[derive(Default)]
pub struct Machine {
    /// The words of frames that are not all zero.
    frames: BTreeMap<u32, Box<[u32]>>,
    /// The kernel refuses the next operation so.
    pub refuse: Option<Refused>,
    /// The further grants of a reply.
    pub further: BTreeMap<usize, ClaimedGrant>,
    now: u64,
}

impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    fn done<T>(&mut self, value: T) -> Result<T, Refused> {
        self.refuse.take().map_or(Ok(value), Err)
    }
}

impl Memory for Machine {
    fn clear(&mut self, frame: u32) {
        assert!(frame < FRAMES, "frame {frame}");
        self.frames.remove(&frame);
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        assert!(frame < FRAMES && index < WORDS, "frame {frame}, word {index}");
        self.frames.get(&frame).map_or(0, |words| words[index])
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        assert!(frame < FRAMES && index < WORDS, "frame {frame}, word {index}");
        self.frames.entry(frame).or_insert_with(|| vec![0; WORDS].into_boxed_slice())[index] = value;
    }

    fn read_image(&mut self, _: u8, _: u64, _: u32) -> bool {
        false
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, _: usize, _: Gfn, _: u64) -> Result<u64, Refused> {
        self.done(0)
    }

    fn protect(&mut self, _: usize, _: Gfn, _: u64, _: Rights) -> Result<u64, Refused> {
        self.done(0)
    }

    fn map(&mut self, _: usize, grant: &Grant) -> Result<u64, Refused> {
        self.done(u64::from(grant.count))
    }

    fn donate(&mut self, _: usize, _: u64, _: u64) -> Result<(), Refused> {
        self.done(())
    }

    fn owned(&mut self, _: u64) -> Option<OwnedRun> {
        None
    }

    fn keep(&mut self, _: u64) {}

    fn next_mapped(&mut self, _: usize, _: Gfn) -> Option<Grant> {
        None
    }

    fn walk(&mut self, _: usize, _: Gfn) -> Option<Walk> {
        None
    }

    fn cpu(&mut self, _: usize) -> Option<Cpu> {
        Some(Cpu { abilities: Abilities::all(), largest: Level::Large })
    }

    fn harvest(&mut self, _: usize, _: Gfn, _: u64, _: Harvest) -> Result<u64, Refused> {
        self.done(0)
    }

    fn harvested(&self, _: usize) -> u64 {
        0
    }

    fn generation(&mut self, _: usize, _: u64) -> Result<(), Refused> {
        self.done(())
    }

    fn set_log(&mut self, _: usize, _: LogSwitch) -> Result<(), Refused> {
        self.done(())
    }

    fn mmu_seq(&mut self, _: usize) -> Option<u64> {
        Some(0)
    }

    fn ready(&mut self, _: usize, _: u64) -> Result<(), Refused> {
        self.done(())
    }

    fn now(&mut self) -> u64 {
        self.now += 1000;
        self.now
    }

    fn wake_at(&mut self, _: u64) {}

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        self.further.insert(place, claim);
    }

    fn stat(&mut self, _: Arguments<'_>, _: u64) {}
}
