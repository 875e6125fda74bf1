//! The most frames that were in use at one time: they only become fewer when one comes back, so it is looked at then.

use super::Pool;

impl Pool {
    /// Before a frame comes back.
    pub(super) fn note_peak(&mut self) {
        self.peak = self.peak();
    }

    /// The most frames that were out of the pool so far.
    #[must_use]
    pub fn peak(&self) -> u64 {
        // While a region is cut, some of it is counted twice.
        self.peak.max(u64::from(self.total).saturating_sub(self.left()))
    }
}
