//! A VM as the kernel has it: an EPT, a window, a pool of tables. Grants are checked and installed by the kernel's own code.

use crate::ledger::{Ledger, PAGER};
use ipc_proto::grant::{ClaimedGrant, Level, Pfn, Rights, SeenBy};
use ipc_proto::memop::Abilities;
use ipc_proto::refused::Refused;
use spin::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use ukernel::arch::vmx::ept_entry::{EptFormat, remembered, traces};
use ukernel::ept::{Entry, Format, Leaf, Place, TOP, Tree, pages};
use ukernel::frame::{Granter, Pool, Run};
use ukernel::grant::{Against, Shapes, install};
use ukernel::mend;
use ukernel::vm::StaleTlb;

/// What the CPU can do.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Guest-physical address bits.
    pub bits: u8,
    /// The largest page.
    pub largest: Level,
    /// A and D bits, a log, execute-only pages.
    pub abilities: Abilities,
}

/// The CPU's log of written pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// Off.
    Off,
    /// On, with what it has.
    On(Vec<u64>),
}

/// A VM.
pub struct Vm {
    /// Its place in the manifest.
    pub number: u8,
    root: Pfn,
    window: Pfn,
    /// Its table frames.
    pub pool: Mutex<Pool>,
    /// Its invalidation sequence number.
    pub mmu_seq: u64,
    /// Frames mapped.
    pub mapped: u64,
    /// The generation of its slots.
    pub generation: u64,
    /// Its log.
    pub log: Log,
    /// What its CPU can do.
    pub cpu: Cpu,
}

impl Vm {
    /// An empty one.
    #[must_use]
    pub fn new(number: u8, cpu: Cpu, ledger: &Ledger) -> Self {
        let root = Pfn(u64::from(number) * 2);
        ledger.frames.assign_root(root, number);
        let window = Pfn(root.0 + 1);
        ledger.frames.assign_root(window, number);
        let pool = Mutex::new(Pool::default());
        Self { number, root, window, pool, mmu_seq: 1, mapped: 0, generation: 0, log: Log::Off, cpu }
    }

