use super::*;
use crate::testing::{HostTables, frame_table, pool};
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::grant::{Gfn, MemType, SeenBy};

const PAGER: u8 = 2;
const ROOT: Pfn = Pfn(0);
/// The pager's frames: enough for a large page.
const FIRST: u64 = 1024;

/// A VM of 2 GiB with an empty EPT, eight table frames, and a pager that owns frames 1024 to 4095.
struct Fixture {
    tables: HostTables,
    frames: FrameTable,
    pool: Mutex<Pool>,
}

impl Fixture {
    fn new() -> Self {
        let frames = frame_table(8192);
        frames.assign_root(ROOT, 0);
        let pool = Mutex::new(pool(&frames, 1..9, 0));
        (FIRST..4096).for_each(|pfn| frames.assign(Pfn(pfn), PAGER));
        Self { tables: HostTables::new(16), frames, pool }
    }

    fn ept(&self) -> Tree<'_, EptFormat, HostTables> {
        Tree::new(ROOT, &self.tables)
    }

    fn install(&mut self, grant: Grant) -> Result<(StaleTlb, u64), Refused> {
        self.install_words(grant.claim())
    }

    fn install_words(&mut self, claim: ClaimedGrant) -> Result<(StaleTlb, u64), Refused> {
        let ept = Tree::new(ROOT, &self.tables);
        let against = Against {
            by: Granter { task: PAGER, vm: 0 },
            ept: &ept,
            guest_frames: 1 << 19,
            mmu_seq: 7,
            shapes: Shapes { largest: Level::Large, execute_only: false },
        };
        install(claim, &against, &self.frames, &self.pool)
    }

    fn map(&mut self, grant: Grant) -> StaleTlb {
        self.install(grant).expect("it is a good grant").0
    }

    fn refusal(&mut self, grant: Grant) -> Refused {
        let left = self.pool.lock().count();
        let entries = |vm: &Self| (0..8192).map(|pfn| vm.frames.entry(Pfn(pfn))).collect::<Vec<_>>();
        let before = entries(self);
        let refused = self.install(grant).expect_err("it must be refused");
        assert_eq!(self.pool.lock().count(), left, "a refused grant changes nothing");
        assert!(entries(self) == before, "a refused grant changes nothing");
        let mut mapped = 0;
        self.ept().leaves(0, 1 << 19, |_, _, _| {
            mapped += 1;
            true
        });
        assert_eq!(mapped, 0, "a refused grant changes nothing");
        refused
    }
}

fn page() -> Grant {
    Grant {
        gfn: Gfn(0x100),
        pfn: Pfn(FIRST),
        count: 1,
        level: Level::Page,
        rights: Rights::all(),
        mem_type: MemType::WriteBack,
        mmu_seq: 7,
        seen_by: SeenBy::Everyone,
    }
}

#[test]
fn a_grant_maps_its_run_with_its_rights_and_type() {
    let mut vm = Fixture::new();
    let rights = Rights::READ | Rights::EXECUTE;
    assert_eq!(vm.install(Grant { count: 16, rights, ..page() }), Ok((StaleTlb::Nothing, 16)));
    for n in 0..16 {
        let (leaf, level) = vm.ept().leaf(0x100 + n).unwrap();
        assert_eq!((leaf.pfn, leaf.rights, leaf.mem_type, level), (Pfn(FIRST + n), rights, MemType::WriteBack, 1));
        assert_eq!(vm.frames.entry(leaf.pfn).vm(), Some(0));
    }
    assert!(vm.ept().leaf(0x110).is_none());
    assert_eq!(vm.pool.lock().count(), 5, "three tables for the first page, none for its neighbours");
}

#[test]
fn the_frame_that_the_pager_named_is_the_one_that_is_mapped() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(Grant { pfn: Pfn(FIRST + 99), ..page() }), StaleTlb::Nothing);
    assert_eq!(vm.ept().leaf(0x100).unwrap().0.pfn, Pfn(FIRST + 99));
}

