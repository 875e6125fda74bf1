//! What the store knows of a page, in the 32 bits of a leaf node's entry.

use crate::pool::Frame;

/// One page of a slot: its frame, if it has one, and what must be remembered of it.
///
/// | bits | what |
/// | --- | --- |
/// | 27:0 | the frame's index plus one, 0 for none: 1 TiB of frames at most |
/// | 28 | in the first entry of a block: the block's pages have entries of their own |
/// | 29 | in the first entry of a block: the block is one large page, and its other entries are empty |
/// | 30 | writes are not the guest's own (page track) |
/// | 31 | written since the dirty log was last read |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page(pub(super) u32);

/// The bits of the frame.
pub(super) const INDEX: u32 = (1 << 28) - 1;
/// The block has entries of its own.
pub(super) const SMALL: u32 = 1 << 28;
/// The block is one large page.
pub(super) const LARGE: u32 = 1 << 29;
const TRACKED: u32 = 1 << 30;
const DIRTY: u32 = 1 << 31;

/// Most frames that entries can name.
pub const MAX_FRAMES: u32 = INDEX - 1;

/// What can be noted of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Written since the dirty log was last read.
    Dirty,
    /// Writes are not the guest's own.
    Tracked,
}

impl Note {
    pub(super) const fn bit(self) -> u32 {
        match self {
            Self::Dirty => DIRTY,
            Self::Tracked => TRACKED,
        }
    }
}

impl Page {
    /// Nothing is known of it.
    pub const NONE: Self = Self(0);

    /// The index of its frame among the pager's.
    #[inline]
    #[must_use]
    pub const fn frame(self) -> Option<u32> {
        (self.0 & INDEX).checked_sub(1)
    }

    /// Whether it is a part of a large page.
    #[must_use]
    pub const fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Whether that is noted of it.
    #[must_use]
    pub const fn has(self, note: Note) -> bool {
        self.0 & note.bit() != 0
    }

    pub(super) const fn owned(self) -> Option<Frame> {
        Frame::from_entry(self.0 & INDEX)
    }

    /// Whether it has a frame or a note: more than the marks of its block.
    pub(super) const fn is_known(self) -> bool {
        self.0 & !SMALL != 0
    }
}
