//! What becomes of a slot beside its changes: rights of its pages, and what another incarnation has made.

use super::sorted::Sorted;
use super::{MemSlot, MemSlots};
use crate::keep::Kept;
use crate::store::{Note, Page, Tree};
use ipc_proto::grant::Rights;
use ipc_proto::slot::SlotRefused;

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

    /// As it was kept.
    fn kept(kept: &Kept) -> Self {
        let (root, skew) = kept.tree;
        let mut slot = Self::new(&kept.slot);
        slot.tree = Tree::planted(root, skew, slot.pages);
        slot.image = kept.image;
        slot.promised = kept.promised;
        slot.cell = kept.cell();
        slot.settle();
        slot
    }
}

impl MemSlots {
    /// A slot is as it was kept. Before anything is looked up [`Self::restored`] is called.
    ///
    /// # Errors
    /// As [`Self::check_create`].
    pub(crate) fn restore(&mut self, kept: &Kept) -> Result<(), SlotRefused> {
        self.check_create(&kept.slot)?;
        self.space_mut(kept.slot.space).put(MemSlot::kept(kept))
    }

    /// All slots are there that were kept.
    pub(crate) fn restored(&mut self) {
        self.spaces.iter_mut().filter(|space| space.len() != 0).for_each(Sorted::renew);
        self.changed();
    }

    /// Every slot, in both address spaces.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut MemSlot> {
        self.spaces.iter_mut().flat_map(Sorted::iter_mut)
    }
}
