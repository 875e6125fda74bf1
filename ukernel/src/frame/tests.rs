use super::*;
use crate::testing::frame_table as table;
use proptest::prelude::*;
use std::vec::Vec;

const BY: Granter = Granter { task: 2, vm: 0 };

#[test]
fn a_task_grants_only_ram_that_it_owns() {
    let frames = table(16);
    frames.assign(Pfn(4), 2);
    frames.assign(Pfn(5), 3);
    frames.found(Pfn(6), Use::Module);
    frames.found(Pfn(7), Use::Kernel);
    assert_eq!(frames.grantable(4..5, BY), Ok(Found::Unmapped));
    assert_eq!(frames.grantable(4..6, BY), Err(Refused::NotYours));
    assert_eq!(frames.grantable(6..7, BY), Err(Refused::KernelObject));
    assert_eq!(frames.grantable(7..8, BY), Err(Refused::KernelObject));
    assert_eq!(frames.grantable(8..9, BY), Err(Refused::NotRam));
    assert_eq!(frames.grantable(15..17, BY), Err(Refused::NotRam));
    assert_eq!(frames.claim(Run::small(Pfn(u64::MAX), 1), BY), Err(Refused::NotRam));
}

#[test]
fn a_frame_of_one_vm_is_not_granted_to_another_until_it_is_unmapped() {
    let frames = table(16);
    frames.assign(Pfn(4), 2);
    frames.map(Run::small(Pfn(4), 1), 0);
    frames.map(Run::small(Pfn(4), 1), 0);
    let other = Granter { task: 2, vm: 1 };
    assert_eq!(frames.grantable(4..5, other), Err(Refused::OtherVm));
    frames.unmap(Run::small(Pfn(4), 1));
    assert_eq!(frames.grantable(4..5, other), Err(Refused::OtherVm));
    frames.unmap(Run::small(Pfn(4), 1));
    assert_eq!(frames.grantable(4..5, other), Ok(Found::Unmapped));
}

#[test]
fn a_mapped_frame_cannot_be_donated_and_a_donated_frame_cannot_be_granted() {
    let frames = table(16);
    let mut pool = Pool::default();
    frames.assign(Pfn(4), 2);
    frames.map(Run::small(Pfn(4), 1), 0);
    assert_eq!(frames.donatable(Pfn(4), 1, 2), Err(Refused::StillMapped));
    frames.unmap(Run::small(Pfn(4), 1));
    assert_eq!(frames.donatable(Pfn(4), 1, 3), Err(Refused::NotYours));
    assert_eq!(frames.donatable(Pfn(4), 0, 2), Err(Refused::BadCount));
    frames.donate(Pfn(4), &mut pool, 0);
    assert_eq!(frames.grantable(4..5, BY), Err(Refused::KernelObject));
    assert_eq!(frames.donatable(Pfn(4), 1, 2), Err(Refused::KernelObject));
}

#[test]
fn a_pool_gives_each_frame_once() {
    let frames = table(16);
    let mut pool = Pool::default();
    for pfn in 1..9 {
        frames.assign(Pfn(pfn), 2);
        frames.donate(Pfn(pfn), &mut pool, 0);
    }
    let mut taken = Vec::new();
    for count in [3, 5] {
        let mut chain = frames.take(&mut pool, count).unwrap();
        while let Some(pfn) = frames.next_table(&mut chain) {
            assert_eq!((frames.entry(pfn).used(), frames.entry(pfn).vm()), (Use::Table, Some(0)));
            taken.push(pfn.0);
        }
    }
    assert!(frames.take(&mut pool, 1).is_none());
    taken.sort_unstable();
    assert_eq!(taken, (1..9).collect::<Vec<_>>());
}

#[test]
fn a_pool_that_has_too_few_frames_gives_none() {
    let frames = table(16);
    let mut pool = Pool::default();
    frames.assign(Pfn(4), 2);
    frames.donate(Pfn(4), &mut pool, 0);
    assert!(frames.take(&mut pool, 2).is_none());
    assert_eq!(pool.count(), 1);
}

