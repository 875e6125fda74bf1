//! Which frames are whose: what a task is told of its own.

use super::Found::{self, Mapped, Unmapped};
use super::{BLOCK, FrameTable, SEVERAL, VMS, free, free_block, try_fold};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::memop::OWNED;

/// The bits of a word that say what a frame is used for, and whose it is.
const WHOSE: u64 = 0xff0f;

impl FrameTable {
    /// The first run of frames from `from` on that `task` owns and that are alike: where, how many, and how.
    pub fn owned(&self, task: u8, from: u64) -> Option<(u64, u64, Found)> {
        let (mut first, mut run) = (from, self.alike(task, from)?);
        while run.0.is_none() {
            first += run.1;
            run = self.alike(task, first)?;
        }
        let (found, mut count) = run;
        // Within a block the next frame is another kind of frame.
        while (first + count).is_multiple_of(BLOCK as u64)
            && count < OWNED
            && let Some((_, more)) = self.alike(task, first + count).filter(|next| next.0 == found)
        {
            count += more;
        }
        Some((first, count.min(OWNED), found?))
    }

    /// How `task` has frame `pfn`, `None` when it is not its own, and how many of its block from it on are alike.
    fn alike(&self, task: u8, pfn: u64) -> Option<(Option<Found>, u64)> {
        let (block, pfn) = (pfn as usize / BLOCK, pfn as usize);
        let whole = self.blocks.get(block)?.load(Relaxed);
        let words = self.frames.get(pfn..self.frames.len().min((block + 1) * BLOCK))?;
        let of =
            |word| ((word ^ free(task)) & WHOSE == 0).then_some(if word == free(task) { Unmapped } else { Mapped });
        let (usual, large) = (words.first()?.load(Relaxed), whole & VMS != 0);
        let first = of(usual);
        // What is mapped as one is one task's; the rest is free as a whole, or another's.
        let all = large || whole == free_block(task) || (whole & SEVERAL == 0 && of(whole).is_none());
        // Most words of a run are equal.
        let like = |word: u64| word == usual || of(word) == first;
        let same = |count, word: &AtomicU64| if like(word.load(Relaxed)) { Ok(count + 1) } else { Err(count) };
        let (Ok(alike) | Err(alike)) = if all { Ok(words.len() as u64) } else { try_fold(words, 0, same) };
        Some((if large { first.map(|_| Mapped) } else { first }, alike))
    }
}