#[test]
fn a_large_page_needs_one_table_less() {
    let mut vm = Fixture::new();
    let large = Grant { gfn: Gfn(512), pfn: Pfn(1024), level: Level::Large, ..page() };
    assert_eq!(vm.install(large), Ok((StaleTlb::Nothing, 512)));
    assert_eq!(vm.ept().leaf(512 + 17).unwrap().1, 2);
    assert_eq!(vm.pool.lock().count(), 6);
}

#[test]
fn a_server_cannot_grant_outside_its_frames() {
    let mut vm = Fixture::new();
    assert_eq!(vm.refusal(Grant { pfn: Pfn(4096), ..page() }), Refused::NotRam);
    assert_eq!(vm.refusal(Grant { pfn: Pfn(4095), count: 2, ..page() }), Refused::NotRam);
    vm.frames.assign(Pfn(5000), 3);
    assert_eq!(vm.refusal(Grant { pfn: Pfn(5000), ..page() }), Refused::NotYours);
    assert_eq!(vm.refusal(Grant { pfn: Pfn(1), ..page() }), Refused::KernelObject);
    assert_eq!(vm.refusal(Grant { pfn: ROOT, ..page() }), Refused::KernelObject);
    assert_eq!(vm.refusal(Grant { pfn: Pfn(u64::MAX), ..page() }), Refused::NotRam);
}

#[test]
fn a_frame_of_another_vm_is_refused() {
    let mut vm = Fixture::new();
    vm.frames.map(Run::small(Pfn(FIRST), 1), 1);
    assert_eq!(vm.refusal(page()), Refused::OtherVm);
}

#[test]
fn a_run_beyond_the_guest_is_refused() {
    let mut vm = Fixture::new();
    assert_eq!(vm.refusal(Grant { gfn: Gfn(1 << 19), ..page() }), Refused::BeyondGuest);
    assert_eq!(vm.refusal(Grant { gfn: Gfn(u64::MAX), ..page() }), Refused::BeyondGuest);
}

#[test]
fn a_run_that_crosses_a_table_is_refused() {
    let mut vm = Fixture::new();
    assert_eq!(vm.refusal(Grant { gfn: Gfn(511), count: 2, ..page() }), Refused::CrossesTable);
}

#[test]
fn a_misaligned_large_page_is_refused() {
    let mut vm = Fixture::new();
    let large = Grant { level: Level::Large, gfn: Gfn(512), pfn: Pfn(1024), ..page() };
    assert_eq!(vm.refusal(Grant { gfn: Gfn(513), ..large }), Refused::Misaligned);
    assert_eq!(vm.refusal(Grant { pfn: Pfn(1025), ..large }), Refused::Misaligned);
    assert_eq!(vm.refusal(Grant { level: Level::Huge, ..large }), Refused::BadLevel);
}

#[test]
fn rights_that_ept_cannot_express_are_refused() {
    let mut vm = Fixture::new();
    for rights in [Rights::empty(), Rights::WRITE, Rights::WRITE | Rights::EXECUTE, Rights::EXECUTE] {
        assert_eq!(vm.refusal(Grant { rights, ..page() }), Refused::BadRights);
    }
}

#[test]
fn a_grant_from_before_an_invalidation_is_stale() {
    let mut vm = Fixture::new();
    assert_eq!(vm.refusal(Grant { mmu_seq: 6, ..page() }), Refused::Stale);
}

#[test]
fn words_that_are_no_grant_are_refused() {
    let mut vm = Fixture::new();
    let claim = page().claim();
    let with = |shape: u64| ClaimedGrant { shape, ..claim };
    assert_eq!(vm.install_words(with(claim.shape & !0x3ff)).unwrap_err(), Refused::BadCount);
    assert_eq!(vm.install_words(with(claim.shape | 0x3ff)).unwrap_err(), Refused::BadCount);
    assert_eq!(vm.install_words(with(claim.shape & !(3 << 10))).unwrap_err(), Refused::BadLevel);
    assert_eq!(vm.install_words(with(claim.shape & !(7 << 15) | 2 << 15)).unwrap_err(), Refused::BadMemType);
    assert_eq!(vm.install_words(with(claim.shape | 1 << 19)).unwrap_err(), Refused::Reserved);
}