/// One large page at block 1.
const BLOCK_1: Run = Run { first: Pfn(512), count: 512, level: 2 };

fn block_of_a_task() -> FrameTable {
    let frames = table(2048);
    (512..1024).for_each(|pfn| frames.assign(Pfn(pfn), BY.task));
    frames
}

#[test]
fn a_frame_that_a_large_page_maps_is_mapped_whatever_its_own_word_says() {
    let frames = block_of_a_task();
    frames.claim(BLOCK_1, BY).unwrap();
    assert_eq!((frames.entry(Pfn(600)).vm(), frames.entry(Pfn(600)).mappings()), (Some(0), 1));
    assert!(!frames.claim_page(Pfn(600), BY.task, FirstMapping::of(0)));
    let other = Granter { vm: 1, ..BY };
    assert_eq!(frames.grantable(600..601, other), Err(Refused::OtherVm));
    assert_eq!(frames.claim(BLOCK_1, other), Err(Refused::OtherVm));
    assert_eq!(frames.donatable(Pfn(600), 1, BY.task), Err(Refused::StillMapped));
    frames.unmap(BLOCK_1);
    assert!(frames.claim_page(Pfn(600), BY.task, FirstMapping::of(1)));
    frames.unmap(Run::small(Pfn(600), 1));
    assert_eq!(frames.claim(BLOCK_1, other), Ok(()));
}

#[test]
fn one_frame_decides_whether_its_block_may_be_granted_whole() {
    let frames = block_of_a_task();
    assert!(frames.claim_page(Pfn(700), BY.task, FirstMapping::of(1)));
    assert_eq!(frames.claim(BLOCK_1, BY), Err(Refused::OtherVm));
    frames.unmap(Run::small(Pfn(700), 1));
    assert_eq!(frames.claim(BLOCK_1, BY), Ok(()));
    frames.unmap(BLOCK_1);
    frames.assign(Pfn(700), 3);
    assert_eq!(frames.claim(BLOCK_1, BY), Err(Refused::NotYours));
    assert_eq!(frames.claim(BLOCK_1, Granter { task: 3, vm: 0 }), Err(Refused::NotYours));
    frames.donate(Pfn(700), &mut Pool::default(), 0);
    assert_eq!(frames.claim(BLOCK_1, BY), Err(Refused::KernelObject));
}

#[test]
fn a_block_mapped_whole_is_no_vms_when_that_is_gone_whatever_else_maps_its_frames() {
    let frames = table(2048);
    (512..1536).for_each(|pfn| frames.assign(Pfn(pfn), BY.task));
    let both = Run { count: 1024, ..BLOCK_1 };
    frames.claim(both, BY).unwrap();
    // The second block's word differs from the first's.
    frames.claim(Run::small(Pfn(1100), 1), BY).unwrap();
    frames.unmap(both);
    assert!((0..4).all(|n| frames.block_is_true(Pfn(n * 512))));
    assert_eq!(frames.claim(Run::small(Pfn(1101), 1), Granter { vm: 1, ..BY }), Ok(()));
}

/// Something that is done to the table of [`Model`].
#[derive(Clone, Debug)]
enum Step {
    Assign {
        pfn: u64,
        task: u8,
    },
    Donate {
        pfn: u64,
        task: u8,
    },
    Grant {
        run: Run,
        by: Granter,
    },
    Fault {
        pfn: u64,
        by: Granter,
    },
    Around {
        pfn: u64,
        count: u64,
        by: Granter,
    },
    /// Of the mappings that there are, one.
    Unmap(prop::sample::Index),
}

/// Frames in the model: two blocks whole, and a part of a third that nobody owns.
const MODEL: u64 = 1040;

