use super::{Generation, Update};
use crate::testing::FakeMachine;
use ipc_proto::memop::GENERATIONS;
use ipc_proto::refused::Refused;

#[test]
fn an_answer_during_a_change_is_not_remembered() {
    let mut machine = FakeMachine::default();
    let mut generation = Generation::FIRST;
    assert_eq!(generation.to_remember(), 0, "without slots nothing is known");
    for number in 1..4 {
        assert_eq!(generation.begin(0, &mut machine), Ok(()));
        assert_eq!(
            (generation.to_remember(), machine.generation),
            (0, number),
            "the kernel knows it before it is used"
        );
        generation.end();
        assert_eq!(generation.to_remember(), number);
    }
}

#[test]
fn a_change_that_the_kernel_was_not_told_of_does_not_begin() {
    let mut machine = FakeMachine::default();
    let mut generation = Generation::FIRST;
    machine.refuse = Some(Refused::BadHandle);
    assert_eq!(generation.begin(0, &mut machine), Err(Refused::BadHandle));
    assert_eq!((generation.to_remember(), machine.generation), (0, 0));
}

#[test]
fn numbers_do_not_come_back() {
    let mut machine = FakeMachine::default();
    let mut generation = Generation { number: GENERATIONS - 2, update: Update::None };
    for expected in [GENERATIONS - 1, 0, 0, 0] {
        assert_eq!(generation.begin(0, &mut machine), Ok(()));
        generation.end();
        assert_eq!((generation.to_remember(), machine.generation), (expected, expected));
    }
}
