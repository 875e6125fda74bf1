//! The kernel's tables: one for each frame that ever becomes one.

use ipc_proto::grant::Pfn;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ukernel::ept::{Table, TableMemory};

/// Tables by frame, made when they are first looked at.
pub struct Tables(Vec<OnceLock<Box<Table>>>);

impl Tables {
    /// Room for the frames below `frames`.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| OnceLock::new()).collect())
    }

    /// Empties a table.
    pub fn clear(&self, pfn: Pfn) {
        self.table(pfn).iter().for_each(|entry| entry.store(0, Relaxed));
    }
}

impl TableMemory for Tables {
    fn table(&self, pfn: Pfn) -> &Table {
        self.0[pfn.0 as usize].get_or_init(|| Box::new([const { AtomicU64::new(0) }; 512]))
    }
}