fn steps() -> impl Strategy<Value = Step> {
    // Near the edges of blocks, where runs cross them, more often than elsewhere.
    let pfn = prop_oneof![0..MODEL, 508..516_u64];
    let task = 2..4_u8;
    let small =
        (pfn.clone(), prop_oneof![Just(1), 1..40_u64, Just(512)]).prop_map(|(pfn, count)| Run::small(Pfn(pfn), count));
    let large = (0..3_u64, 1..3_u64).prop_map(|(n, count)| Run { first: Pfn(n * 512), count: count * 512, level: 2 });
    let by = (prop_oneof![9 => Just(2), 1 => Just(3)], 0..2_u8).prop_map(|(task, vm)| Granter { task, vm });
    prop_oneof![
        1 => (pfn.clone(), task.clone()).prop_map(|(pfn, task)| Step::Assign { pfn, task }),
        1 => (pfn.clone(), task).prop_map(|(pfn, task)| Step::Donate { pfn, task }),
        3 => (pfn.clone(), by.clone()).prop_map(|(pfn, by)| Step::Fault { pfn, by }),
        3 => (pfn, prop_oneof![1..8_u64, 1..40_u64], by.clone()).prop_map(|(pfn, count, by)| Step::Around { pfn, count, by }),
        6 => (prop_oneof![small, large], by).prop_map(|(run, by)| Step::Grant { run, by }),
        6 => any::<prop::sample::Index>().prop_map(Step::Unmap),
    ]
}

/// What the table should say: the use of each frame, and every mapping of a frame, without blocks.
struct Model {
    frames: Vec<(Use, u8)>,
    mappings: Vec<(Run, u8)>,
}

impl Model {
    fn new() -> Self {
        let owned = |pfn| if pfn < 1024 { (Use::Owned, 2) } else { (Use::Absent, 0) };
        Self { frames: (0..1536).map(owned).collect(), mappings: Vec::new() }
    }

    fn vms(&self, pfn: u64) -> Vec<u8> {
        let here = self.mappings.iter().filter(|(run, _)| (run.first.0..run.first.0 + run.count).contains(&pfn));
        here.map(|(_, vm)| *vm).collect()
    }

    fn grantable(&self, run: Run, by: Granter) -> Result<Found, Refused> {
        let mut found = Found::Unmapped;
        for pfn in run.first.0..run.first.0 + run.count {
            let (used, owner) = self.frames.get(pfn as usize).copied().ok_or(Refused::NotRam)?;
            match used {
                Use::Absent => return Err(Refused::NotRam),
                Use::Owned if owner != by.task => return Err(Refused::NotYours),
                Use::Owned => {}
                Use::Kernel | Use::Module | Use::Pool | Use::Table => return Err(Refused::KernelObject),
            }
            match self.vms(pfn).first() {
                Some(vm) if *vm != by.vm => return Err(Refused::OtherVm),
                Some(_) => found = Found::Mapped,
                None => {}
            }
        }
        Ok(found)
    }

    /// How `task` has the frame.
    fn has(&self, pfn: u64, task: u8) -> Option<Found> {
        let found = if self.vms(pfn).is_empty() { Found::Unmapped } else { Found::Mapped };
        (*self.frames.get(pfn as usize)? == (Use::Owned, task)).then_some(found)
    }

    /// What a task is told of its frames, from `from` on.
    fn tells(&self, frames: &FrameTable, task: u8, mut from: u64) {
        while let Some((first, count, found)) = frames.owned(task, from) {
            (from..first).for_each(|pfn| assert_eq!(self.has(pfn, task), None, "frame {pfn} of task {task}"));
            (first..first + count)
                .for_each(|pfn| assert_eq!(self.has(pfn, task), Some(found), "frame {pfn} of task {task}"));
            assert_ne!(self.has(first + count, task), Some(found), "a run ends where frames are not alike");
            from = first + count;
        }
        (from..1536).for_each(|pfn| assert_eq!(self.has(pfn, task), None, "frame {pfn} of task {task}"));
    }

