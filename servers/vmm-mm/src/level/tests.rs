use super::{Frames, adjust, block, large_rights};
use crate::fault::PageFault;
use crate::memslot::MemSlots;
use crate::mtrr::Mtrrs;
use crate::testing::{READ, access, slot};
use ipc_proto::fault::Qualification;
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::slot::{SlotFlags, SlotId, Space};

struct Case {
    gfn: u64,
    qualification: Qualification,
    nx: bool,
    wanted: Level,
    base: u64,
    pages: u64,
    flags: SlotFlags,
    moved: Option<u64>,
    mtrrs: Mtrrs,
    frames: Frames,
}

/// Everything agrees.
const LARGE: Case = Case {
    gfn: 0x4ab,
    qualification: READ,
    nx: false,
    wanted: Level::Large,
    base: 0x100,
    pages: 0x700,
    flags: SlotFlags::empty(),
    moved: None,
    mtrrs: Mtrrs::OFF,
    frames: Frames::Empty,
};

fn levels(case: &Case) -> (Level, Level, Level) {
    let mut slots = MemSlots::empty();
    slots.open(40);
    slots.create(&slot(1, case.base, case.pages, case.flags)).expect("a good slot");
    if let Some(base) = case.moved {
        slots.relocate(Space::Normal, SlotId(1), Gfn(base)).expect("a free place");
    }
    let mut fault = PageFault::from_message(&access(case.gfn, case.qualification));
    fault.nx_huge_page_workaround = case.nx;
    let slot = slots.lookup(Space::Normal, Gfn(case.gfn)).expect("the slot");
    adjust(&mut fault, case.wanted, slot, &case.mtrrs, case.frames);
    (fault.max_level, fault.req_level, fault.goal_level)
}

const SMALL: (Level, Level, Level) = (Level::Large, Level::Page, Level::Page);
const AT_ONCE: (Level, Level, Level) = (Level::Page, Level::Page, Level::Page);

#[test]
fn where_everything_agrees_the_page_is_large() {
    assert_eq!(levels(&LARGE), (Level::Large, Level::Large, Level::Large));
    assert_eq!(levels(&Case { frames: Frames::Large, ..LARGE }).2, Level::Large);
    assert_eq!(levels(&Case { wanted: Level::Huge, ..LARGE }).2, Level::Large, "never a gigabyte");
    assert_eq!(block(Gfn(0x4ab)), Gfn(0x400));
}

#[test]
fn each_one_that_disagrees_makes_it_small() {
    assert_eq!(levels(&Case { wanted: Level::Page, ..LARGE }), AT_ONCE);
    assert_eq!(levels(&Case { gfn: 0x1ab, ..LARGE }), SMALL, "the slot begins inside of the block");
    assert_eq!(levels(&Case { pages: 0x4ff, ..LARGE }), SMALL, "the slot ends inside of the block");
    assert_eq!(levels(&Case { pages: 0x500, ..LARGE }).2, Level::Large, "the slot ends with the block");
    assert_eq!(levels(&Case { frames: Frames::Small, ..LARGE }), SMALL);
    assert_eq!(levels(&Case { flags: SlotFlags::LOG_DIRTY_PAGES, ..LARGE }), SMALL);
    assert_eq!(levels(&Case { flags: SlotFlags::READONLY, ..LARGE }).2, Level::Large);
    assert_eq!(levels(&Case { moved: Some(0x101), ..LARGE }), SMALL, "gfn and pfn are no longer congruent");
    assert_eq!(levels(&Case { moved: Some(0x300), ..LARGE }).2, Level::Large, "moved by whole blocks");
    let mut mtrrs = Mtrrs::OFF;
    for (register, value) in [(0x200, 0x40_0000), (0x201, !0xfff & 0xf_ffff_ffff | 1 << 11), (0x2ff, 6 | 1 << 11)] {
        mtrrs.write(register, value).expect("a register");
    }
    assert_eq!(levels(&Case { mtrrs, ..LARGE }), AT_ONCE, "one page of the block is uncached");
}

#[test]
fn with_the_workaround_a_fetch_is_small_and_the_rest_cannot_be_fetched() {
    let fetch = Case { qualification: Qualification::FETCH, nx: true, ..LARGE };
    assert_eq!(levels(&fetch), (Level::Large, Level::Large, Level::Page));
    assert_eq!(levels(&Case { nx: true, ..LARGE }).2, Level::Large);
    assert_eq!(levels(&Case { qualification: Qualification::FETCH, ..LARGE }).2, Level::Large);
    let mut fault = PageFault::from_message(&access(0, READ));
    assert_eq!(large_rights(&fault, Rights::all()), Rights::all());
    fault.nx_huge_page_workaround = true;
    assert_eq!(large_rights(&fault, Rights::all()), Rights::READ | Rights::WRITE);
    assert_eq!(large_rights(&fault, Rights::READ | Rights::EXECUTE), Rights::READ, "nothing is added");
}
