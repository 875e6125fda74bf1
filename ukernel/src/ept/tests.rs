use super::*;
use crate::arch::paging::UserPages;
use crate::arch::vmx::ept_entry::EptFormat;
use crate::testing::HostTables;
use std::vec::Vec;

/// Maps `page` to the frame of the same number plus 1000, with fresh tables from `next` on.
fn map<F: Format>(tree: &Tree<'_, F, HostTables>, page: u64, level: u8, next: &mut u64) {
    let place = tree
        .extend(tree.find(page, level), page, level, || {
            *next += 1;
            Some(Pfn(*next - 1))
        })
        .unwrap();
    let leaf = F::leaf(Pfn((page + 1000) & !(pages(level) - 1)), level, Rights::all(), MemType::WriteBack);
    place.table[place.index].store(leaf, Ordering::Relaxed);
}

fn walks_alike<F: Format>() {
    let tables = HostTables::new(32);
    let tree = Tree::<F, _>::new(Pfn(0), &tables);
    let mut next = 1;
    for page in [0, 1, 511, 512, 1 << 18, (1 << 36) - 1] {
        assert!(tree.leaf(page).is_none());
        map(&tree, page, 1, &mut next);
        let (leaf, level) = tree.leaf(page).unwrap();
        assert_eq!((leaf.pfn, level), (Pfn(page + 1000), 1));
    }
    // Pages 0 to 511 share their tables; the last page shares only the root.
    assert_eq!(next, 1 + 3 + 1 + 2 + 3);
}

#[test]
fn one_walk_serves_ept_and_task_tables() {
    walks_alike::<EptFormat>();
    walks_alike::<UserPages>();
}

#[test]
fn leaves_are_visited_in_order_and_only_in_the_range() {
    let tables = HostTables::new(32);
    let tree = Tree::<EptFormat, _>::new(Pfn(0), &tables);
    let mut next = 1;
    for page in [3, 700, 1 << 20, 1 << 30] {
        map(&tree, page, 1, &mut next);
    }
    map(&tree, 1024, 2, &mut next);
    let mut seen = Vec::new();
    tree.leaves(4, 1 << 30, |page, place, _| {
        seen.push((page, place.level));
        true
    });
    assert_eq!(seen, [(700, 1), (1024, 2), (1 << 20, 1)]);
}

#[test]
fn the_path_to_a_page_has_every_entry_down_to_the_first_that_is_no_table() {
    let tables = HostTables::new(32);
    let tree = Tree::<EptFormat, _>::new(Pfn(0), &tables);
    assert_eq!(tree.path(7), [0, 0, 0, 0, 1, 0]);
    map(&tree, 3, 1, &mut 1);
    map(&tree, 512, 2, &mut 4);
    let table = |pfn| EptFormat::table(Pfn(pfn));
    let page = EptFormat::leaf(Pfn(1003), 1, Rights::all(), MemType::WriteBack);
    assert_eq!(tree.path(3), [table(1), table(2), table(3), page, 4, 0]);
    assert_eq!(tree.path(4), [table(1), table(2), table(3), 0, 4, 0]);
    assert_eq!(tree.path(600)[2..], [tree.find(600, 1).entry, 0, 3, 0]);
}

#[test]
fn a_walk_that_ends_early_says_where() {
    let tables = HostTables::new(32);
    let tree = Tree::<EptFormat, _>::new(Pfn(0), &tables);
    assert_eq!(tree.find(5, 1).level, TOP);
    let mut next = 1;
    map(&tree, 512, 2, &mut next);
    assert_eq!(tree.find(513, 1).level, 2, "a large page ends the walk");
    assert_eq!(tree.find(5, 1).level, 2, "no table below");
}

#[test]
fn too_few_tables_are_said() {
    let tables = HostTables::new(32);
    let tree = Tree::<EptFormat, _>::new(Pfn(0), &tables);
    let mut supply = [Pfn(1), Pfn(2)].into_iter();
    assert!(tree.extend(tree.find(5, 1), 5, 1, || supply.next()).is_none());
}

#[test]
fn every_table_is_visited_once() {
    let tables = HostTables::new(32);
    let tree = Tree::<EptFormat, _>::new(Pfn(0), &tables);
    let mut next = 1;
    for page in [0, 512, 1 << 27] {
        map(&tree, page, 1, &mut next);
    }
    let mut seen = Vec::new();
    tree.tables(&mut |pfn, level, first| seen.push((pfn.0, level, first)));
    seen.sort_unstable();
    let levels: Vec<u8> = seen.iter().map(|(_, level, _)| *level).collect();
    assert_eq!(seen.len() as u64, next - 1);
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 3);
}
