//! One pager hands over and another one goes on, by whatever policies they are: the guest cannot tell.

mod deaths;

use super::*;
use crate::backing::guest::{Fill, Guest};
use crate::policy::Chosen;
use crate::shares::whole;
use crate::testing::{FIRST_PFN, slot};
use ipc_proto::fault::ClaimedReply;
use ipc_proto::grant::Rights;
use ipc_proto::layout::HANDED_OVER;
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::memop::Abilities;
use ipc_proto::refused::DenyReason;
use ipc_proto::slot::{SlotId, SlotReply, SlotRequest};
use ipc_proto::version::PROTOCOL;
use std::vec::Vec;

const PLAIN: SlotFlags = SlotFlags::empty();
const HELLO: SlotRequest = SlotRequest::Hello(Hello { version: PROTOCOL, features: Features::empty() });

/// A guest on a pager that has all frames from the beginning.
fn guest(policy: &str, frames: u64, slots: &[(u16, u64, u64, SlotFlags)]) -> Guest {
    let mut guest = Guest::with(policy, frames, slots);
    guest.machine.owned = (FIRST_PFN..FIRST_PFN + frames).collect();
    guest
}

/// Every slot that the pager hands over.
fn handed(guest: &mut Guest) -> Result<Vec<Slot>, SlotRefused> {
    let mut slots = Vec::new();
    loop {
        match guest.ask(SlotRequest::HandOver(slots.len() as u16)) {
            SlotReply::Slot(slot) => slots.push(slot),
            SlotReply::Done => return Ok(slots),
            SlotReply::Refused(why) => return Err(why),
            reply => panic!("{reply:?}"),
        }
    }
}

/// Another pager begins, and has not been told of any slot.
fn begin(guest: &mut Guest, policy: &str, frames: u64, incarnation: u32) {
    assert_eq!(guest.machine.kept, HANDED_OVER);
    *guest.pager = Pager::empty();
    guest.pager.prepare(FIRST_PFN, &whole(frames), 40, Chosen::by_name(policy).expect("there is such a policy"));
    let cpu = crate::machine::Cpu { abilities: guest.machine.abilities, largest: guest.machine.largest };
    guest.pager.equip(cpu, None).expect("any CPU will do");
    (guest.machine.wake, guest.machine.ready) = (None, Vec::new());
    guest.pager.take_up(&whole(frames), incarnation, &mut guest.machine).expect("it was handed over");
}

/// From one pager to the next.
fn swap(guest: &mut Guest, policy: &str, frames: u64, incarnation: u32) {
    let slots = handed(guest).expect("there is room");
    begin(guest, policy, frames, incarnation);
    assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
    for slot in slots {
        assert_eq!(guest.ask(SlotRequest::Create(slot)), SlotReply::Done, "{slot:?}");
    }
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Done);
    assert_ne!(guest.machine.kept, HANDED_OVER);
    guest.check();
}

fn reads_all(guest: &mut Guest) {
    for gfn in guest.holds.keys().copied().collect::<Vec<_>>() {
        guest.read(gfn).expect("it is there");
    }
}

#[test]
fn what_one_pager_hands_over_the_next_one_has_whatever_their_policies() {
    for (from, to) in
        [("demand", "huge"), ("fault-around", "share"), ("huge", "demand"), ("share", "clock"), ("eager", "huge")]
    {
        let mut guest = guest(from, 4000, &[(1, 0, 1100, PLAIN), (2, 0x1000, 16, SlotFlags::PRIVATE)]);
        for gfn in (0..1100).step_by(23).chain(0x1000..0x1008) {
            guest
                .write(gfn, if gfn % 2 == 0 { Fill::Easy(gfn as u32 / 70) } else { Fill::Noise(gfn as u32) })
                .expect("room");
        }
        (900..920).for_each(|gfn| guest.read(gfn).expect("zeros"));
        guest.idle(50);
        swap(&mut guest, to, 4000, 1);
        reads_all(&mut guest);
        (0..1100).step_by(29).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("room"));
        swap(&mut guest, from, 4000, 2);
        reads_all(&mut guest);
        guest.delete(1);
        guest.delete(2);
        let head = 1 + 1 + u64::from(guest.pager.backing.keeper.head().is_some());
        let pool = &guest.pager.vms[0].pool;
        assert!(
            pool.left() + head + 1 + guest.machine.donated >= 3990,
            "{from} {to}: frames are lost: {}",
            pool.left()
        );
    }
}

/// A boot module's content, compressed pages and pages that share a frame are in frames of their own then.
#[test]
fn what_was_in_no_frame_of_its_own_is_handed_over_too() {
    let mut guest = guest("clock", 60, &[(1, 0, 80, PLAIN)]);
    (0..70).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it becomes smaller"));
    assert!(guest.counts().compressions > 0);
    assert_eq!(handed(&mut guest), Err(SlotRefused::OutOfMemory));
    reads_all(&mut guest);
    guest.delete(1);
    assert_eq!(guest.create(2, 0, 40), SlotReply::Done);
    guest.holds.clear();
    (0..40).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32 / 9)).expect("room"));
    guest.choose("share");
    guest.idle(200);
    swap(&mut guest, "demand", 60, 1);
    let mut frames: Vec<u64> = guest.machine.ept.values().map(|(pfn, _)| *pfn).collect();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), 40, "each page has a frame");
    reads_all(&mut guest);
}