    /// Its EPT.
    #[must_use]
    pub fn ept<'a>(&self, ledger: &'a Ledger) -> Tree<'a, EptFormat, crate::tables::Tables> {
        Tree::new(self.root, &ledger.tables)
    }

    fn window_tables<'a>(&self, ledger: &'a Ledger) -> Tree<'a, EptFormat, crate::tables::Tables> {
        Tree::new(self.window, &ledger.tables)
    }

    /// Frames in its address space.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        1 << (self.cpu.bits - 12)
    }

    /// Table frames left, as a fault says it.
    #[must_use]
    pub fn tables_left(&self) -> u16 {
        self.pool.lock().count().min(u32::from(u16::MAX)) as u16
    }

    /// Checks and installs a grant. Says how many frames are mapped more.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn install(&mut self, claim: ClaimedGrant, ledger: &Ledger) -> Result<u64, Refused> {
        let ept = self.ept(ledger);
        let against = Against {
            by: Granter { task: PAGER, vm: self.number },
            ept: &ept,
            guest_frames: self.frames(),
            mmu_seq: self.mmu_seq,
            shapes: Shapes {
                largest: self.cpu.largest,
                execute_only: self.cpu.abilities.contains(Abilities::EXECUTE_ONLY),
            },
        };
        let (stale, pages) = install(claim, &against, &ledger.frames, &self.pool)?;
        // There is no TLB here: every access walks.
        if let (StaleTlb::Some, Ok(grant)) = (stale, claim.typed()) {
            self.hide(claim.gfn, claim.gfn + u64::from(grant.count) * grant.level.frames(), ledger);
        }
        self.mapped += pages;
        Ok(pages)
    }

    /// The leaf over `gfn`, and its size in frames.
    #[must_use]
    pub fn leaf(&self, gfn: u64, ledger: &Ledger) -> Option<(Leaf, u64)> {
        self.ept(ledger).leaf(gfn).map(|(leaf, level)| (leaf, pages(level)))
    }

    /// The frame behind `gfn`.
    #[must_use]
    pub fn pfn(&self, gfn: u64, ledger: &Ledger) -> Option<u64> {
        self.leaf(gfn, ledger).map(|(leaf, size)| leaf.pfn.0 + gfn % size)
    }

    /// A guest's access as the CPU and the kernel make it without the pager; false when it must be asked.
    #[must_use]
    pub fn enters(&mut self, gfn: u64, tried: Rights, ledger: &Ledger) -> bool {
        let place = self.ept(ledger).find(gfn, 1);
        let Some(leaf) = mend::granted(&place, tried) else { return false };
        if !leaf.allowed.contains(tried) {
            mend::give_back(&place, &leaf, tried);
        }
        self.trace(&place, &leaf, gfn, tried);
        true
    }

    /// Sets the A and D bits, and logs, as far as the CPU does.
    fn trace(&mut self, place: &Place<'_>, leaf: &Leaf, gfn: u64, tried: Rights) {
        if !self.cpu.abilities.contains(Abilities::ACCESSED_DIRTY) {
            return;
        }
        place.table[place.index].fetch_or(traces(tried), Relaxed);
        if let Log::On(log) = &mut self.log
            && tried.contains(Rights::WRITE)
            && !leaf.dirty
        {
            log.push(gfn);
        }
    }

    /// A page in the window, as the kernel shows it; false when the pager must be asked.
    #[must_use]
    pub fn shows(&mut self, gfn: u64, tried: Rights, asked: Asked, ledger: &Ledger) -> bool {
        let window = self.window_tables(ledger);
        if window.leaf(gfn).is_some_and(|(leaf, _)| leaf.rights.contains(tried)) {
            return true;
        }
        let logged = self.log != Log::Off && tried.contains(Rights::WRITE);
        if logged && asked == Asked::No {
            return false;
        }
        let seen = self.ept(ledger).find(gfn, 1);
        let granted = mend::granted(&seen, tried).filter(|leaf| leaf.seen_by == SeenBy::Everyone);
        let Some(leaf) = granted else { return false };
        let found = window.find(gfn, 1);
        let Some(mut tables) = ledger.frames.take(&mut self.pool.lock(), u32::from(found.level - 1)) else {
            return false;
        };
        let Some(place) = window.extend(found, gfn, 1, || ledger.frames.next_table(&mut tables)) else {
            return false;
        };
        mend::give_back(&seen, &leaf, tried);
        seen.table[seen.index].fetch_or(traces(tried), Relaxed);
        let pfn = Pfn(leaf.pfn.0 + gfn % pages(seen.level));
        let entry = EptFormat::leaf(pfn, 1, tried.union(Rights::READ), leaf.mem_type);
        place.table[place.index].store(entry, Relaxed);
        true
    }

    /// The gfns that its window shows.
    #[must_use]
    pub fn shown(&self, ledger: &Ledger) -> Vec<u64> {
        let mut shown = Vec::new();
        self.window_tables(ledger).leaves(0, self.frames(), |gfn, _, _| {
            shown.push(gfn);
            true
        });
        shown
    }

    /// Takes `first..end` out of the window.
    pub fn hide(&self, first: u64, end: u64, ledger: &Ledger) {
        self.window_tables(ledger).leaves(first, end, |_, place, _| {
            place.table[place.index].store(0, Relaxed);
            true
        });
    }

    /// Takes a leaf away. Says how many frames it mapped.
    pub fn remove(&mut self, place: &Place<'_>, leaf: &Leaf, ledger: &Ledger) -> u64 {
        place.table[place.index].store(0, Relaxed);
        let frames = pages(place.level);
        ledger.frames.unmap(Run { first: leaf.pfn, count: frames, level: place.level });
        self.mapped -= frames;
        frames
    }

    /// Every leaf: its first gfn, where it is, what it says.
    #[must_use]
    pub fn leaves<'a>(&self, first: u64, end: u64, ledger: &'a Ledger) -> Vec<(u64, Place<'a>, Leaf)> {
        let mut all = Vec::new();
        self.ept(ledger).leaves(first, end, |gfn, place, leaf| {
            all.push((gfn, place, leaf));
            true
        });
        all
    }

    /// Gives the tables that cover nothing outside of `first..end` back to the pool.
    pub fn give_back_tables(&mut self, first: u64, end: u64, ledger: &Ledger) {
        for level in 2..TOP {
            let size = pages(level);
            let mut page = first.next_multiple_of(size);
            while page + size <= end {
                let place = self.ept(ledger).find(page, level);
                if place.level == level
                    && let Entry::Table(table) = EptFormat::decode(place.entry, level)
                {
                    place.table[place.index].store(0, Relaxed);
                    ledger.tables.clear(table);
                    ledger.frames.donate(table, &mut self.pool.lock(), self.number);
                }
                page = (page & !(pages(place.level) - 1)) + pages(place.level);
            }
        }
    }

    /// Whether an answer `Mmio` is remembered for `gfn`, under whatever generation.
    #[must_use]
    pub fn remembers(&self, gfn: u64, ledger: &Ledger) -> Option<Remembered> {
        let place = self.ept(ledger).find(gfn, 1);
        let leaf = matches!(EptFormat::decode(place.entry, place.level), Entry::Leaf(_));
        if place.level != 1 || leaf || place.entry == 0 {
            return None;
        }
        let present = self.generation != 0 && place.entry == remembered(self.generation);
        Some(if present { Remembered::Now } else { Remembered::Before })
    }

    /// Remembers an answer `Mmio`, when there are tables for it.
    pub fn remember(&mut self, gfn: u64, generation: u64, ledger: &Ledger) {
        if generation == 0 || generation != self.generation || gfn >= self.frames() {
            return;
        }
        let found = self.ept(ledger).find(gfn, 1);
        if EptFormat::decode(found.entry, found.level) != Entry::Empty {
            return;
        }
        let Some(mut tables) = ledger.frames.take(&mut self.pool.lock(), u32::from(found.level - 1)) else { return };
        if let Some(place) = self.ept(ledger).extend(found, gfn, 1, || ledger.frames.next_table(&mut tables)) {
            place.table[place.index].store(remembered(generation), Relaxed);
        }
    }
}

/// Whether the pager has been asked about a window access already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Not yet.
    No,
    /// And has mapped it.
    Yes,
}

/// Under which generation an answer is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The present one: nobody is asked.
    Now,
    /// An earlier one: the pager is asked again.
    Before,
}