#[test]
fn what_is_withdrawn_leaves_the_ledger_whatever_lies_beside_it() {
    let mut vm = Fixture::new();
    let grants = [
        Grant { count: 40, ..page() },
        Grant { gfn: Gfn(0x128), pfn: Pfn(FIRST + 100), rights: Rights::READ, ..page() },
        Grant { gfn: Gfn(0x129), pfn: Pfn(FIRST + 101), rights: Rights::READ, count: 3, ..page() },
        // One frame twice.
        Grant { gfn: Gfn(0x130), pfn: Pfn(FIRST + 3), ..page() },
        Grant { gfn: Gfn(512), pfn: Pfn(1536), level: Level::Large, ..page() },
    ];
    let mut mapped: u64 = grants.iter().map(|grant| vm.install(*grant).expect("it is a good grant").1).sum();
    let touched = vm.ept().find(0x110, 1);
    touched.table[touched.index].fetch_or(TRACES, Relaxed);
    for (first, end) in [(0x105, 0x106), (0x12a, 0x12b), (0x100, 0x200), (512, 1024)] {
        let mut gone = 0;
        Tree::<EptFormat, _>::new(ROOT, &vm.tables).runs(first, end, |_, place, count| {
            gone += withdraw(&place, count, &vm.frames);
            true
        });
        mapped -= gone;
        let ept = Tree::<EptFormat, _>::new(ROOT, &vm.tables);
        assert_eq!(crate::ledger::prove(&vm.frames, [(0, Some(PAGER), ept)].into_iter()), Ok(mapped));
        let mut left = 0;
        vm.ept().leaves(first, end, |_, _, _| {
            left += 1;
            true
        });
        assert_eq!(left, 0, "{first:#x}..{end:#x}");
    }
    assert_eq!(mapped, 0);
}

#[test]
fn an_empty_pool_refuses_and_loses_nothing() {
    let mut vm = Fixture::new();
    vm.pool = Mutex::new(pool(&vm.frames, 9..11, 0));
    assert_eq!(vm.refusal(page()), Refused::NoTables);
}

#[test]
fn a_page_inside_a_larger_one_is_refused() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(Grant { gfn: Gfn(512), pfn: Pfn(1024), level: Level::Large, ..page() }), StaleTlb::Nothing);
    let small = Grant { gfn: Gfn(513), pfn: Pfn(2000), ..page() };
    assert_eq!(vm.install(small).unwrap_err(), Refused::LargePageThere);
}

#[test]
fn a_large_page_over_smaller_ones_is_refused() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(Grant { gfn: Gfn(513), ..page() }), StaleTlb::Nothing);
    let large = Grant { gfn: Gfn(512), pfn: Pfn(1536), level: Level::Large, ..page() };
    assert_eq!(vm.install(large).unwrap_err(), Refused::TablesThere);
}

#[test]
fn more_rights_on_the_same_frame_need_no_flush_and_fewer_do() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(Grant { rights: Rights::READ, ..page() }), StaleTlb::Nothing);
    assert_eq!(vm.install(page()), Ok((StaleTlb::Nothing, 0)));
    assert_eq!(vm.install(Grant { rights: Rights::READ, ..page() }), Ok((StaleTlb::Some, 0)));
    assert_eq!(vm.frames.entry(Pfn(FIRST)).mappings(), 1);
}

#[test]
fn another_frame_in_the_same_place_needs_a_flush_and_frees_the_first() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(page()), StaleTlb::Nothing);
    assert_eq!(vm.install(Grant { pfn: Pfn(FIRST + 5), ..page() }), Ok((StaleTlb::Some, 0)));
    assert_eq!(vm.frames.entry(Pfn(FIRST)).mappings(), 0);
    assert_eq!(vm.frames.entry(Pfn(FIRST + 5)).mappings(), 1);
}

