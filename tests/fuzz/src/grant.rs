//! Grants: whatever words a pager sends, the EPT has what was accepted and nothing else, and the frame table agrees.

use crate::take::Take;
use ipc_proto::grant::{ClaimedGrant, Grant, Level, Pfn};
use ipc_proto::refused::Refused;
use spin::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex as Lock, PoisonError};
use ukernel::arch::vmx::ept_entry::EptFormat;
use ukernel::ept::{Leaf, Table, TableMemory, Tree};
use ukernel::frame::{FrameTable, Granter, Pool, Run, Use};
use ukernel::grant::{Against, Shapes, install};
use ukernel::ledger;

/// The most grants of one input.
const GRANTS: usize = 12;
/// Bytes of a grant: shape, gfn, pfn, mmu_seq.
pub const BYTES: usize = ClaimedGrant::BYTES;
/// The pager, and the task that is not.
const PAGER: u8 = 2;
const OTHER: u8 = 3;
/// The VM's sequence number: what good grants carry.
pub const SEQ: u64 = 7;
/// The pager's first frame; those below are tables, kernel, modules, another task's.
pub const FIRST: u64 = 512;
const TABLES: usize = 12;
const FRAMES: usize = 2048;
/// Guest frames: two tables below the root's first two entries.
const GUEST_FRAMES: u64 = 1 << 28;

/// A frame of the pager that another VM sees.
const OTHERS: Run = Run::small(Pfn(FIRST + 1), 1);

static ENTRIES: [AtomicU64; FrameTable::words(FRAMES)] = [const { AtomicU64::new(0) }; FrameTable::words(FRAMES)];
static EPT: Tables = Tables([const { [const { AtomicU64::new(0) }; 512] }; TABLES]);
/// One input at a time uses them.
static IN_USE: Lock<()> = Lock::new(());

struct Tables([Table; TABLES]);

impl TableMemory for Tables {
    fn table(&self, pfn: Pfn) -> &Table {
        &self.0[pfn.0 as usize]
    }
}

/// Installs the grants that the bytes are, one after the other.
pub fn check(bytes: &[u8]) {
    let _one = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut take = Take(bytes);
    let frames = FrameTable::new(&ENTRIES);
    let pool = Mutex::new(begin(&frames, take.byte()));
    let ept = Tree::<EptFormat, _>::new(Pfn(0), &EPT);
    for _ in 0..GRANTS {
        if take.0.is_empty() {
            break;
        }
        let [shape, gfn, pfn, mmu_seq] = take.words();
        let claim = ClaimedGrant { shape, gfn, pfn, mmu_seq };
        let shapes = Shapes { largest: Level::Large, execute_only: false };
        let by = Granter { task: PAGER, vm: 0 };
        let against = Against { by, ept: &ept, guest_frames: GUEST_FRAMES, mmu_seq: SEQ, shapes };
        let before = state(&pool);
        match install(claim, &against, &frames, &pool) {
            Ok(_) => accepted(claim, &ept),
            Err(Refused::NoTables) => assert_eq!(state(&pool), before, "a grant without tables changes nothing"),
            Err(refused) => assert_eq!(state(&pool), before, "{refused:?} changes nothing"),
        }
    }
    frames.unmap(OTHERS);
    let proof = ledger::prove(&frames, [(0, Some(PAGER), ept)].into_iter());
    assert!(proof.is_ok(), "{proof:?}");
}

/// An empty EPT, so many table frames, and one frame of each kind that the pager may not grant.
fn begin(frames: &FrameTable, tables: u8) -> Pool {
    ENTRIES.iter().for_each(|entry| entry.store(0, Relaxed));
    EPT.0.iter().flatten().for_each(|entry| entry.store(0, Relaxed));
    frames.assign_root(Pfn(0), 0);
    frames.found(Pfn(FIRST - 1), Use::Kernel);
    frames.found(Pfn(FIRST - 2), Use::Module);
    frames.assign(Pfn(FIRST - 3), OTHER);
    for pfn in FIRST..FRAMES as u64 - 16 {
        frames.assign(Pfn(pfn), PAGER);
    }
    frames.map(OTHERS, 1);
    let mut pool = Pool::default();
    for pfn in 1..=u64::from(tables) % TABLES as u64 {
        frames.assign(Pfn(pfn), PAGER);
        frames.donate(Pfn(pfn), &mut pool, 0);
    }
    pool
}

/// Everything that a grant can change.
fn state(pool: &Mutex<Pool>) -> (Vec<u64>, Vec<u64>, u32) {
    let load = |entry: &AtomicU64| entry.load(Relaxed);
    (ENTRIES.iter().map(load).collect(), EPT.0.iter().flatten().map(load).collect(), pool.lock().count())
}

/// An accepted grant is a good one, and each of its pages is there.
fn accepted(claim: ClaimedGrant, ept: &Tree<'_, EptFormat, Tables>) {
    let grant = claim.typed().expect("only a grant is accepted");
    let Grant { gfn, pfn, count, level, rights, mem_type, mmu_seq, seen_by } = grant;
    assert_eq!(mmu_seq, SEQ, "a stale grant is refused");
    let size = level.frames();
    assert!(gfn.0 % size == 0 && pfn.0 % size == 0, "{grant:?} is not aligned");
    for page in 0..u64::from(count) {
        let found = ept.leaf(gfn.0 + page * size);
        let (Leaf { pfn: there, rights: granted, mem_type: cached, seen_by: seen, .. }, at) =
            found.expect("it is mapped");
        assert_eq!((there.0, granted, cached, seen), (pfn.0 + page * size, rights, mem_type, seen_by));
        assert_eq!(u64::from(at), 1 + u64::from(size.trailing_zeros() / 9));
        for frame in there.0..there.0 + size {
            assert!((FIRST..FRAMES as u64 - 16).contains(&frame), "frame {frame} is not the pager's");
        }
    }
    assert!(gfn.0 + u64::from(count) * size <= GUEST_FRAMES, "{grant:?} goes beyond the guest");
}
