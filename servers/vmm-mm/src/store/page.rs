//! What the store knows of a page, in the 32 bits of a leaf node's entry.

use crate::pool::Frame;

/// One page of a slot: its frame, if it has one, and what must be remembered of it.
///
/// | bits | what |
/// | --- | --- |
/// | 25:0 | the frame's index plus one, 0 for none: 256 GiB of frames at most; or where its compressed content begins |
/// | 27:26 | whose the frame is: 0 the page's own, 1 of several pages, 2 none, and the content is in the compressed store, 3 the page's own, and what it holds does not become smaller |
/// | 28 | in the first entry of a block: the block's pages have entries of their own |
/// | 29 | in the first entry of a block: the block is one large page, and its other entries are empty |
/// | 30 | writes are not the guest's own (page track) |
/// | 31 | written since the dirty log was last read; of a large page, in its first entry: used since it was last told of |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page(pub(super) u32);

/// The bits of the frame.
pub(super) const INDEX: u32 = (1 << 26) - 1;
/// Whose the frame is.
const KIND: u32 = 3 << 26;
const SHARED: u32 = 1 << 26;
const PACKED: u32 = 2 << 26;
pub(super) const STIFF: u32 = 3 << 26;
/// The block has entries of its own.
pub(super) const SMALL: u32 = 1 << 28;
/// The block is one large page.
pub(super) const LARGE: u32 = 1 << 29;
const TRACKED: u32 = 1 << 30;
const DIRTY: u32 = 1 << 31;

/// Of a large page: used since it was last told of. It is never noted as written.
pub(super) const USED: u32 = DIRTY;

/// Most frames that entries can name.
pub const MAX_FRAMES: u32 = INDEX - 1;

/// Where a page's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nowhere: it is what the slot says of a page that was never touched.
    Nothing,
    /// In a frame that no other page has, by its index; of a large page too.
    Own(u32),
    /// In a frame that other pages may have too: it must not be written.
    Shared(u32),
    /// In the compressed store, from that place on.
    Packed(u32),
}

impl Content {
    /// What stands for it in an entry. Frames and places are below [`MAX_FRAMES`].
    pub(super) const fn bits(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Own(frame) => frame + 1,
            Self::Shared(frame) => SHARED | (frame + 1),
            Self::Packed(place) => PACKED | (place + 1),
        }
    }
}

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

    /// The index of its frame among the pager's, whether it has it alone or not.
    #[inline]
    #[must_use]
    pub const fn frame(self) -> Option<u32> {
        if self.0 & KIND == PACKED { None } else { (self.0 & INDEX).checked_sub(1) }
    }

    /// Where its content is.
    #[must_use]
    pub const fn content(self) -> Content {
        match (self.0 & KIND, (self.0 & INDEX).checked_sub(1)) {
            (_, None) => Content::Nothing,
            (0 | STIFF, Some(frame)) => Content::Own(frame),
            (SHARED, Some(frame)) => Content::Shared(frame),
            (_, Some(place)) => Content::Packed(place),
        }
    }

    /// Whether other pages may have its frame too.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        self.0 & KIND == SHARED
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

    /// Whether the frame is its own, and what it holds did not become smaller when that was tried: it has not been written since.
    #[must_use]
    pub const fn is_stiff(self) -> bool {
        self.0 & KIND == STIFF
    }

    pub(super) const fn owned(self) -> Option<Frame> {
        if matches!(self.0 & KIND, 0 | STIFF) { Frame::from_entry(self.0 & INDEX) } else { None }
    }

    /// The same page with its content elsewhere; notes and marks stay.
    pub(super) const fn with(self, content: Content) -> Self {
        Self(self.0 & !(INDEX | KIND) | content.bits())
    }

    /// Whether it has a frame or a note: more than the marks of its block.
    pub(super) const fn is_known(self) -> bool {
        self.0 & !SMALL != 0
    }
}
