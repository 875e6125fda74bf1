//! A vCPU: what of a guest the kernel runs, and what it is waiting for.

use crate::arch::GuestCpu;
use crate::ept::Table;
use crate::vm::Vm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::exit::Exit;
use ipc_proto::grant::Gpa;

/// Basic exit reasons that are counted one by one.
pub const REASONS: usize = 70;
/// Ticks of faults are counted in classes of this many.
pub const TICKS_A_CLASS: u64 = 4;
/// How many classes; the last has everything above.
pub const CLASSES: usize = 4096;
/// How often the same fault may come back after answers that claim to mend it.
const STUCK: u32 = 64;
/// How often a fault at the same address may come back before it is looked at whether it is the same.
const SUSPICIOUS: u32 = 48;

/// What a vCPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs, or is ready to.
    Ready,
    /// Its server must let it run; the exit that it stopped in, if it ever ran.
    Parked(Option<Exit>),
    /// Its pager must answer its fault.
    Faulted,
    /// Likewise, and a shadow is asked then.
    Watched,
    /// Its pager has promised to answer its fault, under this token.
    Pending(u64),
    /// Its server must answer this exit.
    Exited(Exit),
}

/// A fault, as far as one is recognised when it comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    gpa: Gpa,
    qualification: u64,
}

/// A table of level 1: of which 2 MiB, and the invalidation sequence number under which it was found. Tables are taken
/// away by invalidations only, so under the same number it is there still.
#[derive(Clone, Copy, Default)]
pub struct LeafTable {
    block: u64,
    mmu_seq: u64,
    table: Option<&'static Table>,
}

impl LeafTable {
    /// The table found for `gfn`, in the VM's address space, under `mmu_seq`.
    #[must_use]
    pub const fn new(gfn: u64, mmu_seq: u64, table: &'static Table) -> Self {
        Self { block: gfn >> 9, mmu_seq, table: Some(table) }
    }

    /// The table, if it is that of `gfn` and was found under `mmu_seq`.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, gfn: u64, mmu_seq: u64) -> Option<&'static Table> {
        self.table.filter(|_| self.block == gfn >> 9 && self.mmu_seq == mmu_seq)
    }
}

/// Counts for the summary. They belong to this core; atomics so that figures are read without a reference to it.
pub struct Counts {
    /// Exits by basic reason.
    pub exits: [u64; REASONS],
    /// Faults that were answered, by ticks from exit to entry.
    pub ticks: &'static [AtomicU64; CLASSES],
    /// Faults that the kernel mended by itself.
    pub mended: u64,
    /// Grants that were accepted.
    pub grants: u64,
    /// 4 KiB pages that they mapped.
    pub pages: u64,
    /// The most ticks of a fault, if that is beyond all classes.
    pub most: u64,
}

/// A vCPU.
pub struct Vcpu {
    /// The VM's place in the manifest.
    pub vm: u8,
    /// Its number in the VM.
    pub number: u8,
    /// The VM.
    pub of: &'static Vm,
    /// The low half of a message's first word: number and VM.
    pub badge: u64,
    /// The table of the last page that was granted to it.
    pub leaf_table: LeafTable,
    /// What it waits for.
    pub status: Status,
    /// What of it the CPU holds.
    pub cpu: GuestCpu,
    /// When the guest was left for the fault that is being answered; 0 for none.
    pub left_at: u64,
    last: Sight,
    last_rip: u64,
    again: u32,
    /// Counts for the summary.
    pub counts: Counts,
}

impl Vcpu {
    /// A parked vCPU. `ticks` are [`CLASSES`] counters.
    #[must_use]
    pub fn new(of: &'static Vm, number: u8, cpu: GuestCpu, ticks: &'static [AtomicU64; CLASSES]) -> Self {
        let vm = of.id;
        let badge = u64::from(number) | u64::from(vm) << 16;
        let counts = Counts { exits: [0; REASONS], ticks, mended: 0, grants: 0, pages: 0, most: 0 };
        let last = Sight::default();
        let (status, leaf_table) = (Status::Parked(None), LeafTable::default());
        Self { vm, number, of, badge, leaf_table, status, cpu, left_at: 0, last, last_rip: 0, again: 0, counts }
    }

    /// It waits for its pager, and a shadow gets its fault too if the VM has one.
    #[inline(always)]
    pub const fn faults(&mut self) {
        self.status = if self.of.shadow.is_some() { Status::Watched } else { Status::Faulted };
    }

    /// Whether a fault must be looked at more closely: it came back often. As cheap as can be; [`Vcpu::is_stuck`] decides.
    #[inline(always)]
    pub fn may_be_stuck(&mut self, gpa: Gpa) -> bool {
        if gpa == self.last.gpa {
            self.again += 1;
            return self.again > SUSPICIOUS;
        }
        self.last.gpa = gpa;
        self.again = 0;
        false
    }

    /// Whether a fault has come back so often, from the same instruction, that answers do not mend it.
    #[inline(always)]
    pub fn is_stuck(&mut self, gpa: Gpa, qualification: u64) -> bool {
        let sight = Sight { gpa, qualification };
        if sight != self.last {
            self.last = sight;
            self.again = 0;
            return false;
        }
        self.seen_again()
    }

    /// The fault was answered with an emulated access: that the next one looks the same is no sign of anything.
    pub fn mended(&mut self) {
        self.last = Sight::default();
        self.again = 0;
    }

    #[cold]
    fn seen_again(&mut self) -> bool {
        let rip = self.cpu.rip();
        self.again = if self.again == 0 || rip == self.last_rip { self.again + 1 } else { 0 };
        self.last_rip = rip;
        self.again >= STUCK
    }

    /// The fault that was answered ends with this entry.
    #[inline(always)]
    pub fn fault_ends(&mut self, now: u64) {
        let ticks = now.wrapping_sub(core::mem::take(&mut self.left_at));
        match self.counts.ticks.get((ticks / TICKS_A_CLASS) as usize) {
            Some(count) => count.store(count.load(Relaxed) + 1, Relaxed),
            None => self.took_long(ticks),
        }
    }

    #[cold]
    fn took_long(&mut self, ticks: u64) {
        self.counts.most = self.counts.most.max(ticks);
        if let Some(last) = self.counts.ticks.last() {
            last.store(last.load(Relaxed) + 1, Relaxed);
        }
    }
}
