//! What slots have been promised.

use super::Pool;

impl Pool {
    /// Promises `frames` to a slot; false when that many are not to be had.
    #[must_use]
    pub fn promise(&mut self, frames: u64) -> bool {
        match self.promised.checked_add(frames) {
            Some(promised) if promised <= u64::from(self.total).saturating_sub(self.donated) => {
                self.promised = promised;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes back a promise of as many frames.
    pub fn unpromise(&mut self, frames: u64) {
        self.promised = self.promised.saturating_sub(frames);
    }
}
