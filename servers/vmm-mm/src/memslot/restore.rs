//! What becomes of a slot beside its changes: rights of its pages, and what another incarnation has made.

use super::{MemSlot, MemSlots};
use crate::keep::Kept;
use crate::store::{Note, Page, Tree};
use ipc_proto::grant::Rights;

impl MemSlot {
    /// What the guest may do with one of its small pages: no writes where they are not its own, or the frame is not, or where
    /// one makes it worth a try again to pack the page.
    #[must_use]
    pub const fn page_rights(&self, page: Page) -> Rights {
        if page.has(Note::Tracked) || page.is_shared() || page.is_stiff() {
            self.rights().difference(Rights::WRITE)
        } else {
            self.rights()
        }
    }

    /// It is what was kept of it.
    pub(crate) const fn restore(&mut self, kept: &Kept) {
        let (root, skew) = kept.tree;
        self.tree = Tree::planted(root, skew, self.pages);
        self.image = kept.image;
        self.promised = kept.promised;
        self.cell = kept.cell();
        self.settle();
    }
}

impl MemSlots {
    /// Every slot, in both address spaces.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut MemSlot> {
        self.spaces.iter_mut().flat_map(super::sorted::Sorted::iter_mut)
    }
}