    fn agrees(&self, frames: &FrameTable) {
        [(2, 0), (2, 515), (3, 0)].into_iter().for_each(|(task, from)| self.tells(frames, task, from));
        for (pfn, (used, owner)) in self.frames.iter().enumerate() {
            let (entry, vms) = (frames.entry(Pfn(pfn as u64)), self.vms(pfn as u64));
            assert_eq!(entry.used(), *used, "frame {pfn}");
            if *used == Use::Owned {
                let mapped = (entry.owner(), entry.mappings() as usize, entry.vm());
                assert_eq!(mapped, (*owner, vms.len(), vms.first().copied()), "frame {pfn}");
            }
        }
        (0..3).for_each(|n| assert!(frames.block_is_true(Pfn(n * 512)), "block {n}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_says_what_a_list_of_all_mappings_says(steps in prop::collection::vec(steps(), 1..40)) {
        let (frames, mut model, mut pool) = (table(1536), Model::new(), Pool::default());
        (0..1024).for_each(|pfn| frames.assign(Pfn(pfn), 2));
        for step in steps {
            match step {
                Step::Assign { pfn, task } if model.vms(pfn).is_empty() && model.frames[pfn as usize].0 == Use::Owned => {
                    frames.assign(Pfn(pfn), task);
                    model.frames[pfn as usize].1 = task;
                }
                Step::Donate { pfn, task } => {
                    let may = model.grantable(Run::small(Pfn(pfn), 1), Granter { task, vm: 0 });
                    prop_assert_eq!(frames.donatable(Pfn(pfn), 1, task).is_ok(), may == Ok(Found::Unmapped));
                    if may == Ok(Found::Unmapped) {
                        frames.donate(Pfn(pfn), &mut pool, 0);
                        model.frames[pfn as usize].0 = Use::Pool;
                    }
                }
                Step::Grant { run, by } => {
                    let (end, may) = (run.first.0 + run.count, model.grantable(run, by));
                    prop_assert_eq!(frames.grantable(run.first.0..end, by), may, "{:?}", run);
                    prop_assert_eq!(frames.claim(run, by), may.map(|_| ()), "{:?}", run);
                    if may.is_ok() {
                        model.mappings.push((run, by.vm));
                    }
                }
                Step::Fault { pfn, by } => {
                    let run = Run::small(Pfn(pfn), 1);
                    let may = model.grantable(run, by) == Ok(Found::Unmapped);
                    prop_assert_eq!(frames.claim_page(Pfn(pfn), by.task, FirstMapping::of(by.vm)), may);
                    if may {
                        model.mappings.push((run, by.vm));
                    }
                }
                Step::Around { pfn, count, by } => {
                    let run = Run::small(Pfn(pfn), count);
                    let of_one_block = pfn / 512 == (pfn + count - 1) / 512;
                    let may = of_one_block && model.grantable(run, by) == Ok(Found::Unmapped);
                    prop_assert_eq!(frames.claim_run(Pfn(pfn), count as usize, by.task, FirstMapping::of(by.vm)), may);
                    if may {
                        model.mappings.push((run, by.vm));
                    }
                }
                Step::Unmap(which) if !model.mappings.is_empty() => {
                    let (run, _) = model.mappings.swap_remove(which.index(model.mappings.len()));
                    frames.unmap(run);
                }
                Step::Assign { .. } | Step::Unmap(_) => {}
            }
            model.agrees(&frames);
        }
    }
}

#[test]
fn a_task_is_told_which_frames_are_its_and_which_of_them_are_mapped() {
    let frames = table(32);
    (4..12).for_each(|pfn| frames.assign(Pfn(pfn), 2));
    (12..16).for_each(|pfn| frames.assign(Pfn(pfn), 3));
    frames.map(Run::small(Pfn(6), 2), 1);
    let mut pool = Pool::default();
    frames.donate(Pfn(9), &mut pool, 1);
    let runs: Vec<_> = [0, 5, 6, 8, 9, 12].map(|from| frames.owned(2, from)).into_iter().collect();
    let (free, mapped) = (Found::Unmapped, Found::Mapped);
    let expected = [(4, 2, free), (5, 1, free), (6, 2, mapped), (8, 1, free), (10, 2, free)].map(Some);
    assert_eq!(runs[..5], expected);
    assert_eq!(runs[5], None, "the rest is another task's");
    assert_eq!(frames.owned(2, u64::MAX), None);
}
