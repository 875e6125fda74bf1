use super::{History, LENGTH};
use crate::resolve::PfRet;
use crate::testing::{READ, RIP, WRITE, access};
use ipc_proto::grant::Gpa;
use ipc_proto::slot::SlotId;
use std::vec::Vec;

#[test]
fn the_last_answers_are_there_and_older_ones_are_not() {
    let mut history = History::EMPTY;
    assert_eq!(history.answers().count(), 0);
    for gfn in 0..LENGTH as u64 + 5 {
        history.note(&access(gfn, READ), Some(SlotId(3)), Some(PfRet::Fixed));
    }
    let numbers: Vec<u64> = history.answers().map(|(number, _)| number).collect();
    assert_eq!(numbers, (5..LENGTH as u64 + 5).collect::<Vec<_>>());
    for (number, answered) in history.answers() {
        assert_eq!(
            (answered.to.gpa, answered.to.rip, answered.slot, answered.result),
            (Gpa(number << 12), RIP, Some(SlotId(3)), Some(PfRet::Fixed))
        );
    }
}

#[test]
fn first_touches_push_no_answer_out() {
    let mut history = History::EMPTY;
    history.note(&access(1, READ), None, None);
    (0..100).for_each(|gfn| history.touched(&access(gfn, WRITE)));
    assert_eq!(history.answers().count(), 1);
    let last = history.touches().last().map(|(number, seen)| (number, seen.gpa, seen.qualification));
    assert_eq!(last, Some((99, Gpa(99 << 12), WRITE)));
}
