//! Table memory on the host: frames that hold tables are counted, every other access is an error of the test.

use crate::ept::{Table, TableMemory};
use crate::frame::{FrameTable, Pool};
use ipc_proto::grant::Pfn;
use std::boxed::Box;
use std::sync::atomic::AtomicU64;
use std::vec::Vec;

/// Frames 0 to `n` as tables, all zero.
pub struct HostTables(Vec<Box<Table>>);

impl HostTables {
    pub fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| Box::new([const { AtomicU64::new(0) }; 512])).collect())
    }
}

impl TableMemory for HostTables {
    fn table(&self, pfn: Pfn) -> &Table {
        &self.0[pfn.0 as usize]
    }
}

/// A frame table of `frames` frames, all absent.
pub fn frame_table(frames: usize) -> FrameTable {
    let entries: Vec<AtomicU64> = (0..FrameTable::words(frames)).map(|_| AtomicU64::new(0)).collect();
    FrameTable::new(Box::leak(entries.into_boxed_slice()))
}

/// A pool of VM `vm` with the frames `pfns`.
pub fn pool(frames: &FrameTable, pfns: std::ops::Range<u64>, vm: u8) -> Pool {
    let mut pool = Pool::default();
    for pfn in pfns {
        frames.assign(Pfn(pfn), 2);
        frames.donate(Pfn(pfn), &mut pool, vm);
    }
    pool
}
