//! Page track: pages whose writes are not the guest's own (KVM's `kvm_gfn_is_write_tracked`).

use crate::fault::PageFault;
use crate::store::{Note, Page};

/// Whether the access is a write to a tracked page. Asked before anything could give the page more rights.
#[must_use]
pub const fn forbids(fault: &PageFault, page: Page) -> bool {
    fault.write() && page.has(Note::Tracked)
}
