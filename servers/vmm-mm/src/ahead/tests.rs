use crate::serve::Pager;
use crate::testing::{FakeMachine, Seen, WRITE, access, by_policy};
use ipc_proto::fault::{ClaimedReply, Fault};
use ipc_proto::grant::Rights;
use ipc_proto::slot::SlotFlags;
use std::boxed::Box;

fn vm(frames: u64) -> (Box<Pager>, FakeMachine) {
    let mut machine = FakeMachine::default();
    let pager = by_policy("huge", frames, &mut machine, &[(1, 0x400, 0x2000, SlotFlags::empty())]);
    (pager, machine)
}

fn touch(pager: &mut Pager, machine: &mut FakeMachine, gfn: u64) -> ClaimedReply {
    let fault = Fault { mmu_seq: machine.mmu_seq, ..access(gfn, WRITE) };
    let words = pager.answer(&fault, machine);
    machine.answered(&fault, &words).expect("accepted");
    ClaimedReply::from_words(&words).expect("a reply")
}

#[test]
fn a_large_page_that_was_zeroed_ahead_costs_no_zeroing_in_its_fault() {
    let (mut pager, mut machine) = vm(40_000);
    (0..200).for_each(|_| pager.at_leisure(&mut machine));
    let before = machine.cleared;
    for block in 0..4 {
        touch(&mut pager, &mut machine, 0x400 + block * 512);
        assert!((0..1024).all(|index| machine.guest_word(0x5ff + block * 512, index) == 0));
    }
    assert_eq!(machine.large.len(), 4);
    assert!(machine.cleared - before < 8, "no more than a frame for a node of the tree");
    touch(&mut pager, &mut machine, 0x400 + 5 * 512);
    assert!(machine.cleared - before >= 512, "the fifth was not ready");
}

#[test]
fn a_step_is_short_however_large_the_page() {
    let (mut pager, mut machine) = vm(40_000);
    for _ in 0..100 {
        let before = machine.cleared;
        pager.at_leisure(&mut machine);
        assert!(machine.cleared - before <= 64);
    }
}

#[test]
fn what_is_ready_is_given_back_when_frames_run_out() {
    let (mut pager, mut machine) = vm(0x2000 + 40);
    (0..200).for_each(|_| pager.at_leisure(&mut machine));
    for gfn in 0x400..0x2400 {
        if machine.guest(gfn, Rights::WRITE) != Seen::Done {
            assert!(matches!(touch(&mut pager, &mut machine, gfn), ClaimedReply::Map(..)), "gfn {gfn:#x}");
        }
    }
}
