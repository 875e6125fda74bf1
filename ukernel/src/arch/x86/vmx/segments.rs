//! Guest state that comes in rows of the VMCS: segment registers and descriptor tables.

use super::guest::Vmcs;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::state::{Segment, VcpuState};
use x86::vmx::vmcs::guest;

/// Field numbers of a segment: selector, limit, access rights and base of ES; each further one is two higher.
const FIRST: [(u32, usize); 4] = [
    (guest::ES_SELECTOR, offset_of!(Segment, selector)),
    (guest::ES_LIMIT, offset_of!(Segment, limit)),
    (guest::ES_ACCESS_RIGHTS, offset_of!(Segment, access)),
    (guest::ES_BASE, offset_of!(Segment, base)),
];

/// The rows in the order of the VMCS, which is that of [`VcpuState`].
fn rows() -> impl Iterator<Item = (u32, usize)> {
    let first = offset_of!(VcpuState, es);
    (0..8).flat_map(move |row| {
        FIRST.iter().map(move |(field, offset)| (field + 2 * row, first + row as usize * size_of::<Segment>() + offset))
    })
}

/// Copies the eight segment registers into the state page.
pub(super) fn read(vmcs: &Vmcs, page: &[AtomicU64]) {
    rows().for_each(|(field, offset)| page[offset / 8].store(vmcs.read(field), Relaxed));
}

/// Takes the eight segment registers from the state page.
pub(super) fn write(vmcs: &Vmcs, page: &[AtomicU64]) {
    rows().for_each(|(field, offset)| vmcs.write_guest(field, page[offset / 8].load(Relaxed)));
}
