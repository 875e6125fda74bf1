use super::{MOST, Room, Runs};
use ipc_proto::grant::{Gfn, Pfn, Rights, SeenBy};
use std::vec::Vec;

const ALL: Rights = Rights::all();

fn of(pages: &[(u64, u64, Rights)]) -> Runs {
    let mut runs = Runs::new(SeenBy::Guest);
    for (gfn, pfn, rights) in pages {
        assert_eq!(runs.add(Gfn(*gfn), Pfn(*pfn), *rights, 7), Room::Taken);
    }
    runs
}

#[test]
fn neighbours_are_one_run() {
    let runs = of(&[(8, 100, ALL), (9, 101, ALL), (10, 102, ALL)]);
    let grant = runs.grants()[0];
    assert_eq!((runs.grants().len(), grant.gfn, grant.pfn, grant.count), (1, Gfn(8), Pfn(100), 3));
    assert_eq!((grant.rights, grant.seen_by, grant.mmu_seq, runs.pages()), (ALL, SeenBy::Guest, 7, 3));
}

#[test]
fn a_gap_on_either_side_or_other_rights_begin_a_run() {
    for second in [(10, 101, ALL), (9, 102, ALL), (9, 101, Rights::READ), (9, 99, ALL), (7, 101, ALL)] {
        assert_eq!(of(&[(8, 100, ALL), second]).grants().len(), 2, "{second:?}");
    }
}

#[test]
fn a_full_reply_takes_what_goes_on_and_nothing_else() {
    let pages: Vec<_> = (0..MOST as u64).map(|n| (2 * n, 2 * n, ALL)).collect();
    let mut runs = of(&pages);
    let last = 2 * MOST as u64 - 1;
    assert_eq!(runs.add(Gfn(last + 1), Pfn(last + 1), ALL, 7), Room::Full);
    assert_eq!(runs.add(Gfn(last), Pfn(last), ALL, 7), Room::Taken);
    assert_eq!(runs.pages(), MOST as u64 + 1);
}

#[test]
fn a_run_has_no_more_pages_than_a_grant() {
    let pages: Vec<_> = (0..513).map(|n| (n, n, ALL)).collect();
    assert_eq!(of(&pages).grants().iter().map(|grant| grant.count).collect::<Vec<_>>(), [512, 1]);
}
