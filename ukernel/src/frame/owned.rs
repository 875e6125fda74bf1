//! Which frames are whose: what a task is told of its own.

use super::{BLOCK, Found, FrameTable, free, free_block};
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::grant::Pfn;
use ipc_proto::memop::OWNED;

/// The bits of an entry that say what a frame is used for, and whose it is.
const WHOSE: u64 = 0xff0f;

impl FrameTable {
    /// The first run of frames from `from` on that `task` owns and that are alike: where, how many, and how.
    pub fn owned(&self, task: u8, from: u64) -> Option<(u64, u64, Found)> {
        let of = |pfn: u64| {
            let entry = self.entry(Pfn(pfn));
            let found = if entry.mappings() == 0 { Found::Unmapped } else { Found::Mapped };
            ((entry.0 ^ free(task)) & WHOSE == 0).then_some(found)
        };
        let rest = |pfn: u64| match self.slots(Pfn(pfn)) {
            // A whole block, of which every frame is the task's and free.
            Some((whole, _)) if pfn.is_multiple_of(512) && whole.load(Relaxed) == free_block(task) => BLOCK as u64,
            _ => 1,
        };
        let end = self.size();
        let first = (from..end).find(|pfn| of(*pfn).is_some())?;
        let (mut pfn, found, most) = (first, of(first)?, end.min(first + OWNED));
        while pfn < most && of(pfn) == Some(found) {
            pfn += rest(pfn);
        }
        Some((first, pfn - first, found))
    }
}
