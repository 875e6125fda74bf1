//! Memory slots: which guest-physical ranges of a VM are memory, and how they behave.
//!
//! Two address spaces, each a list sorted by gfn with an index and with the last hit remembered, as KVM's
//! `kvm_memslots`. A change is asked with [`MemSlots::create`], [`MemSlots::check_move`] and the like: each checks
//! everything before it changes anything.

mod hot;
mod restore;
mod sorted;

use crate::keep::Cell;
use crate::level::BLOCK;
use crate::store::{Block, Tree};
use hot::HOT;
use ipc_proto::grant::{Gfn, Rights, SeenBy};
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, Space};
use sorted::Sorted;

/// Most slots in one address space of one VM.
pub const MAX_SLOTS: usize = 512;

/// The flags that this pager has.
pub const KNOWN_FLAGS: SlotFlags = SlotFlags::READONLY.union(SlotFlags::LOG_DIRTY_PAGES).union(SlotFlags::PRIVATE);

/// A slot and the memory behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct MemSlot {
    base: u64,
    pages: u64,
    flags: SlotFlags,
    id: SlotId,
    state: State,
    /// The boot module whose content it has, if any.
    image: Option<u8>,
    /// Nothing is special about it: what the first touch of a page asks.
    plain: bool,
    /// Where it is kept.
    pub(crate) cell: Cell,
    /// Frames that were promised to it.
    pub(crate) promised: u64,
    /// The frames of its pages, by offset in the slot.
    pub tree: Tree,
}

/// Whether faults in a slot can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They can.
    Valid,
    /// It is being deleted, moved or changed (KVM's `KVM_MEMSLOT_INVALID`): a fault is to be tried again.
    Invalid,
}

impl MemSlot {
    fn new(slot: &Slot) -> Self {
        Self {
            base: slot.base.0,
            pages: slot.pages,
            flags: slot.flags,
            id: slot.id,
            state: State::Valid,
            image: None,
            plain: slot.flags.is_empty(),
            cell: Cell::NONE,
            promised: 0,
            tree: Tree::new(slot.base.0, slot.pages),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> SlotId {
        self.id
    }

    /// Its first gfn.
    #[must_use]
    pub const fn base(&self) -> Gfn {
        Gfn(self.base)
    }

    /// Its length in pages.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Its flags.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> SlotFlags {
        self.flags
    }

    /// Whether faults in it can be answered.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The offset of `gfn` in the slot, in pages.
    #[inline]
    #[must_use]
    pub const fn offset(&self, gfn: Gfn) -> u64 {
        gfn.0.wrapping_sub(self.base)
    }

    /// What the guest may do with its pages.
    #[inline]
    #[must_use]
    pub const fn rights(&self) -> Rights {
        rights(self.flags)
    }

    /// Who sees its pages.
    #[must_use]
    pub const fn seen_by(&self) -> SeenBy {
        if self.flags.contains(SlotFlags::PRIVATE) { SeenBy::Guest } else { SeenBy::Everyone }
    }

    /// Whether the first touch of a page needs no further thought: nothing is special about the slot.
    #[inline]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// The boot module whose content it has, if any.
    #[must_use]
    pub const fn image(&self) -> Option<u8> {
        self.image
    }

    /// Its pages have the content of a boot module until they are written. None may have been touched.
    pub const fn set_image(&mut self, image: u8) {
        self.image = Some(image);
        self.plain = false;
    }

    const fn settle(&mut self) {
        self.plain = self.flags.is_empty() && matches!(self.state, State::Valid) && self.image.is_none();
    }

    /// Whether it holds `gfn`.
    #[inline]
    #[must_use]
    pub const fn holds(&self, gfn: Gfn) -> bool {
        self.offset(gfn) < self.pages
    }

    /// Whether it holds `pages` pages from `first` on.
    #[must_use]
    pub const fn holds_run(&self, first: Gfn, pages: u64) -> bool {
        first.0 >= self.base && self.offset(first) < self.pages && self.pages - self.offset(first) >= pages
    }

    /// Whether it holds the whole 2 MiB block that begins at `first`, and lies in guest memory as in its tree (KVM:
    /// the guest's and the host's address are congruent).
    #[must_use]
    pub const fn holds_block(&self, first: Gfn) -> bool {
        self.holds_run(first, BLOCK) && self.is_congruent() && self.image.is_none()
    }

    /// Whether its blocks in guest memory are those of its tree.
    #[inline]
    #[must_use]
    pub const fn is_congruent(&self) -> bool {
        self.base % BLOCK == self.tree.skew()
    }

    /// Whether `pages` pages from `base` share one with it. Neither range wraps.
    const fn overlaps(&self, base: Gfn, pages: u64) -> bool {
        self.base < base.0 + pages && base.0 < self.base + self.pages
    }
}

/// What the guest may do with the pages of a slot with these flags.
#[inline]
#[must_use]
pub const fn rights(flags: SlotFlags) -> Rights {
    if flags.contains(SlotFlags::READONLY) { Rights::READ.union(Rights::EXECUTE) } else { Rights::all() }
}

/// The slots of one VM.
pub struct MemSlots {
    spaces: [Sorted; 2],
    /// Blocks of plain slots in the normal space, each at the place that its number says. Forgotten with every change of
    /// a slot.
    hot: [Block; HOT],
    /// Whether there is one.
    warm: bool,
    /// One more than the last gfn that EPT can map.
    limit: u64,
    /// Advances with every change (KVM's memslot generation).
    generation: u64,
}

impl MemSlots {
    /// No slots, and no address that one could have.
    #[must_use]
    pub const fn empty() -> Self {
        Self { spaces: [Sorted::EMPTY, Sorted::EMPTY], hot: [Block::NONE; HOT], warm: false, limit: 0, generation: 0 }
    }