#[test]
fn a_slots_image_is_handed_over_whether_it_was_read_or_not() {
    let mut guest = guest("demand", 200, &[]);
    guest.machine.images = std::vec![std::vec![7; 5 * 4096]];
    assert!(guest.pager.set_image(SlotId(3), 0));
    assert_eq!(guest.create(3, 0x100, 8), SlotReply::Done);
    guest.touch(0x101, Rights::READ).expect("it is there");
    swap(&mut guest, "demand", 200, 1);
    for gfn in 0x100..0x108 {
        guest.touch(gfn, Rights::WRITE).expect("it is there");
        assert_eq!(guest.machine.guest_word(gfn, 9), if gfn < 0x105 { 0x0707_0707 } else { 0 });
    }
}

/// From the first question on nothing changes, and vCPUs wait; any other request ends that.
#[test]
fn a_pager_that_has_handed_over_stands_still_until_it_is_asked_for_anything_else() {
    let mut guest = guest("demand", 100, &[(1, 0, 20, PLAIN)]);
    guest.pager.keep_on(&mut guest.machine).expect("room");
    guest.write(3, Fill::Noise(3)).expect("room");
    assert_eq!(guest.ask(SlotRequest::HandOver(1)), SlotReply::Refused(SlotRefused::NoHandOver));
    let kept = guest.machine.kept;
    let told = handed(&mut guest).expect("there is room");
    assert_eq!(told, [slot(1, 0, 20, PLAIN)]);
    let (mapped, fault) = (guest.machine.ept.clone(), guest.fault(0, 5, Rights::READ));
    let ClaimedReply::Pending(token) = guest.answer(&fault) else { panic!("it should wait") };
    assert_eq!(guest.through_window(6, Rights::READ), ClaimedReply::Deny(DenyReason::Policy));
    guest.pager.notice(&mut guest.machine);
    guest.pager.at_leisure(&mut guest.machine);
    assert_eq!((&guest.machine.ept, guest.machine.kept), (&mapped, HANDED_OVER));
    assert_eq!(guest.ask(SlotRequest::HandOver(0)), SlotReply::Slot(told[0]));
    assert_eq!(guest.ask(SlotRequest::Stats), SlotReply::Done);
    assert_eq!((guest.machine.kept, guest.machine.ready.contains(&token)), (kept, true));
    guest.read(5).expect("faults are answered again");
    assert_eq!(guest.ask(SlotRequest::HandOver(1)), SlotReply::Refused(SlotRefused::NoHandOver));
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Done, "there is nothing to take over");
}

/// Until all slots are there a vCPU waits, and what the ledger has stays as it is; what no slot has is not accepted.
#[test]
fn a_pager_that_takes_over_waits_for_every_slot() {
    let mut guest = guest("demand", 100, &[(1, 0, 20, PLAIN), (2, 0x200, 20, SlotFlags::LOG_DIRTY_PAGES)]);
    [3, 4, 0x203].into_iter().for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("room"));
    guest.dirty(2);
    let told = handed(&mut guest).expect("there is room");
    begin(&mut guest, "demand", 100, 1);
    let mapped = guest.machine.ept.clone();
    let fault = guest.fault(0, 5, Rights::READ);
    assert!(matches!(guest.answer(&fault), ClaimedReply::Pending(_)), "its slot may come");
    assert_eq!(guest.ask(SlotRequest::Create(told[0])), SlotReply::Refused(SlotRefused::NoHello));
    assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
    let cut = Slot { pages: 4, ..told[0] };
    assert_eq!(guest.ask(SlotRequest::Create(cut)), SlotReply::Done);
    assert_eq!(guest.ask(SlotRequest::Create(told[1])), SlotReply::Done);
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Refused(SlotRefused::NoHandOver));
    assert_eq!((&guest.machine.ept, guest.machine.kept), (&mapped, HANDED_OVER));
    // Somebody else does better.
    begin(&mut guest, "demand", 100, 2);
    assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
    for slot in told {
        assert_eq!(guest.ask(SlotRequest::Create(slot)), SlotReply::Done);
        assert!(matches!(guest.answer(&fault), ClaimedReply::Pending(_)));
    }
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Done);
    assert!(!guest.machine.ready.is_empty());
    reads_all(&mut guest);
    assert_eq!(guest.dirty(2).into_iter().collect::<Vec<_>>(), [3], "it may have been written");
    assert!(guest.dirty(2).is_empty());
    guest.write(0x204, Fill::Zero).expect("room");
    assert_eq!(guest.dirty(2).into_iter().collect::<Vec<_>>(), [4]);
}

