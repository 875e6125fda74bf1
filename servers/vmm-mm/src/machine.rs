//! What the pager needs of the kernel and of its own memory.

use core::fmt::Arguments;
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, Rights};
use ipc_proto::memop::{Abilities, Harvest};
use ipc_proto::refused::Refused;
use ipc_proto::walk::Walk;

/// 32-bit words in one frame.
pub const WORDS: usize = 1024;
/// Bytes in one frame.
pub const FRAME: usize = 4096;
/// The content of a frame.
pub type PageBytes = [u8; FRAME];

/// The bytes of the pager's own frames. A frame is named by its index: 0 is the first that the pager owns.
pub trait Memory {
    /// Fills the frame with zeros.
    fn clear(&mut self, frame: u32);
    /// Word `index` (below [`WORDS`]) of the frame.
    fn word(&self, frame: u32, index: usize) -> u32;
    /// Writes word `index` (below [`WORDS`]) of the frame.
    fn set_word(&mut self, frame: u32, index: usize, value: u32);
    /// Whether `count` words from `index` on are all 0. They lie in the frame.
    #[inline(always)]
    fn is_zero(&self, frame: u32, index: usize, count: usize) -> bool {
        (index..index + count).all(|index| self.word(frame, index) == 0)
    }
    /// Writes `value` and the numbers behind it into `count` words from `index` on. They lie in the frame.
    #[inline(always)]
    fn set_row(&mut self, frame: u32, index: usize, count: usize, value: u32) {
        for n in 0..count {
            self.set_word(frame, index + n, value + n as u32);
        }
    }
    /// How many words from `index` on are all 0, of at most `most`. They lie in the frame.
    #[inline(always)]
    fn zeros(&self, frame: u32, index: usize, most: usize) -> usize {
        (index..index + most).take_while(|index| self.word(frame, *index) == 0).count()
    }
    /// How many words from `index` on are `value` and the numbers behind it, of at most `most`. They lie in the frame.
    #[inline(always)]
    fn row(&self, frame: u32, index: usize, most: usize, value: u32) -> usize {
        (0..most).take_while(|n| self.word(frame, index + n) == value.wrapping_add(*n as u32)).count()
    }
    /// Few zeroed frames are left: [`crate::pool::Pool::zero_ahead`] shall be called as soon as there is time. Where nobody
    /// has time, frames are zeroed when they are needed.
    fn ask_for_time(&mut self) {}
    /// A page has got one of the last frames: [`crate::serve::Pager::notice`] shall be called as soon as that is answered. Where
    /// nobody can, frames are taken back when there are none.
    fn ask_for_frames(&mut self) {}
    /// Copies the frame out.
    fn read(&self, frame: u32, page: &mut PageBytes) {
        let (words, _) = page.as_chunks_mut::<4>();
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(frame, index).to_le_bytes();
        }
    }
    /// Copies `page` into the frame.
    fn write(&mut self, frame: u32, page: &PageBytes) {
        let (words, _) = page.as_chunks::<4>();
        for (index, word) in words.iter().enumerate() {
            self.set_word(frame, index, u32::from_le_bytes(*word));
        }
    }
    /// Fills the frame with a word of 8 bytes.
    fn fill(&mut self, frame: u32, value: u64) {
        (0..WORDS / 2).for_each(|index| self.set_pair(frame, index, value));
    }
    /// Two words at once: `index` (below half of [`WORDS`]) counts pairs.
    #[inline(always)]
    fn pair(&self, frame: u32, index: usize) -> u64 {
        u64::from(self.word(frame, index * 2)) | u64::from(self.word(frame, index * 2 + 1)) << 32
    }
    /// Writes two words at once: `index` (below half of [`WORDS`]) counts pairs.
    #[inline(always)]
    fn set_pair(&mut self, frame: u32, index: usize, value: u64) {
        self.set_word(frame, index * 2, value as u32);
        self.set_word(frame, index * 2 + 1, (value >> 32) as u32);
    }
    /// Copies bytes of the frame out, from word `index` on. They lie in the frame.
    fn read_at(&self, frame: u32, index: usize, bytes: &mut [u8]) {
        for (n, bytes) in bytes.chunks_mut(4).enumerate() {
            bytes.copy_from_slice(&self.word(frame, index + n).to_le_bytes()[..bytes.len()]);
        }
    }
    /// Copies bytes into the frame, from word `index` on. They lie in the frame; what is behind them stays.
    fn write_at(&mut self, frame: u32, index: usize, bytes: &[u8]) {
        for (n, bytes) in bytes.chunks(4).enumerate() {
            let mut word = self.word(frame, index + n).to_le_bytes();
            word[..bytes.len()].copy_from_slice(bytes);
            self.set_word(frame, index + n, u32::from_le_bytes(word));
        }
    }
    /// Copies page `page` of boot module `image` into the frame, zeros behind its end. False when there is no such
    /// module; nothing is copied then.
    fn read_image(&mut self, image: u8, page: u64, frame: u32) -> bool;
}

