use super::*;
use crate::ept::Format;
use crate::frame::Run;
use crate::testing::{HostTables, frame_table};
use ipc_proto::grant::{MemType, Rights};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::vec::Vec;

const PAGER: u8 = 2;

/// VM 0 maps gfn 0x40 to frame 100; its tables are frames 0 (root) to 3.
struct Fixture {
    tables: HostTables,
    frames: FrameTable,
}

impl Fixture {
    fn new() -> Self {
        let frames = frame_table(256);
        (0..4).for_each(|pfn| frames.assign_root(Pfn(pfn), 0));
        (100..200).for_each(|pfn| frames.assign(Pfn(pfn), PAGER));
        frames.map(Run::small(Pfn(100), 1), 0);
        let tables = HostTables::new(4);
        for level in 0..3 {
            tables.table(Pfn(level))[0].store(EptFormat::table(Pfn(level + 1)), Relaxed);
        }
        let vm = Self { tables, frames };
        vm.set(0x40, 100);
        vm
    }

    fn set(&self, gfn: usize, pfn: u64) {
        let leaf = EptFormat::leaf(Pfn(pfn), 1, Rights::all(), MemType::WriteBack);
        self.tables.table(Pfn(3))[gfn].store(leaf, Relaxed);
    }

    fn prove(&self) -> Result<u64, Contradiction> {
        prove(&self.frames, [(0, Some(PAGER), Tree::new(Pfn(0), &self.tables))].into_iter())
    }
}

#[test]
fn an_ept_that_is_what_the_frame_table_says_is_proved() {
    assert_eq!(Fixture::new().prove(), Ok(1));
}

#[test]
fn a_mapping_behind_the_frame_table_is_found() {
    let vm = Fixture::new();
    vm.set(0x41, 101);
    assert_eq!(vm.prove(), Err(Contradiction::Elsewhere { vm: 0, pfn: Pfn(101) }));
}

#[test]
fn a_mapped_frame_of_the_kernel_is_found() {
    let vm = Fixture::new();
    vm.set(0x41, 2);
    let expected = Contradiction::Mapped { vm: 0, gfn: 0x41, pfn: Pfn(2), used: Use::Table };
    assert_eq!(vm.prove(), Err(expected));
}

#[test]
fn a_mapped_frame_of_another_task_is_found() {
    let vm = Fixture::new();
    vm.frames.assign(Pfn(150), 3);
    vm.set(0x41, 150);
    let expected = Contradiction::Mapped { vm: 0, gfn: 0x41, pfn: Pfn(150), used: Use::Owned };
    assert_eq!(vm.prove(), Err(expected));
}

#[test]
fn a_mapping_that_is_gone_from_the_ept_only_is_found() {
    let vm = Fixture::new();
    vm.tables.table(Pfn(3))[0x40].store(0, Relaxed);
    assert_eq!(vm.prove(), Err(Contradiction::Count { mapped: 0, counted: 1 }));
}

#[test]
fn a_frame_that_is_mapped_twice_but_counted_once_is_found() {
    let vm = Fixture::new();
    vm.set(0x41, 100);
    assert_eq!(vm.prove(), Err(Contradiction::Count { mapped: 2, counted: 1 }));
}

#[test]
fn a_table_in_a_frame_that_a_task_owns_is_found() {
    let vm = Fixture::new();
    vm.frames.assign(Pfn(3), PAGER);
    assert_eq!(vm.prove(), Err(Contradiction::Table { vm: 0, pfn: Pfn(3) }));
}

#[test]
fn a_block_that_counts_other_free_frames_than_there_are_is_found() {
    let words: Vec<AtomicU64> = (0..FrameTable::words(1024)).map(|_| AtomicU64::new(0)).collect();
    let words: &'static [AtomicU64] = Vec::leak(words);
    let frames = FrameTable::new(words);
    (512..1024).for_each(|pfn| frames.assign(Pfn(pfn), PAGER));
    let prove = || prove::<HostTables>(&frames, std::iter::empty());
    assert_eq!(prove(), Ok(0));
    // The words of the two blocks come first; as if a frame that is free were not.
    words[1].fetch_sub(1 << 24, Relaxed);
    assert_eq!(prove(), Err(Contradiction::Block { first: Pfn(512) }));
}
