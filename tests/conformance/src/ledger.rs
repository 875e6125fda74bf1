//! What the kernel knows of frames: the kernel's own frame table, the tables, and the bytes of the pager's share.

use crate::frames::Frames;
use crate::tables::Tables;
use ipc_proto::grant::Pfn;
use ipc_proto::refused::Refused;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use ukernel::frame::{FrameTable, Pool, Use};

/// Frames that are no RAM.
pub const ABSENT: u64 = 0xff;
/// A frame of the kernel's.
pub const KERNEL: u64 = 0x40;
/// A frame of a boot module.
pub const MODULE: u64 = 0x80;
/// A frame of another task.
pub const FOREIGN: u64 = 0xc0;
/// The first frame of the pager: the first of them that is a multiple of 512 is not the first.
pub const FIRST: u64 = 0x1234;
/// The pager's place in the manifest.
pub const PAGER: u8 = 1;
/// Another task's.
const OTHER: u8 = 2;

/// The frames of one system.
pub struct Ledger {
    /// Who owns what.
    pub frames: FrameTable,
    /// The tables.
    pub tables: Tables,
    /// The pager's bytes.
    pub bytes: Frames,
    /// Frames that the pager has given, or begins without.
    pub given: BTreeSet<u64>,
    count: u64,
}

impl Ledger {
    /// A pager with `count` frames, among the frames of others.
    ///
    /// # Errors
    /// No room for the bytes.
    pub fn new(count: u64) -> anyhow::Result<Self> {
        let total = (FIRST + count + 512) as usize;
        let entries: Vec<AtomicU64> = (0..FrameTable::words(total)).map(|_| AtomicU64::new(0)).collect();
        // The kernel's table lives as long as the kernel; this one as long as the kit, some dozen times.
        let frames = FrameTable::new(Box::leak(entries.into_boxed_slice()));
        (KERNEL..MODULE).for_each(|pfn| frames.found(Pfn(pfn), Use::Kernel));
        (MODULE..FOREIGN).for_each(|pfn| frames.found(Pfn(pfn), Use::Module));
        (FOREIGN..ABSENT).for_each(|pfn| frames.assign(Pfn(pfn), OTHER));
        (FIRST..FIRST + count).for_each(|pfn| frames.assign(Pfn(pfn), PAGER));
        (FIRST + count..total as u64).for_each(|pfn| frames.assign(Pfn(pfn), OTHER));
        let tables = Tables::new(total);
        Ok(Self { frames, tables, bytes: Frames::new(FIRST, count)?, given: BTreeSet::new(), count })
    }

    /// How many frames the pager began with.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Moves `count` frames from `first` to `pool`, cleared.
    ///
    /// # Errors
    /// Those of `Donate`; nothing has moved then.
    pub fn donate(&mut self, first: Pfn, count: u64, pool: &mut Pool, vm: u8) -> Result<(), Refused> {
        self.frames.donatable(first, count, PAGER)?;
        for pfn in first.0..first.0 + count {
            self.tables.clear(Pfn(pfn));
            // They are the pager's: the file has them. One that was cut is found when a page is read.
            let _ = self.bytes.clear(pfn);
            self.frames.donate(Pfn(pfn), pool, vm);
            self.given.insert(pfn);
        }
        Ok(())
    }

    /// The first frame given as a table that the pager has written to since.
    ///
    /// # Errors
    /// A file that was cut.
    pub fn touched(&self) -> anyhow::Result<Option<u64>> {
        for pfn in &self.given {
            if self.bytes.read(*pfn)?.iter().any(|byte| *byte != 0) {
                return Ok(Some(*pfn));
            }
        }
        Ok(None)
    }
}
