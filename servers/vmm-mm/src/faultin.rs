//! From a gfn to its frame: KVM's `kvm_faultin_pfn`, for memory that is filled with zeros when it is first touched.

use crate::fault::PageFault;
use crate::machine::Memory;
use crate::memslot::MemSlot;
use crate::pool::Pool;
use crate::store::{Backed, OutOfFrames};

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
