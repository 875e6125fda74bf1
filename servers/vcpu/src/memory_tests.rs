//! Where RAM is, for small and large machines.

use super::{ABOVE_4G, BIOS_SLOT, RamMap, RangeKind};
use ipc_proto::grant::Gfn;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn a_small_machine_has_three_slots_with_the_video_hole_between() {
    let slots = RamMap::new(512 * MIB).slots();
    let ranges: std::vec::Vec<_> = slots.iter().map(|slot| (slot.id.0, slot.base, slot.pages)).collect();
    assert_eq!(ranges, [(0, Gfn(0), 0xa0), (1, Gfn(0xc0), 0x40), (2, Gfn(0x100), 511 * 256)]);
    assert_eq!(BIOS_SLOT, slots[1].id);
}

#[test]
fn what_does_not_fit_below_3_gib_goes_above_4_gib() {
    let map = RamMap::new(5 * GIB);
    let slots = map.slots();
    assert_eq!((slots[2].base.0 + slots[2].pages, slots[3].base, slots[3].pages), (0xc_0000, Gfn(0x10_0000), 0x8_0000));
    assert_eq!((map.low_end(), map.end()), (3 * GIB, 6 * GIB));
    assert_eq!(RamMap::new(3 * GIB).slots().len(), 3);
    assert_eq!(RamMap::new(3 * GIB).end(), 3 * GIB);
}

#[test]
fn slots_and_reads_agree_on_every_boundary() {
    let map = RamMap::new(5 * GIB);
    let edges = [0, 0xa_0000, 0xc_0000, 0x10_0000, 3 * GIB, 4 * GIB, 6 * GIB];
    for gpa in edges.into_iter().flat_map(|edge: u64| [edge.saturating_sub(1), edge]) {
        let in_slot = map.slots().iter().any(|slot| (slot.base.0..slot.base.0 + slot.pages).contains(&(gpa >> 12)));
        assert_eq!(map.holds(gpa, 1), in_slot, "{gpa:#x}");
    }
}

#[test]
fn an_access_must_lie_wholly_in_memory() {
    let map = RamMap::new(4 * MIB);
    assert!(map.holds(0x9_fffc, 4) && !map.holds(0x9_fffd, 4));
    assert!(map.holds(4 * MIB - 8, 8) && !map.holds(4 * MIB - 7, 8));
    assert!(!map.holds(u64::MAX, 2) && !map.holds(0xb_fffc, 8));
    assert!(map.holds(0xf_fffc, 8), "the BIOS area and what is above it touch");
}

#[test]
fn the_bios_area_is_read_only() {
    let map = RamMap::new(4 * MIB);
    assert!(map.holds(0xe_0000, 4096) && !map.writable(0xe_0000, 1));
    assert!(!map.writable(0xf_fffc, 8) && map.writable(0x10_0000, 8));
}

#[test]
fn the_firmware_map_frees_ram_and_keeps_what_is_the_firmwares() {
    let map = RamMap::new(5 * GIB);
    let ranges: std::vec::Vec<_> =
        map.firmware_map().iter().map(|range| (range.start, range.end, range.kind)).collect();
    assert_eq!(
        ranges,
        [
            (0, 0x9_fc00, RangeKind::Ram),
            (0x9_fc00, 0xa_0000, RangeKind::Reserved),
            (0xc_0000, 0x10_0000, RangeKind::Reserved),
            (0x10_0000, 3 * GIB, RangeKind::Ram),
            (ABOVE_4G, 6 * GIB, RangeKind::Ram),
        ]
    );
}

#[test]
fn a_machine_without_memory_gets_the_least() {
    assert_eq!(RamMap::new(0).bytes(), 2 * MIB);
}