    /// Allows guest-physical addresses of that many bits.
    pub fn open(&mut self, guest_physical_bits: u8) {
        self.limit = 1 << guest_physical_bits.clamp(12, 52).saturating_sub(12);
    }

    /// Whether there can be slots: [`Self::open`] was called.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.limit != 0
    }

    /// Advances with every change of a slot.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How many slots there are, in both address spaces.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spaces.iter().map(Sorted::len).sum()
    }

    /// The slots of an address space, by gfn.
    pub fn iter(&self, space: Space) -> impl Iterator<Item = &MemSlot> {
        self.space(space).iter()
    }

    /// The slot that holds `gfn`: the last hit, else by index and binary search.
    #[inline]
    pub fn lookup(&mut self, space: Space, gfn: Gfn) -> Option<&mut MemSlot> {
        self.space_mut(space).lookup(gfn)
    }

    /// A slot is changed.
    const fn changed(&mut self) {
        self.forget_blocks();
        self.generation += 1;
    }

    /// The slot of that number.
    ///
    /// # Errors
    /// `NoSuchSlot`.
    pub fn slot_mut(&mut self, space: Space, id: SlotId) -> Result<&mut MemSlot, SlotRefused> {
        // Whatever is done with it.
        self.forget_blocks();
        self.space_mut(space).slot_mut(id)
    }

    /// Whether `slot` may be created.
    ///
    /// # Errors
    /// `UnknownFlag`, `BadSize`, `BeyondGuest`, `Exists`, `Overlap`, `TooMany`.
    pub fn check_create(&self, slot: &Slot) -> Result<(), SlotRefused> {
        check_flags(slot.flags)?;
        self.check_range(slot.base, slot.pages)?;
        let space = self.space(slot.space);
        if space.iter().any(|other| other.id == slot.id) {
            return Err(SlotRefused::Exists);
        }
        space.check_overlap(slot.base, slot.pages, None)?;
        if space.is_full() { Err(SlotRefused::TooMany) } else { Ok(()) }
    }

    /// Creates the slot.
    ///
    /// # Errors
    /// As [`Self::check_create`]; nothing has changed then.
    pub fn create(&mut self, slot: &Slot) -> Result<(), SlotRefused> {
        self.check_create(slot)?;
        self.space_mut(slot.space).insert(MemSlot::new(slot))?;
        self.changed();
        Ok(())
    }

    /// Takes the slot away and hands over its memory.
    ///
    /// # Errors
    /// `NoSuchSlot`.
    pub fn remove(&mut self, space: Space, id: SlotId) -> Result<MemSlot, SlotRefused> {
        let slot = self.space_mut(space).remove(id)?;
        self.changed();
        Ok(slot)
    }

    /// Whether the slot may be moved to `base`.
    ///
    /// # Errors
    /// `NoSuchSlot`, `BeyondGuest`, `Overlap`.
    pub fn check_move(&self, space: Space, id: SlotId, base: Gfn) -> Result<(), SlotRefused> {
        let space = self.space(space);
        let pages = space.iter().find(|slot| slot.id == id).ok_or(SlotRefused::NoSuchSlot)?.pages;
        self.check_range(base, pages)?;
        space.check_overlap(base, pages, Some(id))
    }

    /// Moves the slot; its memory goes with it.
    ///
    /// # Errors
    /// As [`Self::check_move`]; nothing has changed then.
    pub fn relocate(&mut self, space: Space, id: SlotId, base: Gfn) -> Result<(), SlotRefused> {
        self.check_move(space, id, base)?;
        let space = self.space_mut(space);
        let mut slot = space.remove(id)?;
        slot.base = base.0;
        space.insert(slot)?;
        self.changed();
        Ok(())
    }

    /// Gives the slot other flags.
    ///
    /// # Errors
    /// `UnknownFlag`, `NoSuchSlot`; nothing has changed then.
    pub fn set_flags(&mut self, space: Space, id: SlotId, flags: SlotFlags) -> Result<(), SlotRefused> {
        check_flags(flags)?;
        let slot = self.slot_mut(space, id)?;
        slot.flags = flags;
        slot.settle();
        self.changed();
        Ok(())
    }

    /// Says whether faults in the slot can be answered.
    ///
    /// # Errors
    /// `NoSuchSlot`.
    pub fn set_state(&mut self, space: Space, id: SlotId, state: State) -> Result<(), SlotRefused> {
        let slot = self.slot_mut(space, id)?;
        slot.state = state;
        slot.settle();
        self.changed();
        Ok(())
    }

    fn check_range(&self, base: Gfn, pages: u64) -> Result<(), SlotRefused> {
        if pages == 0 || pages > self.limit {
            return Err(SlotRefused::BadSize);
        }
        match base.0.checked_add(pages) {
            Some(end) if end <= self.limit => Ok(()),
            Some(_) | None => Err(SlotRefused::BeyondGuest),
        }
    }

    const fn space(&self, space: Space) -> &Sorted {
        match space {
            Space::Normal => &self.spaces[0],
            Space::Smm => &self.spaces[1],
        }
    }

    #[inline]
    const fn space_mut(&mut self, space: Space) -> &mut Sorted {
        match space {
            Space::Normal => &mut self.spaces[0],
            Space::Smm => &mut self.spaces[1],
        }
    }
}

/// Whether this pager has these flags.
///
/// # Errors
/// `UnknownFlag`.
pub fn check_flags(flags: SlotFlags) -> Result<(), SlotRefused> {
    if KNOWN_FLAGS.contains(flags) { Ok(()) } else { Err(SlotRefused::UnknownFlag) }
}

#[cfg(test)]
mod tests;
