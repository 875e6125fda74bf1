use super::{Advice, Begins, Bits, Chosen, NxHuge, Populate, Purpose, Refusal, Verdict, View, ZeroPages};
use crate::fault::PageFault;
use crate::testing::{READ, access, slot};
use ipc_proto::grant::{Gfn, Level};
use ipc_proto::slot::SlotFlags;
use std::collections::BTreeSet;

fn advice(policy: &mut Chosen) -> (u16, Level) {
    let Advice { around, level, .. } = policy.advise(&PageFault::from_message(&access(0x123, READ)));
    (around, level)
}

#[test]
fn every_name_is_a_policy_of_that_name() {
    for name in Chosen::NAMES {
        assert_eq!(Chosen::by_name(name).map(|policy| policy.name()), Some(*name));
    }
    assert!(Chosen::by_name("").is_none() && Chosen::by_name("Demand").is_none());
}

#[test]
fn each_policy_says_what_it_is_named_for() {
    let mut advised = [("demand", 1), ("fault-around", 16), ("eager", 512), ("huge", 1)].map(|(name, around)| {
        let policy = Chosen::by_name(name).expect("it exists");
        (policy, around)
    });
    for (policy, around) in &mut advised {
        let level = if policy.name() == "huge" { Level::Large } else { Level::Page };
        assert_eq!(advice(policy), (*around, level));
        let all = policy.populate(&slot(1, 0, 1, SlotFlags::empty())) == Populate::All;
        assert_eq!(all, policy.name() == "eager");
    }
}

#[test]
fn options_are_the_policys_own_and_in_range() {
    let mut around = Chosen::by_name("fault-around").expect("it exists");
    assert_eq!((around.set("window", "64"), advice(&mut around).0), (Ok(()), 64));
    for wrong in ["0", "513", "-1", "many", ""] {
        assert_eq!((around.set("window", wrong), advice(&mut around).0), (Err(Refusal::BadValue), 64), "{wrong}");
    }
    assert_eq!(around.set("nx_huge", "on"), Err(Refusal::UnknownOption));
    let mut huge = Chosen::by_name("huge").expect("it exists");
    assert_eq!(huge.nx_huge(), NxHuge::Off);
    assert_eq!((huge.set("nx_huge", "on"), huge.nx_huge()), (Ok(()), NxHuge::On));
    assert_eq!((huge.set("nx_huge", "maybe"), huge.nx_huge()), (Err(Refusal::BadValue), NxHuge::On));
    let mut demand = Chosen::by_name("demand").expect("it exists");
    assert_eq!(demand.set("window", "4"), Err(Refusal::UnknownOption));
}

fn fault(gfn: u64) -> PageFault {
    PageFault::from_message(&access(gfn, READ))
}

/// Faults as they come when what is advised is mapped: the pages that were touched, and how many faults that took.
fn faults(policy: &mut Chosen, touched: impl Iterator<Item = u64>) -> usize {
    let mut mapped = BTreeSet::new();
    let mut faults = 0;
    for gfn in touched {
        if mapped.contains(&gfn) {
            continue;
        }
        faults += 1;
        let Advice { around, stride, .. } = policy.advise(&fault(gfn));
        mapped.extend((0..i64::from(around)).map(|n| gfn.wrapping_add_signed(n * i64::from(stride))));
        mapped.insert(gfn);
    }
    faults
}

#[test]
fn a_sequence_at_any_distance_is_mapped_ahead() {
    for stride in [1i64, 2, 7, 64, -1, -3] {
        let mut policy = Chosen::by_name("stride").expect("it exists");
        let count = faults(&mut policy, (0..640).map(|n| 0x10_0000u64.wrapping_add_signed(n * stride)));
        // 1, 1, 2, 4, 8, 16, 32, then 64 at a time.
        assert!(count <= 18, "stride {stride}: {count} faults for 640 pages");
    }
    let mut policy = Chosen::by_name("stride").expect("it exists");
    policy.set("window", "4").expect("a window");
    assert_eq!(faults(&mut policy, 0..100), 3 + 24);
}

#[test]
fn several_sequences_are_followed_at_a_time_and_no_sequence_costs_nothing() {
    let mut policy = Chosen::by_name("stride").expect("it exists");
    let count = faults(&mut policy, (0..2560).map(|n| (n % 4) * 0x10_0000 + n / 4));
    assert!(count <= 4 * 18, "{count} faults for four sequences of 640 pages");
    let mut scattered = (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
    assert!(scattered.all(|gfn| policy.advise(&fault(gfn)) == Advice::THE_PAGE));
}

fn view(resident: [u64; 8], accessed: Option<[u64; 8]>, purpose: Purpose) -> View {
    let (resident, accessed) = (Bits::from_words(resident), accessed.map(Bits::from_words));
    View { vm: 0, gfn: Gfn(512), pages: 512, resident, accessed, purpose }
}

#[test]
fn the_clock_spares_what_was_used_until_a_round_has_found_nothing() {
    let mut policy = Chosen::by_name("clock").expect("it exists");
    let mut evicted = |round, accessed| {
        policy.survey(&view([0b1111, 0, 0, 0, 0, 0, 0, 1], accessed, Purpose::Frames { round })).evict
    };
    assert_eq!(evicted(0, Some([0b0101, 0, 0, 0, 0, 0, 0, 0])), Bits::from_words([0b1010, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(evicted(1, Some([u64::MAX; 8])), Bits::from_words([0b1111, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(evicted(0, None).count(), 5, "a machine that does not tell: in the order of their numbers");
    let unasked = policy.survey(&view([1; 8], None, Purpose::Time { begins: Begins::Round }));
    assert_eq!(unasked, Verdict::KEEP);
}

#[test]
fn the_working_set_is_what_was_used_in_a_whole_round() {
    let mut policy = Chosen::by_name("wss").expect("it exists");
    let mut look = |resident, accessed, begins| {
        assert_eq!(policy.survey(&view([resident; 8], accessed, Purpose::Time { begins })), Verdict::KEEP);
        [0, 1, 2, 3].map(|number| policy.figure(0, number).expect("four figures").1)
    };
    look(0xff, Some([0x0f; 8]), Begins::Round);
    look(0xff, Some([0x01; 8]), Begins::Nothing);
    assert_eq!(look(0xff, Some([0; 8]), Begins::Round), [1, 40, 40, 88], "rounds, used, most, idle");
    assert_eq!(look(0xff, None, Begins::Round), [2, 0, 40, 64]);
    assert_eq!(look(0, None, Begins::Round), [3, 64, 64, 0], "a machine that does not tell: all may have been used");
    assert_eq!(policy.figure(0, 4), None);
}

#[test]
fn sharing_is_looked_for_at_times() {
    let mut policy = Chosen::by_name("share").expect("it exists");
    assert_eq!(policy.advise(&fault(1)).zero, ZeroPages::Shared);
    let verdict = policy.survey(&view([5; 8], None, Purpose::Time { begins: Begins::Nothing }));
    assert_eq!((verdict.merge, verdict.evict), (Bits::from_words([5; 8]), Bits::NONE));
    assert_eq!((policy.duties().period, policy.set("ticks", "7")), (Some(2_000_000), Ok(())));
    assert_eq!((policy.duties().period, policy.set("ticks", "0")), (Some(7), Err(Refusal::BadValue)));
}
