use crate::backing::guest::{Fill, Guest};
use ipc_proto::grant::Rights;
use ipc_proto::slot::SlotFlags;
use proptest::prelude::*;

const NONE: SlotFlags = SlotFlags::empty();

#[test]
fn pages_that_are_only_read_share_one_frame_of_zeros() {
    let mut guest = Guest::new("share", 300, 200, NONE);
    (0..200).for_each(|gfn| guest.read(gfn).expect("it fits"));
    let zero = guest.frame(0);
    assert!((0..200).all(|gfn| guest.frame(gfn) == zero), "all are one");
    guest.write(7, Fill::Easy(1)).expect("it fits");
    assert_ne!(guest.frame(7), zero, "the first write gets a frame of its own");
    (0..200).for_each(|gfn| guest.read(gfn).expect("and nobody else sees it"));
    assert_eq!((guest.counts().zero_shared, guest.counts().cow_breaks), (200, 1));
    guest.check();
}

/// What tells who shares what takes no frame that a page was promised: sharing ends first.
#[test]
fn sharing_takes_no_frame_that_was_promised() {
    // 200 pages and the slot's node: all that there is.
    let mut guest = Guest::new("share", 201, 200, NONE);
    (0..200).for_each(|gfn| guest.read(gfn).expect("it was promised"));
    guest.idle(40);
    (0..200).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("it was promised"));
    guest.idle(40);
    (0..200).for_each(|gfn| guest.read(gfn).expect("it has a frame"));
    guest.check();
}

#[test]
fn equal_pages_become_one_and_part_when_one_is_written() {
    let mut guest = Guest::new("share", 300, 100, NONE);
    (0..90).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32 % 3)).expect("it fits"));
    (90..100).for_each(|gfn| guest.write(gfn, Fill::Zero).expect("it fits"));
    let before = guest.pager.vms[0].pool.left();
    guest.idle(40);
    assert_eq!(guest.counts().merged, 87);
    assert_eq!(guest.pager.backing.shares.frames(), 4, "three kinds, and zeros");
    assert!(guest.pager.vms[0].pool.left() >= before + 87 + 9 - 20, "but for the frames that tell who shares what");
    (0..100).for_each(|gfn| guest.read(gfn).expect("it is as it was"));
    guest.check();
    assert_eq!((guest.frame(0), guest.frame(1)), (guest.frame(3), guest.frame(4)));
    for gfn in 0..100 {
        guest.write(gfn, Fill::Noise(gfn as u32)).expect("it fits");
        guest.check();
    }
    (0..100).for_each(|gfn| guest.read(gfn).expect("each is its own again"));
    assert_eq!(guest.pager.backing.shares.frames(), 0);
}

#[test]
fn the_last_page_of_a_shared_frame_keeps_it() {
    let mut guest = Guest::new("share", 300, 2, NONE);
    (0..2).for_each(|gfn| guest.write(gfn, Fill::Easy(5)).expect("it fits"));
    guest.idle(10);
    (0..2).for_each(|gfn| guest.read(gfn).expect("it is mapped"));
    let shared = guest.frame(1);
    guest.write(0, Fill::Easy(6)).expect("it fits");
    guest.write(1, Fill::Easy(7)).expect("it fits");
    assert_eq!(guest.frame(1), shared);
    (0..2).for_each(|gfn| guest.read(gfn).expect("it is mapped"));
}

/// The answer to the first write is lost: whoever reads the page meanwhile must not see what the other page becomes.
#[test]
fn an_answer_that_is_overtaken_leaves_no_frame_of_another_page_behind() {
    let mut guest = Guest::new("share", 300, 2, NONE);
    (0..2).for_each(|gfn| guest.write(gfn, Fill::Easy(5)).expect("it fits"));
    guest.idle(10);
    (0..2).for_each(|gfn| guest.read(gfn).expect("it is mapped"));
    assert_eq!(guest.frame(0), guest.frame(1));
    let fault = guest.fault(1, 0, Rights::WRITE);
    let _ = guest.pager.answer(&fault, &mut guest.machine);
    guest.write(1, Fill::Easy(9)).expect("the last page has the frame for its own");
    guest.read(0).expect("it is as it was");
}

