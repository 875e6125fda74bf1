//! The slots of one address space, sorted by gfn, and how the one that holds a gfn is found.
//!
//! Guest-physical memory up to the last slot's end is cut into equal *buckets*, the more the more slots there are. The
//! index says for each which slot can hold its first gfn and how many more begin in it: mostly none or one, so that the
//! slot is known at once however many there are. Where many slots crowd into one bucket, all are searched, in nine steps.
//! The first gfns of the slots lie together, for the search to touch little memory.

use super::{MAX_SLOTS, MemSlot};
use crate::store::Block;
use heapless::Vec;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{SlotId, SlotRefused};

/// Buckets for each slot, if they make a power of two.
const FOR_EACH: usize = 8;
/// Most buckets of an index.
const BUCKETS: usize = FOR_EACH * MAX_SLOTS;

/// The slots of one address space.
pub(super) struct Sorted {
    slots: Vec<MemSlot, MAX_SLOTS>,
    last_hit: Hit,
    /// log2 of the gfns in a bucket.
    shift: u32,
    /// Of these, as many as the slots want are in use. What others say is of earlier slots: it is no more than a place.
    index: [Bucket; BUCKETS],
    /// The first gfn of each slot, in their order, and `u64::MAX` behind the last.
    bases: [u64; MAX_SLOTS],
    /// The block of each slot that was found last, and [`Block::NONE`] behind the last slot.
    pub blocks: [Block; MAX_SLOTS],
}

/// Where the last gfn was found.
#[derive(Clone, Copy)]
struct Hit {
    base: u64,
    /// 0 when it was found nowhere, or something has changed since.
    pages: u64,
    place: usize,
}

impl Hit {
    const NONE: Self = Self { base: 0, pages: 0, place: 0 };
}

/// Where the search for a gfn begins.
#[derive(Clone, Copy)]
struct Bucket {
    /// The last slot that begins before the bucket or with it; the first slot when there is none.
    slot: u16,
    /// How many slots behind that begin in the bucket.
    more: u16,
}

impl Sorted {
    /// None.
    pub const EMPTY: Self = Self {
        slots: Vec::new(),
        last_hit: Hit::NONE,
        shift: 0,
        index: [Bucket { slot: 0, more: 0 }; BUCKETS],
        bases: [u64::MAX; MAX_SLOTS],
        blocks: [Block::NONE; MAX_SLOTS],
    };

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no room for one more.
    pub fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    /// By gfn.
    pub fn iter(&self) -> impl Iterator<Item = &MemSlot> {
        self.slots.iter()
    }

