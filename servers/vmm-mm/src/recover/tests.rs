use crate::serve::Pager;
use crate::testing::{FakeMachine, READ, Seen, WRITE, access, by_policy};
use ipc_proto::fault::{Fault, Qualification};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::slot::{SlotFlags, SlotReply, SlotRequest, Space, Tracking};
use std::boxed::Box;

const FETCH: Qualification = Qualification::FETCH;
/// Blocks of the slot.
const BLOCKS: u64 = 20;

fn touch(pager: &mut Pager, machine: &mut FakeMachine, gfn: u64, tried: Qualification) {
    let needs = match tried {
        FETCH => Rights::EXECUTE,
        WRITE => Rights::WRITE,
        _ => Rights::READ,
    };
    for _ in 0..5 {
        if machine.guest(gfn, needs) == Seen::Done {
            return;
        }
        let fault = Fault { mmu_seq: machine.mmu_seq, ..access(gfn, tried) };
        let words = pager.answer(&fault, machine);
        let _ = machine.answered(&fault, &words);
    }
    panic!("gfn {gfn:#x}: the same fault for ever");
}

/// Every block large, and then split by a fetch.
fn split() -> (Box<Pager>, FakeMachine) {
    let mut machine = FakeMachine::default();
    let mut pager =
        by_policy("huge", 512 * (BLOCKS + 4), &mut machine, &[(1, 0x400, 512 * BLOCKS, SlotFlags::empty())]);
    pager.policy.set("nx_huge", "on").expect("an option of the policy");
    for block in 0..BLOCKS {
        let gfn = 0x400 + block * 512 + block;
        touch(&mut pager, &mut machine, gfn, WRITE);
        machine.put(gfn, 3, gfn as u32);
        touch(&mut pager, &mut machine, gfn, FETCH);
    }
    assert!(machine.large.is_empty());
    (pager, machine)
}

#[test]
fn a_share_of_what_was_split_is_whole_again_each_time_and_all_after_enough_times() {
    let (mut pager, mut machine) = split();
    let mut large = 0;
    for period in 1..=BLOCKS {
        assert_eq!(pager.recover(&mut machine), 1, "one of {} for a ratio of 60", BLOCKS - period + 1);
        for block in 0..BLOCKS {
            touch(&mut pager, &mut machine, 0x400 + block * 512, READ);
        }
        assert_eq!(machine.large.len() as u64, large + 1);
        large = machine.large.len() as u64;
    }
    assert_eq!(pager.recover(&mut machine), 0, "nothing is left");
    for block in 0..BLOCKS {
        let gfn = 0x400 + block * 512 + block;
        assert_eq!(machine.guest_word(gfn, 3), gfn as u32, "the data stays");
    }
    assert!(machine.large.values().all(|(_, rights)| !rights.contains(Rights::EXECUTE)), "W^X is not widened");
    touch(&mut pager, &mut machine, 0x400, FETCH);
    assert_eq!(machine.large.len() as u64, BLOCKS - 1, "who fetches gets small pages again");
}

#[test]
fn what_must_stay_small_does() {
    let (mut pager, mut machine) = split();
    for block in 0..BLOCKS {
        let track = SlotRequest::Track(Space::Normal, Gfn(0x400 + block * 512 + 9), Tracking::On);
        assert_eq!(pager.control(0, track, &mut machine), SlotReply::Done);
    }
    assert_eq!(pager.recover(&mut machine), 0, "a tracked page is in each");
    let (mut pager, mut machine) = split();
    let id = ipc_proto::slot::SlotId(1);
    let log = SlotRequest::SetFlags(Space::Normal, id, SlotFlags::LOG_DIRTY_PAGES);
    assert_eq!(pager.control(0, log, &mut machine), SlotReply::Done);
    assert_eq!(pager.recover(&mut machine), 0, "writes are seen page by page");
}

#[test]
fn a_block_that_the_kernel_does_not_give_up_stays_as_it_is() {
    let (mut pager, mut machine) = split();
    let before = machine.ept.clone();
    machine.refuse_after = Some((0, ipc_proto::refused::Refused::BadHandle));
    let recovered = pager.recover(&mut machine);
    assert!(recovered <= 1);
    assert_eq!(pager.vms[0].stats.collapses, recovered);
    assert!(machine.ept.len() + 512 * recovered as usize == before.len());
}

/// The timer brings the period about; without the workaround nobody asks for one.
#[test]
fn the_period_is_asked_for_and_kept() {
    let (mut pager, mut machine) = split();
    pager.policy.set("ticks", "1000").expect("an option of the policy");
    machine.tsc = 5000;
    pager.wake(&mut machine);
    assert_eq!(machine.wake, Some(6000));
    for (now, collapses) in [(5999, 0), (6000, 1), (6500, 1), (7000, 2)] {
        machine.tsc = now;
        pager.notice(&mut machine);
        assert_eq!(pager.vms[0].stats.collapses, collapses, "at {now}");
    }
    assert_eq!(machine.wake, Some(8000));
    pager.policy.set("nx_huge", "off").expect("an option of the policy");
    machine.wake = None;
    pager.notice(&mut machine);
    assert_eq!(machine.wake, None);
}
