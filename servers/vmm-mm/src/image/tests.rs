use crate::backing::guest::{Fill, Guest};
use crate::testing::slot;
use ipc_proto::fault::ClaimedReply;
use ipc_proto::grant::Rights;
use ipc_proto::slot::{SlotFlags, SlotId, SlotReply, SlotRequest};

/// Slot 7 has the content of module 1: two pages and a half; so has slot 8, which is read-only.
fn guest(policy: &str) -> Guest {
    let mut guest = Guest::with(policy, 200, &[]);
    guest.machine.images = std::vec![std::vec![], (0..10_240u32).map(|n| (n / 4 % 251) as u8).collect()];
    assert!(guest.pager.backing.images.set(SlotId(7), 1) && guest.pager.backing.images.set(SlotId(8), 1));
    assert!(!guest.pager.backing.images.set(SlotId(8), 0), "it has one");
    assert!(!guest.pager.backing.images.set(SlotId(9), 4), "there are four modules at most");
    for (id, base, flags) in [(7, 0, SlotFlags::empty()), (9, 512, SlotFlags::empty()), (8, 1024, SlotFlags::READONLY)]
    {
        assert_eq!(guest.ask(SlotRequest::Create(slot(id, base, 8, flags))), SlotReply::Done);
    }
    guest
}

fn word(guest: &mut Guest, gfn: u64, index: usize) -> u32 {
    guest.touch(gfn, Rights::READ).expect("it is memory");
    guest.machine.guest_word(gfn, index)
}

fn of_module(gfn: u64, index: usize) -> u32 {
    let at = gfn * 4096 + index as u64 * 4;
    if at < 10_240 { (at / 4 % 251) as u32 * 0x0101_0101 } else { 0 }
}

#[test]
fn a_slot_has_the_modules_content_and_zeros_behind_it() {
    for policy in crate::policy::Chosen::NAMES {
        let mut guest = guest(policy);
        for gfn in 0..8 {
            for index in [0, 500, 1023] {
                assert_eq!(word(&mut guest, gfn, index), of_module(gfn, index), "{policy}, gfn {gfn}");
            }
        }
        assert_eq!(word(&mut guest, 512, 0), 0, "another slot has not");
    }
}

#[test]
fn a_write_is_the_slots_own_and_the_module_stays() {
    let mut guest = guest("demand");
    assert_eq!(word(&mut guest, 0, 3), of_module(0, 3));
    let read = guest.frame(0);
    guest.write(0, Fill::Easy(1)).expect("it is memory");
    guest.write(1, Fill::Easy(2)).expect("it was never read");
    (0..2).for_each(|gfn| guest.read(gfn).expect("it is memory"));
    assert_eq!(guest.frame(0), read, "nobody else had it");
    guest.delete(7);
    guest.holds.clear();
    assert_eq!(guest.ask(SlotRequest::Create(slot(7, 0, 8, SlotFlags::empty()))), SlotReply::Done);
    assert_eq!((word(&mut guest, 0, 3), word(&mut guest, 1, 3)), (of_module(0, 3), of_module(1, 3)));
}

#[test]
fn two_slots_with_one_module_share_what_they_only_read() {
    let mut guest = guest("demand");
    assert_eq!((word(&mut guest, 0, 9), word(&mut guest, 1024, 9)), (of_module(0, 9), of_module(0, 9)));
    assert_eq!((guest.frame(0), guest.counts().image_reads), (guest.frame(1024), 1));
    let fault = guest.fault(0, 1024, Rights::WRITE);
    assert!(matches!(guest.answer(&fault), ClaimedReply::Mmio(_)), "read-only is read-only");
    guest.write(0, Fill::Easy(1)).expect("it is memory");
    assert_eq!(word(&mut guest, 1024, 9), of_module(0, 9), "the other still has the module's");
    guest.check();
}

#[test]
fn pages_of_a_module_are_taken_back_and_come_again() {
    let mut guest = Guest::with("clock", 80, &[(1, 4096, 300, SlotFlags::empty())]);
    guest.machine.images = std::vec![(0..81_920u32).map(|n| (n / 4 % 251) as u8).collect()];
    assert!(guest.pager.backing.images.set(SlotId(7), 0));
    assert_eq!(guest.ask(SlotRequest::Create(slot(7, 0, 24, SlotFlags::empty()))), SlotReply::Done);
    (0..10).for_each(|gfn| guest.write(gfn, Fill::Zero).expect("it is memory"));
    (4096..4396).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    (0..10).for_each(|gfn| guest.read(gfn).expect("written zeros are not the module's content"));
    for gfn in 10..24 {
        let expected = if gfn < 20 { ((gfn * 4096 / 4) % 251) as u32 * 0x0101_0101 } else { 0 };
        assert_eq!(word(&mut guest, gfn, 0), expected, "gfn {gfn}");
    }
}
