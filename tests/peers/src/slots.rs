//! The slot that holds an address: vmm-mm's `MemSlots::lookup` beside vm-memory's `find_region`.

use crate::repeat;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, Space};
use std::time::Duration;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_mm::memslot::MemSlots;

/// Pages of a slot.
const PAGES: u64 = 4;
/// Pages from the beginning of one slot to that of the next: there are holes.
const STRIDE: u64 = 8;

/// In which order slots are asked for.
#[derive(Clone, Copy)]
pub enum Order {
    /// The same slot again and again, as faults come in fact.
    Repeated,
    /// Any slot, by a linear congruential generator.
    Random,
}

/// The gfns that are looked up: a power of two, so that the loop takes them without a division.
fn gfns(slots: u64, order: Order) -> [u64; 1024] {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    core::array::from_fn(|_| match order {
        Order::Repeated => (slots / 2) * STRIDE + 1,
        Order::Random => {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % slots * STRIDE + (seed >> 20) % PAGES
        }
    })
}

/// The loop and where it takes its addresses from.
pub fn nothing(times: usize) -> Duration {
    let gfns = gfns(32, Order::Random);
    repeat(times, |n| gfns[n % 1024])
}

/// Ours.
pub fn ours(count: u16, order: Order, times: usize) -> Duration {
    let mut slots = Box::new(MemSlots::empty());
    slots.open(48);
    for n in 0..count {
        let base = Gfn(u64::from(n) * STRIDE);
        let slot = Slot { id: SlotId(n), space: Space::Normal, base, pages: PAGES, flags: SlotFlags::empty() };
        assert_eq!(slots.create(&slot), Ok(()));
    }
    let gfns = gfns(u64::from(count), order);
    repeat(times, |n| {
        let slot = slots.lookup(Space::Normal, Gfn(gfns[n % 1024]));
        slot.map(std::ptr::from_mut)
    })
}

/// vm-memory's.
pub fn peer(count: u16, order: Order, times: usize) -> Duration {
    let ranges: Vec<_> =
        (0..u64::from(count)).map(|n| (GuestAddress((n * STRIDE) << 12), (PAGES << 12) as usize)).collect();
    let memory: GuestMemoryMmap<()> = GuestMemoryMmap::from_ranges(&ranges).expect("a few megabytes");
    let gfns = gfns(u64::from(count), order);
    repeat(times, |n| memory.find_region(GuestAddress(gfns[n % 1024] << 12)).map(std::ptr::from_ref))
}