/// Written between the two looks at it.
#[test]
fn a_page_that_changes_is_not_merged_for_what_it_was() {
    let mut guest = Guest::new("share", 300, 64, NONE);
    guest.write(0, Fill::Easy(5)).expect("it fits");
    guest.idle(4);
    guest.write(0, Fill::Easy(6)).expect("what is remembered of it is not so any more");
    guest.write(1, Fill::Easy(5)).expect("it fits");
    guest.idle(10);
    assert_eq!(guest.counts().merged, 0);
    (0..2).for_each(|gfn| guest.read(gfn).expect("it is mapped"));
}

#[test]
fn shared_frames_come_home_with_the_slot() {
    let mut guest = Guest::with("share", 300, &[(1, 0, 50, NONE), (2, 512, 50, NONE)]);
    for gfn in (0..40).chain(512..552) {
        guest.write(gfn, Fill::Easy(3)).expect("it fits");
    }
    (40..50).chain(552..562).for_each(|gfn| guest.read(gfn).expect("it fits"));
    guest.idle(20);
    assert_eq!(guest.pager.backing.shares.frames(), 2);
    guest.delete(1);
    (512..562).for_each(|gfn| guest.read(gfn).expect("the other slot keeps its pages"));
    guest.check();
    guest.delete(2);
    assert_eq!(guest.pager.backing.shares.frames(), 0);
    // What tells who shares what, and which pages were seen, stays: three levels each.
    assert!(guest.pager.vms[0].pool.left() >= 300 - 6 - 2);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64, Fill),
    Read(u64),
    Window(u64),
    Idle(usize),
    Choose(&'static str),
    Delete(u16),
    Move(u16, u64),
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![2 => Just(Fill::Zero), 6 => (0u32..4).prop_map(Fill::Easy), 1 => (0u32..3).prop_map(Fill::Noise)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..160, fill()).prop_map(|(gfn, fill)| Step::Write(gfn, fill)),
        8 => (0u64..160).prop_map(Step::Read),
        1 => (0u64..160).prop_map(Step::Window),
        3 => (1usize..6).prop_map(Step::Idle),
        1 => prop::sample::select(std::vec!["clock", "share", "wss", "stride", "demand"]).prop_map(Step::Choose),
        1 => (1u16..3).prop_map(Step::Delete),
        1 => (1u16..3, 0u64..4).prop_map(|(id, to)| Step::Move(id, 1024 + to * 512)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Evicted, shared, merged, moved, deleted, by one policy after another: every page holds what was written last.
    #[test]
    fn memory_is_what_was_written(steps in prop::collection::vec(step(), 1..400)) {
        let mut guest = Guest::with("clock", 90, &[(1, 0, 80, NONE), (2, 512, 80, NONE)]);
        let mut bases = [0u64, 512];
        let at = |bases: &[u64; 2], n: u64| bases[(n / 80) as usize] + n % 80;
        for step in steps {
            match step {
                // Without frames it may be denied, when the policy takes none back; then nothing has changed.
                Step::Write(n, fill) => drop(guest.write(at(&bases, n), fill)),
                Step::Read(n) => drop(guest.read(at(&bases, n))),
                Step::Window(n) => drop(guest.through_window(at(&bases, n), Rights::READ)),
                Step::Idle(most) => guest.idle(most),
                Step::Choose(policy) => guest.choose(policy),
                Step::Delete(id) => {
                    let base = bases[usize::from(id) - 1];
                    guest.delete(id);
                    guest.holds.retain(|gfn, _| gfn.wrapping_sub(base) >= 80);
                    guest.choose("clock");
                    prop_assert_eq!(guest.create(id, base, 80), ipc_proto::slot::SlotReply::Done);
                }
                Step::Move(id, to) => {
                    let (from, to) = (bases[usize::from(id) - 1], to + u64::from(id) * 128);
                    guest.relocate(id, to);
                    bases[usize::from(id) - 1] = to;
                    let holds = core::mem::take(&mut guest.holds);
                    let moved = |gfn: u64| if gfn.wrapping_sub(from) < 80 { gfn - from + to } else { gfn };
                    guest.holds = holds.into_iter().map(|(gfn, fill)| (moved(gfn), fill)).collect();
                }
            }
            guest.check();
        }
        guest.choose("clock");
        for n in 0..160 {
            let gfn = at(&bases, n);
            prop_assert!(guest.read(gfn).is_ok(), "gfn {:#x}", gfn);
        }
    }
}