/// The kernel's operations on a VM, as [`ipc_proto::memop`] has them, and what else leaves the pager.
pub trait Kernel {
    /// Unmaps `pages` frames from `first` on, in the guest and in every window; says how many were mapped.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused>;
    /// Takes away every right but `keep`; says how many leaves changed.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused>;
    /// Maps a run unasked; says how many frames are mapped more than before.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused>;
    /// Gives `count` of the pager's frames from pfn `first` on to the VM's tables, for good.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused>;
    /// The page that is mapped at `gfn` by the kernel's ledger, whatever its size; `None` when there is none.
    fn mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        self.next_mapped(vm, gfn).filter(|leaf| gfn.0.wrapping_sub(leaf.gfn.0) < leaf.level.frames())
    }
    /// The first frames from `pfn` on that are the pager's and alike; `None` when there are none.
    fn owned(&mut self, pfn: u64) -> Option<OwnedRun>;
    /// The next incarnation is told `pfn`.
    fn keep(&mut self, pfn: u64);
    /// The first page that is mapped at `gfn` or behind; `None` when there is none.
    fn next_mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant>;
    /// The entries by which the CPU finds `gfn`, none beyond the guest; `None` when the kernel does not say.
    fn walk(&mut self, vm: usize, gfn: Gfn) -> Option<Walk>;
    /// What the CPU can do; `None` when the kernel does not say.
    fn cpu(&mut self, vm: usize) -> Option<Cpu>;
    /// Takes what `mode` reports of `frames` frames from `first` on; says how much. It is read with
    /// [`Self::harvested`], before the next harvest and before a reply is begun.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn harvest(&mut self, vm: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused>;
    /// Word `word` (below 512) of what was harvested last: a part of the bitmap, or of [`Harvest::Log`] a gfn.
    fn harvested(&self, word: usize) -> u64;
    /// Says which generation the VM's memory slots are of.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn generation(&mut self, vm: usize, generation: u64) -> Result<(), Refused>;
    /// Begins or ends the CPU's log of written pages.
    ///
    /// # Errors
    /// What the kernel refuses it with; nothing has changed then.
    fn set_log(&mut self, vm: usize, log: LogSwitch) -> Result<(), Refused>;
    /// The VM's present invalidation sequence number; `None` when the kernel does not say.
    fn mmu_seq(&mut self, vm: usize) -> Option<u64>;
    /// The vCPU whose fault was answered `Pending` with `token` tries its access again.
    ///
    /// # Errors
    /// `UnknownToken` when none waits so any more.
    fn ready(&mut self, vm: usize, token: u64) -> Result<(), Refused>;
    /// The time, in ticks of the time-stamp counter.
    fn now(&mut self) -> u64;
    /// Asks for a notice at that time; it replaces what was asked for before.
    fn wake_at(&mut self, tsc: u64);
    /// Puts a further grant of the reply that is being made into its place, counted from 0.
    fn further(&mut self, place: usize, claim: ClaimedGrant);
    /// Ticks that the pager's work took so far, and those that the kernel's operations took for it; `None` where nobody
    /// measures.
    fn ticks(&self) -> Option<(u64, u64)> {
        None
    }
    /// Reports one figure for the summary.
    fn stat(&mut self, key: Arguments<'_>, value: u64);
}

/// What the CPU's EPT can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Beyond the ordinary.
    pub abilities: Abilities,
    /// Its largest page.
    pub largest: Level,
}

impl Cpu {
    /// One that has what every CPU with EPT has.
    pub const PLAIN: Self = Self { abilities: Abilities::empty(), largest: Level::Large };

    /// From word 3 of [`ipc_proto::memop::MemOp::Info`].
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let largest = match Level::from_number(word >> 4 & 3) {
            Some(level) => level,
            None => Level::Page,
        };
        Self { abilities: Abilities::from_bits_truncate(word), largest }
    }
}

/// Neighbouring frames that are the pager's to grant or to donate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedRun {
    /// The pfn of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Whether they are mapped in a guest.
    pub mapped: bool,
}

/// Whether the CPU logs which pages the guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSwitch {
    /// It does.
    On,
    /// It does not.
    Off,
}