#[test]
fn what_the_cpu_noted_in_an_entry_survives_a_change_of_rights() {
    let mut vm = Fixture::new();
    assert_eq!(vm.map(page()), StaleTlb::Nothing);
    let place = vm.ept().find(0x100, 1);
    place.table[place.index].fetch_or(TRACES, Relaxed);
    assert_eq!(vm.map(Grant { rights: Rights::READ, ..page() }), StaleTlb::Some);
    let (leaf, _) = vm.ept().leaf(0x100).unwrap();
    assert!(leaf.accessed && leaf.dirty);
}

/// What the ledger says after grants of every kind: new pages, a run, a large page, another frame, fewer rights,
/// a run that is partly there.
#[test]
fn what_was_granted_is_what_the_ledger_proves() {
    let mut vm = Fixture::new();
    let read = Rights::READ;
    let grants = [
        Grant { count: 16, ..page() },
        Grant { gfn: Gfn(512), pfn: Pfn(1536), level: Level::Large, ..page() },
        Grant { pfn: Pfn(FIRST + 100), ..page() },
        Grant { gfn: Gfn(0x101), pfn: Pfn(FIRST + 1), rights: read, ..page() },
        Grant { gfn: Gfn(0x10f), pfn: Pfn(FIRST + 15), count: 2, ..page() },
        Grant { gfn: Gfn(0xff), pfn: Pfn(FIRST + 200), count: 2, ..page() },
    ];
    let mut mapped = 0;
    for grant in grants {
        mapped += vm.install(grant).expect("it is a good grant").1;
        let ept = Tree::<EptFormat, _>::new(ROOT, &vm.tables);
        assert_eq!(crate::ledger::prove(&vm.frames, [(0, Some(PAGER), ept)].into_iter()), Ok(mapped));
    }
    assert_eq!(mapped, 16 + 512 + 2);
}

/// The short way reads a reply's first word with a table of its own: it must say what the long way says.
#[test]
fn the_short_way_makes_the_entry_that_the_long_way_makes() {
    use crate::arch::vmx::ept_entry::page_bits;
    use ipc_proto::fault::ClaimedReply;
    let map = FaultReply::Map(page(), 0).to_words(TopUp::default())[0] & !0x3_ffff;
    let mut taken = 0;
    for (shape, level) in (0..1 << 18).flat_map(|shape| [(shape, Level::Page), (shape, Level::Large)]) {
        let words = [map | shape, 0x200, FIRST, 7, 0, 0];
        let Some(bits) = page_bits(words[0], level) else { continue };
        let mut vm = Fixture::new();
        let Ok(ClaimedReply::Map(claim, 0)) = ClaimedReply::from_words(&words) else {
            panic!("{shape:#x} is no reply")
        };
        assert_eq!(vm.install_words(claim), Ok((StaleTlb::Nothing, level.frames())), "{shape:#x}");
        assert_eq!(vm.ept().find(0x200, level as u8).entry, bits | FIRST << 12, "{shape:#x}");
        taken += 1;
    }
    // Four rights that can be read, five memory types, two levels.
    assert_eq!(taken, 4 * 5 * 2);
    for other in [map | 1 << 24, map | 1 << 18, map | 1 << 60, FaultReply::Retry.to_words(TopUp::default())[0]] {
        let head = other | page().claim().shape & 0x3ffff;
        assert_eq!((page_bits(head, Level::Page), page_bits(head, Level::Large)), (None, None), "{other:#x}");
    }
}

#[test]
fn a_page_of_the_guest_alone_says_so_until_it_is_granted_otherwise() {
    let mut vm = Fixture::new();
    let alone = Grant { seen_by: SeenBy::Guest, count: 3, ..page() };
    assert_eq!(vm.install(alone), Ok((StaleTlb::Nothing, 3)));
    assert_eq!(vm.ept().leaf(0x102).map(|(leaf, _)| (leaf.seen_by, leaf.rights)), Some((SeenBy::Guest, page().rights)));
    // Windows must learn of it: whatever is stale is hidden from them.
    assert_eq!(vm.install(page()), Ok((StaleTlb::Some, 0)));
    assert_eq!(vm.ept().leaf(0x100).map(|(leaf, _)| leaf.seen_by), Some(SeenBy::Everyone));
    assert_eq!(vm.install(Grant { count: 1, ..alone }), Ok((StaleTlb::Some, 0)));
}
