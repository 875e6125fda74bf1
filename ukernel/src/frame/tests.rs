use super::*;
use crate::testing::frame_table as table;
use std::vec::Vec;

const BY: Granter = Granter { task: 2, vm: 0 };

#[test]
fn a_task_grants_only_ram_that_it_owns() {
    let frames = table(16);
    frames.assign(Pfn(4), 2);
    frames.assign(Pfn(5), 3);
    frames.found(Pfn(6), Use::Module);
    frames.found(Pfn(7), Use::Kernel);
    assert_eq!(frames.grantable(Pfn(4), 1, BY), Ok(Found::Unmapped));
    assert_eq!(frames.grantable(Pfn(4), 2, BY), Err(Refused::NotYours));
    assert_eq!(frames.grantable(Pfn(6), 1, BY), Err(Refused::KernelObject));
    assert_eq!(frames.grantable(Pfn(7), 1, BY), Err(Refused::KernelObject));
    assert_eq!(frames.grantable(Pfn(8), 1, BY), Err(Refused::NotRam));
    assert_eq!(frames.grantable(Pfn(15), 2, BY), Err(Refused::NotRam));
    assert_eq!(frames.grantable(Pfn(u64::MAX), 1, BY), Err(Refused::NotRam));
}

#[test]
fn a_frame_of_one_vm_is_not_granted_to_another_until_it_is_unmapped() {
    let frames = table(16);
    frames.assign(Pfn(4), 2);
    frames.map(Pfn(4), 1, 0);
    frames.map(Pfn(4), 1, 0);
    let other = Granter { task: 2, vm: 1 };
    assert_eq!(frames.grantable(Pfn(4), 1, other), Err(Refused::OtherVm));
    frames.unmap(Pfn(4), 1);
    assert_eq!(frames.grantable(Pfn(4), 1, other), Err(Refused::OtherVm));
    frames.unmap(Pfn(4), 1);
    assert_eq!(frames.grantable(Pfn(4), 1, other), Ok(Found::Unmapped));
}

#[test]
fn a_mapped_frame_cannot_be_donated_and_a_donated_frame_cannot_be_granted() {
    let frames = table(16);
    let mut pool = Pool::default();
    frames.assign(Pfn(4), 2);
    frames.map(Pfn(4), 1, 0);
    assert_eq!(frames.donatable(Pfn(4), 1, 2), Err(Refused::StillMapped));
    frames.unmap(Pfn(4), 1);
    assert_eq!(frames.donatable(Pfn(4), 1, 3), Err(Refused::NotYours));
    assert_eq!(frames.donatable(Pfn(4), 0, 2), Err(Refused::BadCount));
    frames.donate(Pfn(4), &mut pool, 0);
    assert_eq!(frames.grantable(Pfn(4), 1, BY), Err(Refused::KernelObject));
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
