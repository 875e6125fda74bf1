//! From a gfn to its frame: KVM's `kvm_faultin_pfn`.
//!
//! [`faultin`] is the usual case, a page that was never touched and is filled with zeros. Everything else that can be
//! behind a page comes after it, in [`Mmu::faultin`]: a frame that several pages have, a boot module, the compressed
//! store. One word of the slot's tree says which it is.

use crate::fault::PageFault;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::policy::ZeroPages;
use crate::pool::{Frame, Pool};
use crate::store::{Backed, Content, OutOfFrames, Page};
use crate::tdp::Mmu;
use ipc_proto::grant::Grant;
use ipc_proto::refused::DenyReason;

/// What a page is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// To be read or fetched from.
    Read,
    /// To be written.
    Write,
}

impl Tried {
    /// Of the fault.
    #[must_use]
    pub const fn of(fault: &PageFault) -> Self {
        if fault.write() { Self::Write } else { Self::Read }
    }
}

/// The frame behind the fault's page. A page that was never touched gets one of zeros; a page that was keeps its own.
///
/// # Errors
/// [`OutOfFrames`].
#[inline]
pub fn faultin(
    fault: &PageFault,
    slot: &mut MemSlot,
    pool: &mut Pool,
    memory: &mut impl Memory,
) -> Result<Backed, OutOfFrames> {
    let offset = slot.offset(fault.gfn());
    slot.tree.find_or_take(offset, pool, memory)
}

impl<M: Memory + Kernel> Mmu<'_, M> {
    /// The page of the fault with a frame that serves the access, wherever its content is. `leaf` is what is mapped.
    ///
    /// # Errors
    /// `OutOfMemory` without a frame: nothing has changed then. `Internal` when the content cannot be had.
    pub fn faultin(
        &mut self,
        fault: &mut PageFault,
        slot: &mut MemSlot,
        leaf: Option<&Grant>,
        zero: ZeroPages,
    ) -> Result<Page, DenyReason> {
        let offset = slot.offset(fault.gfn());
        let page = slot.tree.page(offset, self.machine);
        let done = match (page.content(), slot.image()) {
            (Content::Own(frame), _) if fault.write() && page.is_stiff() => {
                // It will hold something else, which may become smaller.
                slot.tree.set(offset, Content::Own(frame), self.machine);
                Ok(())
            }
            (Content::Own(_), _) => return Ok(page),
            (Content::Shared(_), _) if !fault.write() => return Ok(page),
            (Content::Shared(shared), _) => {
                if leaf.is_some() {
                    // Nobody may go on reading the old frame, which may become another page's own.
                    self.unmap_small(fault)?;
                }
                self.break_share(slot, offset, shared)
            }
            (Content::Packed(place), _) => return self.unpack(slot, offset, place),
            (Content::Nothing, Some(image)) => self.fill_from_image(slot, offset, image, Tried::of(fault)),
            (Content::Nothing, None) => {
                let shared = zero == ZeroPages::Shared && !fault.write();
                if shared && self.share_zero(slot, offset).is_ok() {
                    return Ok(slot.tree.page(offset, self.machine));
                }
                let done = slot.tree.back(offset, self.pool, self.machine);
                self.counts.pages_filled += u64::from(done.is_ok());
                done.map(|_| ())
            }
        };
        done.map_err(|OutOfFrames| DenyReason::OutOfMemory)?;
        Ok(slot.tree.page(offset, self.machine))
    }

    /// Brings the page back from the compressed store.
    fn unpack(&mut self, slot: &mut MemSlot, offset: u64, place: u32) -> Result<Page, DenyReason> {
        let Self { vm, pool, backing, machine, .. } = self;
        let frame = pool.take_any(*machine).ok_or(DenyReason::OutOfMemory)?;
        let bytes = backing.vms[*vm].zstore.get(place, backing.compressor.bytes(), *machine);
        if bytes.and_then(|len| backing.compressor.unpack(len, frame.index(), *machine)).is_err() {
            pool.release(frame, *machine);
            log::error!("vm {vm}: the stored content of gfn {:#x} is damaged", slot.base().0 + offset);
            return Err(DenyReason::Internal);
        }
        // The frame is the page's before the stored content goes.
        slot.tree.set(offset, Content::Own(Frame::into_index(frame)), *machine);
        backing.vms[*vm].zstore.remove(place, pool, *machine);
        backing.vms[*vm].counts.decompressions += 1;
        Ok(slot.tree.page(offset, *machine))
    }

    /// Takes the small page of the fault away. That advances the sequence number: the fault's grants are worked out
    /// under the new one.
    fn unmap_small(&mut self, fault: &mut PageFault) -> Result<(), DenyReason> {
        self.machine.unmap(self.vm, fault.gfn(), 1).map_err(|refused| {
            log::error!("the shared page at gfn {:#x} cannot be unmapped: {refused}", fault.gfn().0);
            DenyReason::Internal
        })?;
        fault.mmu_seq = self.machine.mmu_seq(self.vm).ok_or(DenyReason::Internal)?;
        Ok(())
    }
}