/// The ledger that the next pager reads is not told of VMs that the same pager has besides.
#[test]
fn a_pager_of_two_vms_is_not_handed_over() {
    let mut guest = guest("demand", 100, &[(1, 0, 20, PLAIN)]);
    guest.write(3, Fill::Noise(3)).expect("room");
    assert!(matches!(guest.pager.control(1, HELLO, &mut guest.machine), SlotReply::Hello(_)));
    assert_eq!(handed(&mut guest), Err(SlotRefused::NoHandOver));
    assert_ne!(guest.machine.kept, HANDED_OVER);
    guest.write(4, Fill::Noise(4)).expect("it answers as before");
}

/// A slot that was moved lies elsewhere in guest memory than its large pages do in its tree: around a fault in one, a part of its
/// neighbour is mapped small, and all of that is handed over, wherever in the guest's block it begins.
#[test]
fn a_large_page_of_which_a_part_is_mapped_is_handed_over_whole() {
    for base in [0x1001, 0x11ff] {
        let mut guest = guest("huge", 2048, &[(1, 0, 1024, PLAIN)]);
        [3, 1023].into_iter().for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("room"));
        assert_eq!(guest.machine.large.len(), 2);
        guest.relocate(1, base);
        guest.holds = guest.holds.iter().map(|(gfn, fill)| (base + gfn, *fill)).collect();
        guest.touch(base + 511, Rights::READ).expect("it is there");
        let mapped = |guest: &Guest, offset| guest.machine.leaf(base + offset).is_some();
        assert!(mapped(&guest, 512) && !mapped(&guest, 1023), "the second large page is mapped in part");
        swap(&mut guest, "demand", 2048, 1);
        reads_all(&mut guest);
    }
}

/// A log makes large pages small, if it knows of them. On a CPU that writes down the pages themselves nobody would notice.
#[test]
fn a_large_page_is_taken_over_as_one() {
    let mut guest = guest("huge", 2048, &[(1, 0, 512, PLAIN)]);
    guest.machine.abilities = Abilities::ACCESSED_DIRTY;
    guest.write(3, Fill::Noise(3)).expect("room");
    swap(&mut guest, "huge", 2048, 1);
    let logged = SlotRequest::SetFlags(Space::Normal, SlotId(1), SlotFlags::LOG_DIRTY_PAGES);
    assert_eq!(guest.ask(logged), SlotReply::Done);
    guest.write(5, Fill::Noise(5)).expect("room");
    assert_eq!(guest.dirty(1).into_iter().collect::<Vec<_>>(), [5], "a log has no large page");
    reads_all(&mut guest);
}

#[test]
fn every_frame_that_is_not_mapped_is_free_after_a_takeover() {
    let mut guest = guest("demand", 100, &[(1, 0, 20, PLAIN)]);
    [3, 9].into_iter().for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("room"));
    swap(&mut guest, "demand", 100, 1);
    guest.delete(1);
    // The head of what is kept, a bit for each frame, the slots' records.
    let keeper = 3;
    assert_eq!(guest.pager.vms[0].pool.left() + guest.machine.donated + keeper, 100);
}

/// Whoever handed over did not log: its large pages are mapped, and each D bit would say of 512 pages that they were written.
#[test]
fn what_is_logged_from_the_takeover_on_is_mapped_anew() {
    let mut guest = guest("huge", 2048, &[(1, 0, 512, PLAIN)]);
    guest.machine.abilities = Abilities::ACCESSED_DIRTY;
    guest.write(3, Fill::Noise(3)).expect("room");
    let told = handed(&mut guest).expect("there is room");
    begin(&mut guest, "huge", 2048, 1);
    assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
    let logged = Slot { flags: SlotFlags::LOG_DIRTY_PAGES, ..told[0] };
    assert_eq!(guest.ask(SlotRequest::Create(logged)), SlotReply::Done);
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Done);
    assert_eq!(guest.dirty(1).len(), 512, "each may have been written");
    guest.write(5, Fill::Noise(5)).expect("room");
    assert_eq!(guest.dirty(1).into_iter().collect::<Vec<_>>(), [5]);
    reads_all(&mut guest);
}

#[test]
fn a_leaf_that_reaches_beyond_its_slot_is_not_taken_over() {
    let mut guest = guest("huge", 2048, &[(1, 0, 512, PLAIN)]);
    guest.write(3, Fill::Noise(3)).expect("room");
    let told = handed(&mut guest).expect("there is room");
    begin(&mut guest, "huge", 2048, 1);
    assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
    let mapped = guest.machine.large.clone();
    let cut = Slot { pages: 511, ..told[0] };
    assert_eq!(guest.ask(SlotRequest::Create(cut)), SlotReply::Refused(SlotRefused::NoHandOver));
    assert_eq!(guest.machine.large, mapped);
    assert_eq!(guest.ask(SlotRequest::Create(told[0])), SlotReply::Done);
    assert_eq!(guest.ask(SlotRequest::TakeOver), SlotReply::Done);
    reads_all(&mut guest);
}
