//! Refusals: every number once, every number back, and no number that means two things.

use ipc_proto::call::{Call, Cause, Deed, End, Received};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::{DenyReason, Refused};
use std::collections::HashSet;

#[test]
fn every_refusal_has_its_own_number_and_comes_back_from_it() {
    let numbers: HashSet<u8> = Refused::ALL.iter().map(|refused| *refused as u8).collect();
    assert_eq!(numbers.len(), Refused::ALL.len());
    for refused in Refused::ALL {
        assert_eq!(Refused::from_number(*refused as u64), Some(*refused));
        assert!(!refused.text().is_empty());
        assert_eq!(refused.to_string(), refused.text());
    }
    for number in (0..=1000).filter(|number| !numbers.iter().any(|known| u64::from(*known) == *number)) {
        assert_eq!(Refused::from_number(number), None);
    }
    assert_eq!(Refused::from_number(0), None, "0 is done");
    assert_eq!(Refused::from_number(1 << 32 | 1), None, "no number is cut short");
}

#[test]
fn every_reason_to_deny_has_its_own_number_and_comes_back_from_it() {
    let numbers: HashSet<u8> = DenyReason::ALL.iter().map(|reason| *reason as u8).collect();
    assert_eq!(numbers.len(), DenyReason::ALL.len());
    for reason in DenyReason::ALL {
        assert_eq!(DenyReason::from_number(*reason as u64), Some(*reason));
    }
    assert_eq!(DenyReason::from_number(0), None);
}

/// A system call answers with a refusal or, `ReplyReceive` alone, with what was received. A server that looks at the
/// status of a `ReplyReceive` must be able to tell them apart where both can come.
#[test]
fn what_a_receive_is_refused_with_is_no_kind_of_message() {
    for refused in [Refused::NotAsked, Refused::Unanswered] {
        assert_eq!(Received::from_number(refused as u64), None, "{refused}");
    }
}

#[test]
fn calls_operations_and_kinds_come_back_from_their_numbers() {
    for number in 0..1000 {
        if let Some(call) = Call::from_number(number) {
            assert_eq!(call as u64, number);
        }
        if let Some(received) = Received::from_number(number) {
            assert_eq!(received as u64, number);
        }
        if let Some(op) = MemOp::from_number(number) {
            assert_eq!(op as u64, number);
        }
    }
    assert_eq!((0..1000).filter_map(Call::from_number).count(), 11);
    assert_eq!((0..1000).filter_map(Received::from_number).count(), 5);
    assert_eq!((0..1000).filter_map(MemOp::from_number).count(), 13);
    assert!((0..1000).filter_map(Cause::from_number).eq((0..7).filter_map(Cause::from_number)));
    for number in 0..1000 {
        assert!(Deed::from_number(number).is_none_or(|deed| deed as u64 == number));
        assert!(Cause::from_number(number).is_none_or(|cause| cause as u64 == number));
    }
    assert!(MemOp::from_number(0).is_none(), "an empty word is no operation");
}

#[test]
fn an_end_that_nobody_knows_is_a_failed_servers() {
    for end in [End::Done, End::GuestFailed, End::ServerFailed, End::KernelFailed] {
        assert_eq!(End::from_number(end as u64), end);
    }
    for number in [4, 100, u64::MAX] {
        assert_eq!(End::from_number(number), End::ServerFailed);
    }
}

/// The written specification lists every refusal with its number and its words.
#[test]
fn the_specification_has_every_refusal() {
    let spec = include_str!("../SPEC.md");
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
    let (_, refusals) = spec.split_once("### 9.1").expect("a section of refusals");
    let (by_kernel, rest) = refusals.split_once("### 9.2").expect("a section of reasons");
    let (by_pager, _) = rest.split_once("## 10").expect("a section of bounds");
    for refused in Refused::ALL {
        let row = format!("| {} | `{refused:?}` | {refused} |", *refused as u8);
        assert!(by_kernel.contains(&row), "missing: {row}");
    }
    for reason in DenyReason::ALL {
        let row = format!("| {} | `{reason:?}` | {reason} |", *reason as u8);
        assert!(by_pager.contains(&row), "missing: {row}");
    }
    assert_eq!((rows(by_kernel), rows(by_pager)), (Refused::ALL.len(), DenyReason::ALL.len()));
}
