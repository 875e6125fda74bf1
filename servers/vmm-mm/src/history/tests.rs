use super::{History, LENGTH};
use crate::resolve::PfRet;
use crate::testing::{READ, access};
use ipc_proto::grant::Gpa;
use ipc_proto::slot::SlotId;
use std::vec::Vec;

#[test]
fn the_last_answers_are_there_and_older_ones_are_not() {
    let mut history = History::EMPTY;
    assert_eq!(history.iter().count(), 0);
    for gfn in 0..LENGTH as u64 + 5 {
        history.note(&access(gfn, READ), Some(SlotId(3)), Some(PfRet::Fixed));
    }
    let numbers: Vec<u64> = history.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (5..LENGTH as u64 + 5).collect::<Vec<_>>());
    for (number, answered) in history.iter() {
        assert_eq!(
            (answered.gpa, answered.slot, answered.result),
            (Gpa(number << 12), Some(SlotId(3)), Some(PfRet::Fixed))
        );
    }
}