    /// The same, to be changed; where they lie stays. Their blocks are forgotten.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut MemSlot> {
        let blocks = self.blocks.iter_mut().take(self.slots.len());
        blocks.for_each(|block| *block = Block::NONE);
        self.slots.iter_mut()
    }

    /// The slot of that number. Its block is forgotten, whatever is done with it.
    pub fn slot_mut(&mut self, id: SlotId) -> Result<&mut MemSlot, SlotRefused> {
        let found = self.slots.iter_mut().zip(&mut self.blocks).find(|(slot, _)| slot.id == id);
        let (slot, block) = found.ok_or(SlotRefused::NoSuchSlot)?;
        *block = Block::NONE;
        Ok(slot)
    }

    /// The slot that holds `gfn`.
    #[inline(always)]
    pub fn lookup(&mut self, gfn: Gfn) -> Option<&mut MemSlot> {
        let Hit { base, pages, place } = self.last_hit;
        if gfn.0.wrapping_sub(base) < pages {
            return self.slots.get_mut(place);
        }
        let place = self.search(gfn);
        let slot = self.slots.get_mut(place).filter(|slot| slot.holds(gfn))?;
        self.last_hit = Hit { base: slot.base, pages: slot.pages, place };
        Some(slot)
    }

    /// The slot at a place.
    pub fn at(&mut self, place: usize) -> Option<&mut MemSlot> {
        self.slots.get_mut(place)
    }

    /// The place of the only slot that can hold `gfn`.
    #[inline(always)]
    pub fn search(&self, gfn: Gfn) -> usize {
        let bucket = usize::try_from(gfn.0 >> self.shift).ok().and_then(|bucket| self.index.get(bucket));
        // Behind the last slot: the first one does not hold it either.
        let Some(Bucket { slot, more }) = bucket else { return 0 };
        let place = usize::from(*slot);
        match more {
            0 => place,
            1 => place + usize::from(self.bases[(place + 1) % MAX_SLOTS] <= gfn.0),
            2.. => self.search_all(gfn),
        }
    }

    /// The last slot that begins before `gfn` or with it; the first when there is none.
    #[inline]
    fn search_all(&self, gfn: Gfn) -> usize {
        let (mut place, mut step) = (0, MAX_SLOTS / 2);
        while step > 0 {
            place = if self.bases[place | step] <= gfn.0 { place | step } else { place };
            step /= 2;
        }
        place
    }

    /// Whether the range shares a page with a slot other than `but`. Only the neighbours of the place that the range
    /// would have can, but every slot is looked at: changes are rare, and the plain way is plainly right.
    pub fn check_overlap(&self, base: Gfn, pages: u64, but: Option<SlotId>) -> Result<(), SlotRefused> {
        match self.slots.iter().find(|slot| Some(slot.id) != but && slot.overlaps(base, pages)) {
            Some(other) => Err(SlotRefused::Overlap(other.id)),
            None => Ok(()),
        }
    }

    /// Puts a slot into its place.
    pub fn insert(&mut self, slot: MemSlot) -> Result<(), SlotRefused> {
        self.put(slot)?;
        self.renew();
        Ok(())
    }

    /// The same, and none is found until [`Self::renew`] is called.
    pub fn put(&mut self, slot: MemSlot) -> Result<(), SlotRefused> {
        let place = self.slots.partition_point(|other| other.base < slot.base);
        self.slots.insert(place, slot).map_err(|_| SlotRefused::TooMany)
    }

    /// Takes the slot of that number out.
    pub fn remove(&mut self, id: SlotId) -> Result<MemSlot, SlotRefused> {
        let place = self.slots.iter().position(|slot| slot.id == id).ok_or(SlotRefused::NoSuchSlot)?;
        let slot = self.slots.remove(place);
        self.renew();
        Ok(slot)
    }

    /// Makes bases and index anew. Of the arrays, only what slots have or had is written: each page of them that a life of the
    /// pager has written is made anew at the start of the next, while the guest waits.
    pub fn renew(&mut self) {
        self.last_hit = Hit::NONE;
        // There is one slot more, or less, than before.
        let bases = self.slots.iter().map(|slot| slot.base).chain([u64::MAX]);
        for ((block, place), base) in self.blocks.iter_mut().zip(&mut self.bases).zip(bases) {
            (*block, *place) = (Block::NONE, base);
        }
        let last = self.slots.last().map_or(0, |slot| slot.base + slot.pages - 1);
        let buckets = (FOR_EACH * self.slots.len()).next_power_of_two().min(BUCKETS);
        self.shift = (u64::BITS - last.leading_zeros()).saturating_sub(buckets.ilog2());
        let mut begun = 0;
        for (number, bucket) in self.index.iter_mut().take(buckets).enumerate() {
            let first = (number as u64) << self.shift;
            let end = first + (1 << self.shift);
            let before = begun + self.slots.iter().skip(begun).take_while(|slot| slot.base <= first).count();
            begun = before + self.slots.iter().skip(before).take_while(|slot| slot.base < end).count();
            // There are at most `MAX_SLOTS`.
            let slot = before.saturating_sub(1);
            *bucket = Bucket { slot: slot as u16, more: begun.saturating_sub(slot + 1) as u16 };
        }
    }
}
