use crate::backing::guest::{Fill, Guest};
use ipc_proto::fault::ClaimedReply;
use ipc_proto::grant::Rights;
use ipc_proto::slot::SlotFlags;

/// Every frame is used, and page 0 is in the store.
fn starved() -> Guest {
    let mut guest = Guest::new("clock", 160, 300, SlotFlags::empty());
    (0..200).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    guest.idle(10_000);
    let mut gfn = 200;
    while guest.pager.vms[0].pool.left() > 0 {
        guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits");
        gfn += 1;
    }
    guest.machine.ready.clear();
    guest
}

fn pending(reply: ClaimedReply) -> u64 {
    match reply {
        ClaimedReply::Pending(token) => token,
        other => panic!("not pending: {other:?}"),
    }
}

fn stored(guest: &Guest) -> u64 {
    (0..200).find(|gfn| guest.machine.leaf(*gfn).is_none()).expect("some page is in the store")
}

#[test]
fn two_vcpus_at_one_page_wait_for_one_piece_of_work() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let before = guest.counts();
    let faults = [0, 1, 2].map(|vcpu| guest.fault(vcpu, gfn, Rights::READ));
    let tokens = faults.map(|fault| pending(guest.answer(&fault)));
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2], "each vCPU has its own token");
    guest.wait(tokens[0]);
    assert!(tokens.iter().all(|token| guest.machine.ready.contains(token)), "all go on together");
    let counts = guest.counts();
    assert_eq!((counts.pending - before.pending, counts.joined - before.joined), (3, 2));
    assert_eq!(counts.decompressions - before.decompressions, 1, "the page is worked out once");
    assert!(guest.machine.leaf(gfn).is_some(), "it is mapped before anybody comes back");
    guest.read(gfn).expect("it is there");
}

#[test]
fn faults_on_other_pages_are_answered_while_one_waits() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let waits = guest.fault(0, gfn, Rights::READ);
    let token = pending(guest.answer(&waits));
    let resident = (0..200).find(|gfn| guest.machine.leaf(*gfn).is_some()).expect("some are mapped");
    let other = guest.fault(1, resident, Rights::READ);
    assert_eq!(guest.answer(&other), ClaimedReply::Retry, "spurious, and answered");
    guest.wait(token);
}

/// For an interrupt the vCPU is let run, and comes back to its fault.
#[test]
fn a_vcpu_that_comes_back_keeps_its_token() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let fault = guest.fault(0, gfn, Rights::READ);
    let token = pending(guest.answer(&fault));
    assert_eq!(pending(guest.answer(&fault)), token);
    let elsewhere = guest.fault(0, gfn + 1, Rights::READ);
    if let ClaimedReply::Pending(again) = guest.answer(&elsewhere) {
        assert_eq!(again, token, "a vCPU waits for one thing at a time");
    }
    guest.wait(token);
    guest.idle(10_000);
    assert_eq!(guest.machine.ready.iter().filter(|ready| **ready == token).count(), 1);
}

#[test]
fn a_window_is_answered_at_once() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let waits = guest.fault(0, gfn, Rights::READ);
    let token = pending(guest.answer(&waits));
    let before = guest.counts().decompressions;
    assert!(matches!(guest.through_window(gfn, Rights::READ), ClaimedReply::Map(..)));
    guest.wait(token);
    assert_eq!(guest.counts().decompressions - before, 1, "nothing is left to do for the vCPU");
    guest.read(gfn).expect("it is there");
}

#[test]
fn a_slot_that_is_deleted_lets_those_go_on_who_wait_for_it() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let fault = guest.fault(0, gfn, Rights::READ);
    let token = pending(guest.answer(&fault));
    guest.delete(1);
    guest.wait(token);
    let fault = guest.fault(0, gfn, Rights::READ);
    assert!(matches!(guest.answer(&fault), ClaimedReply::Mmio(_)));
}

/// Kernel and initrd come first, as in a boot, and do not become smaller: no fault waits until all of it was tried.
#[test]
fn frames_are_taken_back_before_they_are_missed() {
    let mut guest = Guest::new("clock", 1000, 3000, SlotFlags::empty());
    for gfn in 0..2800 {
        let fill = if gfn < 700 { Fill::Noise(gfn as u32) } else { Fill::Easy(gfn as u32) };
        let before = guest.notices;
        guest.write(gfn, fill).expect("it fits");
        guest.idle(1);
        assert!(guest.notices <= before + 1, "gfn {gfn:#x}: a piece for a fault");
    }
    let counts = guest.counts();
    assert_eq!((counts.pending, guest.machine.wake), (0, None), "{counts:?}");
    assert!(counts.evictions > 1700 && counts.incompressible == 700, "{counts:?}");
    (0..2800).for_each(|gfn| {
        guest.read(gfn).expect("it fits");
        guest.idle(1);
    });
    assert_eq!(guest.counts().pending, 0, "what comes back from the store is paid for as well");
}

#[test]
fn how_long_the_longest_has_waited_is_known() {
    let mut guest = starved();
    let gfn = stored(&guest);
    let fault = guest.fault(0, gfn, Rights::READ);
    let token = pending(guest.answer(&fault));
    guest.machine.tsc += 5000;
    guest.wait(token);
    assert_eq!(guest.counts().longest_wait, 5000);
}

/// The fault of one VM that finds nothing for long holds up no other's.
#[test]
fn faults_that_wait_are_worked_for_in_turn() {
    let mut jobs = super::Jobs::NONE;
    let fault = |vm: u16| ipc_proto::fault::Fault { vm, ..crate::testing::access(7, crate::testing::READ) };
    assert!([0, 1, 2].into_iter().all(|vm| jobs.add(&fault(vm), 0).is_some()));
    let turns = [0, 1, 2, 3].map(|_| {
        let vm = jobs.vm();
        jobs.rotate();
        vm
    });
    assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0)]);
}
