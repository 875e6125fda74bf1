//! Ours: `ukernel::ept` for the walk and the entry alone, `ukernel::grant` with every check that a grant gets.

use super::{Arena, FIRST, FRAMES, TABLES, first_pages, page};
use crate::{MOST, repeat};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use spin::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;
use ukernel::arch::vmx::ept_entry::EptFormat;
use ukernel::ept::{Entry, Format, Table, TableMemory, Tree};
use ukernel::frame::{FrameTable, Granter, Pool, Run};
use ukernel::grant::{Against, Shapes, install as install_grant};

const PAGER: u8 = 2;
/// The first frame that is granted.
const GRANTED: u64 = 1024;

/// Tables in an arena, by an offset from where it begins, as the kernel and the peers reach them.
struct Memory {
    base: u64,
}

impl TableMemory for Memory {
    #[inline(always)]
    fn table(&self, pfn: Pfn) -> &Table {
        // SAFETY: only frames of the arena are named, which lives for ever and which nobody else uses.
        unsafe { &*((self.base + (pfn.0 << 12)) as *const Table) }
    }
}

/// An EPT, its frame table and its pool, with every table in place.
struct Vm {
    memory: Memory,
    frames: FrameTable,
    pool: Mutex<Pool>,
}

impl Vm {
    fn new() -> Self {
        let entries: Vec<AtomicU64> =
            (0..FrameTable::words(GRANTED as usize + 2 * MOST)).map(|_| AtomicU64::new(0)).collect();
        let frames = FrameTable::new(entries.leak());
        frames.assign_root(Pfn(0), 0);
        let mut pool = Pool::default();
        for pfn in 1..FRAMES as u64 {
            frames.assign(Pfn(pfn), PAGER);
            frames.donate(Pfn(pfn), &mut pool, 0);
        }
        (GRANTED..frames.size()).for_each(|pfn| frames.assign(Pfn(pfn), PAGER));
        let memory = Memory { base: Arena::new().base() };
        let vm = Self { memory, frames, pool: Mutex::new(pool) };
        for page in first_pages() {
            assert!(vm.install(claim(page, GRANTED)));
            assert_eq!(vm.take_back(page), Some(Pfn(GRANTED)));
        }
        assert_eq!(vm.pool.lock().count(), FRAMES as u32 - 1 - 2 - TABLES as u32, "each table was made once");
        vm
    }

    fn ept(&self) -> Tree<'_, EptFormat, Memory> {
        Tree::new(Pfn(0), &self.memory)
    }

    /// Takes the page out of the EPT and notes that its frame is no longer mapped.
    #[inline(always)]
    fn take_back(&self, page: u64) -> Option<Pfn> {
        let pfn = unmap_one(&self.ept(), page)?;
        self.frames.unmap(Run::small(pfn, 1));
        Some(pfn)
    }

    #[inline(always)]
    fn install(&self, claim: ClaimedGrant) -> bool {
        let ept = self.ept();
        let against = Against {
            by: Granter { task: PAGER, vm: 0 },
            ept: &ept,
            guest_frames: 1 << 36,
            mmu_seq: 7,
            shapes: Shapes { largest: Level::Large, execute_only: false },
        };
        install_grant(claim, &against, &self.frames, &self.pool).is_ok()
    }
}

const fn claim(page: u64, pfn: u64) -> ClaimedGrant {
    let grant = Grant {
        gfn: Gfn(page),
        pfn: Pfn(pfn),
        count: 1,
        level: Level::Page,
        rights: Rights::all(),
        mem_type: MemType::WriteBack,
        mmu_seq: 7,
        seen_by: SeenBy::Everyone,
    };
    grant.claim()
}

/// Walks from the root and puts the entry in place, by compare-exchange; whose frame it is has been checked elsewhere.
pub fn map(times: usize) -> Duration {
    let vm = Vm::new();
    let ept = vm.ept();
    let took = repeat(times, |n| map_one(&ept, page(n), Pfn(GRANTED + n as u64)));
    assert!(times == 0 || ept.leaf(FIRST).is_some_and(|(leaf, _)| leaf.pfn == Pfn(GRANTED)));
    took
}

#[inline(always)]
fn map_one(ept: &Tree<'_, EptFormat, Memory>, page: u64, pfn: Pfn) -> bool {
    let place = ept.walk(page, 1);
    let leaf = EptFormat::leaf(pfn, 1, Rights::all(), MemType::WriteBack);
    place.level == 1 && place.table[place.index].compare_exchange(0, leaf, AcqRel, Relaxed).is_ok()
}

/// The whole of what the kernel does with a grant: shape, frame ownership, invalidation sequence, walk, entry, ledger.
pub fn install(times: usize) -> Duration {
    let vm = Vm::new();
    repeat(times, |n| vm.install(claim(page(n), GRANTED + n as u64)))
}

/// A VM with every page mapped.
fn full() -> Vm {
    let vm = Vm::new();
    (0..MOST).for_each(|n| assert!(vm.install(claim(page(n), GRANTED + n as u64))));
    vm
}

/// Walks from the root and takes the entry away.
pub fn unmap(times: usize) -> Duration {
    let vm = full();
    let ept = vm.ept();
    repeat(times, |n| unmap_one(&ept, page(n)))
}

#[inline(always)]
fn unmap_one(ept: &Tree<'_, EptFormat, Memory>, page: u64) -> Option<Pfn> {
    let place = ept.walk(page, 1);
    let Entry::Leaf(leaf) = EptFormat::decode(place.entry, place.level) else { return None };
    place.table[place.index].swap(0, AcqRel);
    Some(leaf.pfn)
}

/// The same, and the ledger.
pub fn take_back(times: usize) -> Duration {
    let vm = full();
    repeat(times, |n| vm.take_back(page(n)))
}
