//! Boot modules as the content of slots: pages are read from the module when they are touched.
//!
//! A page that is only read has a shared frame, the same in every slot of the VM with that module; the first write gives
//! it one of its own. The kernel does not let a module's own frames be mapped, so each page is read once.

use crate::faultin::Tried;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::pool::Frame;
use crate::store::{Content, OutOfFrames};
use crate::tdp::Mmu;
use heapless::Vec;
use ipc_proto::manifest::MAX_MODULES;
use ipc_proto::slot::SlotId;

/// Most slots that have a module.
const MOST: usize = 8;

/// Which slots have which module. All VMs of the pager have it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images(Vec<(SlotId, u8), MOST>);

impl Images {
    /// No slot has one.
    pub const NONE: Self = Self(Vec::new());

    /// Slots of that number, when they are created, have the content of boot module `image`, counted from 0 in the
    /// manifest's order. False when there cannot be such a module, the slot has one, or there are too many.
    #[must_use]
    pub fn set(&mut self, slot: SlotId, image: usize) -> bool {
        let image = u8::try_from(image).ok().filter(|image| usize::from(*image) < MAX_MODULES);
        self.of(slot).is_none() && image.is_some_and(|image| self.0.push((slot, image)).is_ok())
    }

    /// The module of slots of that number.
    #[must_use]
    pub fn of(&self, slot: SlotId) -> Option<u8> {
        self.0.iter().find(|(of, _)| *of == slot).map(|(_, image)| *image)
    }
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// Page `offset` of a slot with module `image` gets its content: in a frame of its own to be written, or shared.
    ///
    /// # Errors
    /// [`OutOfFrames`]; nothing has changed then, but for nodes of the tree.
    pub fn fill_from_image(
        &mut self,
        slot: &mut MemSlot,
        offset: u64,
        image: u8,
        tried: Tried,
    ) -> Result<(), OutOfFrames> {
        let Self { vm, pool, backing, machine, .. } = self;
        slot.tree.open(offset, pool, *machine)?;
        let pages = &mut backing.vms[*vm].images[usize::from(image) % MAX_MODULES];
        let key = u32::try_from(offset).ok();
        let cached = key.and_then(|key| pages.get(key, *machine).checked_sub(1));
        let Some(frame) = cached.filter(|_| tried == Tried::Read) else {
            let frame = pool.take_any(*machine).ok_or(OutOfFrames)?;
            if !machine.read_image(image, offset, frame.index()) {
                machine.clear(frame.index());
            }
            backing.vms[*vm].counts.image_reads += 1;
            let Some(key) = key.filter(|_| tried == Tried::Read) else {
                slot.tree.set(offset, Content::Own(frame.into_index()), *machine);
                return Ok(());
            };
            self.share_new(slot, (offset, image, key), frame);
            return Ok(());
        };
        backing.shares.join(frame, pool, *machine)?;
        slot.tree.set(offset, Content::Shared(frame), *machine);
        Ok(())
    }

    /// The frame, just read from the module, is for every page that only reads it; without room to note that, for this one.
    fn share_new(&mut self, slot: &mut MemSlot, (offset, image, key): (u64, u8, u32), frame: Frame) {
        let Self { vm, pool, backing, machine, .. } = self;
        let pages = &mut backing.vms[*vm].images[usize::from(image) % MAX_MODULES];
        let index = frame.index();
        let known = pages.set(key, index + 1, pool, *machine);
        let content = if known.and_then(|()| backing.shares.join(index, pool, *machine)).is_ok() {
            Content::Shared(index)
        } else {
            // Its entry may be there: then no frame is needed to empty it.
            let _ = pages.set(key, 0, pool, *machine);
            Content::Own(frame.into_index())
        };
        slot.tree.set(offset, content, *machine);
    }
}

#[cfg(test)]
mod tests;
