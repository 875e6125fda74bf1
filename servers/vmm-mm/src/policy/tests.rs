use super::{Advice, Chosen, NxHuge, Populate, Refusal};
use crate::fault::PageFault;
use crate::testing::{READ, access, slot};
use ipc_proto::grant::Level;
use ipc_proto::slot::SlotFlags;

fn advice(policy: &mut Chosen) -> (u16, Level) {
    let Advice { around, level } = policy.advise(&PageFault::from_message(&access(0x123, READ)));
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
