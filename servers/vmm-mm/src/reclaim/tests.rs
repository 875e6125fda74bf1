use crate::backing::guest::{Fill, Guest};
use crate::dirty::Way;
use crate::machine::Cpu;
use crate::testing::Asked;
use ipc_proto::fault::ClaimedReply;
use ipc_proto::grant::{Level, Rights};
use ipc_proto::memop::Abilities;
use ipc_proto::refused::DenyReason;
use ipc_proto::slot::SlotFlags;
use std::collections::BTreeSet;

const NONE: SlotFlags = SlotFlags::empty();
const LOGGED: SlotFlags = SlotFlags::LOG_DIRTY_PAGES;

#[test]
fn a_guest_larger_than_its_frames_keeps_its_content() {
    for abilities in [Abilities::all(), Abilities::empty()] {
        let mut guest = Guest::new("clock", 90, 250, NONE);
        guest.machine.abilities = abilities;
        for pass in 0..2 {
            for gfn in 0..200 {
                guest.write(gfn, Fill::Easy(gfn as u32 * 3 + pass)).expect("it fits");
            }
            for gfn in 0..250 {
                guest.read(gfn).expect("it fits");
            }
            guest.check();
        }
        let counts = guest.counts();
        assert!(counts.evictions > 500 && counts.decompressions > 300, "{counts:?}");
        assert!(counts.compressions * 4096 > 3 * counts.compressed_bytes, "a third at most");
    }
}

/// Under a policy that takes nothing back its next fault would be its last.
#[test]
fn a_guest_larger_than_its_frames_keeps_a_policy_that_takes_them_back() {
    let policy = |name| ipc_proto::slot::SlotRequest::Policy(ipc_proto::text::Text::cut(name));
    for (frames, reply) in [
        (90, ipc_proto::slot::SlotReply::Refused(ipc_proto::slot::SlotRefused::OutOfMemory)),
        (300, ipc_proto::slot::SlotReply::Done),
    ] {
        let mut guest = Guest::new("clock", frames, 250, NONE);
        (0..200).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
        assert_eq!(guest.ask(policy("wss")), reply, "{frames} frames");
        assert_eq!(guest.ask(policy("clock")), ipc_proto::slot::SlotReply::Done);
        (0..250).for_each(|gfn| guest.read(gfn).expect("it goes on"));
    }
}

#[test]
fn pages_of_zeros_need_no_room() {
    let mut guest = Guest::new("clock", 60, 1000, NONE);
    for gfn in 0..1000 {
        guest.read(gfn).expect("it fits");
    }
    let counts = guest.counts();
    assert_eq!((counts.compressions, guest.pager.backing.vms[0].zstore.pages()), (0, 0));
    assert!(counts.same_filled >= 900 && counts.same_filled == counts.evictions);
}

/// Store full: that VM is refused, once there is nothing to take back, and another one of the same pager is not harmed.
#[test]
fn a_guest_that_does_not_compress_is_denied_and_another_goes_on() {
    let mut guest = Guest::new("clock", 200, 700, NONE);
    for gfn in 0..40 {
        guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits");
    }
    let denied = (40..700).find_map(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).err().map(|why| (gfn, why)));
    let (gfn, why) = denied.expect("not everything fits");
    assert_eq!(why, DenyReason::OutOfMemory);
    assert!(gfn > 200, "what compresses made room first: {gfn}");
    assert_eq!(guest.touch(gfn, Rights::WRITE), Err(DenyReason::OutOfMemory), "again, and at once");
    assert_eq!(
        guest.through_window(gfn, Rights::READ),
        ClaimedReply::Deny(DenyReason::OutOfMemory),
        "a window is told so too"
    );
    for resident in (40..gfn).step_by(9) {
        guest.read(resident).expect("what it has it keeps");
    }
    guest.delete(1);
    guest.holds.clear();
    assert_eq!(guest.create(2, 0, 300), ipc_proto::slot::SlotReply::Done);
    (0..300).for_each(|gfn| guest.write(gfn, Fill::Easy(1)).expect("its frames came home"));
}

/// One instruction needs all of these pages at a time; false when it never has them.
fn together(guest: &mut Guest, gfns: &[u64]) -> Result<bool, DenyReason> {
    for _ in 0..1000 {
        for gfn in gfns {
            guest.touch(*gfn, Rights::WRITE)?;
            // What is done behind the reply.
            guest.idle(10_000);
        }
        if gfns.iter().all(|gfn| guest.machine.leaf(*gfn).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pages of its next instruction are the only ones that can be taken back: it ends, and does not fault for ever.
#[test]
fn a_guest_that_would_come_no_further_is_denied() {
    for (frames, rest) in [(200, 20), (600, 30)] {
        let mut guest = Guest::new("clock", frames, 4 * frames, NONE);
        let code: std::vec::Vec<u64> = (0..8).collect();
        code.iter().for_each(|gfn| guest.write(*gfn, Fill::Easy(*gfn as u32)).expect("it fits"));
        let mut step = |gfn: u64| {
            guest.write(gfn, Fill::Noise(gfn as u32))?;
            together(&mut guest, &code).map(|done| assert!(done, "gfn {gfn:#x}: it faults for ever"))
        };
        let denied = (8..4 * frames).find_map(|gfn| step(gfn).err().map(|why| (gfn, why)));
        let (gfn, why) = denied.expect("not everything fits");
        assert_eq!(why, DenyReason::OutOfMemory);
        assert!(gfn + rest > frames, "all but a small part of the frames was used: {gfn} of {frames}");
    }
}

/// Trying is what costs: a page is tried again when it holds something else, however often it is read and however little is left.
#[test]
fn a_page_that_does_not_become_smaller_is_tried_once_until_it_is_written() {
    let mut guest = Guest::new("clock", 800, 4000, NONE);
    (0..400).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("it fits"));
    for round in 0..5 {
        (400..1200).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32 + round)).expect("it fits"));
        (0..400).for_each(|gfn| guest.read(gfn).expect("it fits"));
    }
    let counts = guest.counts();
    assert!(counts.evictions > 3200, "some rounds have passed: {counts:?}");
    assert_eq!(counts.incompressible, 400);
    (0..400).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32 + 1000)).expect("it fits"));
    (400..2000).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    assert_eq!(guest.counts().incompressible, 800, "each write is worth one try");
    // The same pages hold something that does.
    (0..400).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    (1200..3000).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it is found out that they do"));
    (0..400).for_each(|gfn| guest.read(gfn).expect("it fits"));
    guest.check();
}

#[test]
fn what_was_written_and_taken_back_is_dirty_still_and_nothing_else_is() {
    for way in [Way::WriteProtect, Way::DirtyBits, Way::Pml] {
        let mut guest = Guest::new("clock", 70, 200, NONE);
        guest.machine.abilities = Abilities::all();
        let cpu = Cpu { abilities: Abilities::all(), largest: Level::Large };
        assert_eq!(guest.pager.equip(cpu, Some(way)), Ok(()));
        (0..200).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
        let flags =
            ipc_proto::slot::SlotRequest::SetFlags(ipc_proto::slot::Space::Normal, ipc_proto::slot::SlotId(1), LOGGED);
        assert_eq!(guest.ask(flags), ipc_proto::slot::SlotReply::Done);
        let mut written = BTreeSet::new();
        for gfn in (0..200).step_by(11) {
            guest.write(gfn, Fill::Easy(gfn as u32 + 7)).expect("it fits");
            written.insert(gfn);
        }
        // All of them are taken back, some twice.
        (0..200).for_each(|gfn| guest.read(gfn).expect("it fits"));
        assert_eq!(guest.dirty(1), written, "{way:?}");
        (0..200).for_each(|gfn| guest.read(gfn).expect("it fits"));
        assert_eq!(guest.dirty(1), BTreeSet::new());
        guest.write(5, Fill::Zero).expect("it fits");
        (0..200).for_each(|gfn| guest.read(gfn).expect("it fits"));
        assert_eq!(guest.dirty(1), BTreeSet::from([5]), "zeros too");
    }
}

#[test]
fn a_page_that_was_used_gets_a_second_chance() {
    let mut guest = Guest::new("clock", 80, 200, NONE);
    for gfn in 0..160 {
        guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits");
        // Touched again and again: the hand finds them used each time it passes.
        (0..8).for_each(|hot| guest.read(hot).expect("it fits"));
    }
    let before = guest.counts().decompressions;
    (0..8).for_each(|hot| guest.read(hot).expect("it fits"));
    assert_eq!(guest.counts().decompressions, before, "none of them was taken back");
    // The first round takes any: they may have been taken back once.
    assert!(before <= 8 * 3, "{before}");
}

#[test]
fn neighbours_are_unmapped_by_one_operation() {
    let mut guest = Guest::new("clock", 100, 200, NONE);
    (0..200).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    let unmaps: std::vec::Vec<u64> = guest
        .machine
        .asked
        .iter()
        .filter_map(|asked| if let Asked::Unmap(_, n) = asked { Some(*n) } else { None })
        .collect();
    assert!(unmaps.iter().sum::<u64>() >= guest.counts().evictions);
    let smaller = unmaps.iter().filter(|pages| **pages != super::PIECE).count();
    assert!(smaller <= 1, "only where a round ends: {unmaps:?}");
}

/// Whoever waits for a frame, or comes next, waits for a page to be packed, not for sixteen.
#[test]
fn a_piece_ends_with_the_page_over_which_its_time_is_up() {
    let mut guest = Guest::new("clock", 160, 300, NONE);
    let mut gfn = 0;
    while guest.pager.vms[0].pool.left() > 0 {
        guest.write(gfn, Fill::Noise(gfn as u32)).expect("it fits");
        gfn += 1;
    }
    let fault = guest.fault(0, gfn, Rights::WRITE);
    assert!(matches!(guest.answer(&fault), ClaimedReply::Pending(_)));
    guest.machine.each_look = super::TICKS / 4;
    let mut most = 0;
    while guest.machine.ready.is_empty() {
        let tried = guest.counts().incompressible;
        guest.notice();
        most = most.max(guest.counts().incompressible - tried);
    }
    assert!((1..=4).contains(&most), "{most} pages in one piece");
    assert_eq!(guest.touch(gfn, Rights::WRITE), Err(DenyReason::OutOfMemory), "and it ends");
}

#[test]
fn a_large_page_is_split_under_pressure() {
    let mut guest = Guest::new("huge", 1600, 1024, NONE);
    (0..1024).step_by(512).for_each(|gfn| guest.touch(gfn, Rights::WRITE).expect("it fits"));
    assert_eq!(guest.machine.large.len(), 2);
    (0..1024).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it is there"));
    guest.choose("clock");
    assert_eq!(guest.create(2, 4096, 1024), ipc_proto::slot::SlotReply::Done);
    (4096..5120).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    assert!(guest.machine.large.len() < 2 && guest.pager.vms[0].stats.splits > 0);
    (0..1024).chain(4096..5120).for_each(|gfn| guest.read(gfn).expect("it fits"));
    guest.check();
}

#[test]
fn content_that_is_damaged_is_not_given_to_the_guest() {
    let mut guest = Guest::new("clock", 100, 300, NONE);
    (0..300).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    let stored = |guest: &mut Guest, gfn| {
        let slot = guest.pager.vms[0].slots.lookup(ipc_proto::slot::Space::Normal, ipc_proto::grant::Gfn(gfn));
        let content = slot.expect("a slot").tree.page(gfn, &guest.machine).content();
        if let crate::store::Content::Packed(place) = content { Some(place) } else { None }
    };
    let (gfn, place) = (0..300).find_map(|gfn| Some((gfn, stored(&mut guest, gfn)?))).expect("some are stored");
    let (frame, word) = (place / 32, (place % 32) as usize * 32 + 4);
    let right = crate::machine::Memory::word(&guest.machine, frame, word);
    crate::machine::Memory::set_word(&mut guest.machine, frame, word, right ^ 0x100);
    assert_eq!(guest.touch(gfn, Rights::READ), Err(DenyReason::Internal));
    crate::machine::Memory::set_word(&mut guest.machine, frame, word, right);
    guest.read(gfn).expect("the store still has it");
}

#[test]
fn every_frame_comes_home() {
    let mut guest = Guest::with("clock", 300, &[(1, 0, 700, NONE), (2, 2048, 50, NONE)]);
    for gfn in (0..700).chain(2048..2098) {
        let fill = if gfn % 5 == 0 { Fill::Noise(gfn as u32) } else { Fill::Easy(gfn as u32) };
        guest.write(gfn, fill).expect("it fits");
    }
    guest.delete(1);
    (2048..2098).for_each(|gfn| guest.read(gfn).expect("it is another slot's"));
    guest.delete(2);
    let (pool, store) = (&guest.pager.vms[0].pool, &guest.pager.backing.vms[0].zstore);
    // Three frames of notes for each reader of what was used stay.
    assert_eq!((pool.donated(), pool.left() + store.frames(), store.pages()), (6, 294, 0));
}

/// A slot that was moved lies across the guest's blocks: what is taken back of one large page at once ends where the next begins.
#[test]
fn a_large_page_that_begins_amid_a_block_is_split_before_a_page_of_it_is_taken() {
    let mut guest = Guest::new("huge", 1600, 1024, NONE);
    (0..1024).step_by(8).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("it fits"));
    assert_eq!(guest.machine.large.len(), 2);
    guest.relocate(1, 0x2101);
    guest.holds = guest.holds.iter().map(|(gfn, fill)| (0x2101 + gfn, *fill)).collect();
    guest.choose("clock");
    assert_eq!(guest.create(2, 0x4000, 1200), ipc_proto::slot::SlotReply::Done);
    (0x4000..0x44b0).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("it fits"));
    for gfn in guest.holds.clone().into_keys() {
        guest.read(gfn).expect("it fits");
    }
    guest.check();
}

/// Of the same: it is mapped small, and what else lies in the guest's block stays, with what its D bits say.
#[test]
fn a_large_page_that_is_taken_amid_a_block_leaves_its_neighbours_writes() {
    let mut guest = Guest::new("huge", 600, 512, NONE);
    let cpu = Cpu { abilities: Abilities::ACCESSED_DIRTY, largest: Level::Huge };
    guest.machine.abilities = cpu.abilities;
    guest.pager.equip(cpu, Some(Way::DirtyBits)).expect("the CPU has it");
    guest.write(3, Fill::Easy(3)).expect("it fits");
    guest.relocate(1, 0x1100);
    guest.holds = [(0x1103, Fill::Easy(3))].into();
    guest.choose("clock");
    let logged = crate::testing::slot(2, 0x1000, 0x100, LOGGED);
    assert_eq!(guest.ask(ipc_proto::slot::SlotRequest::Create(logged)), ipc_proto::slot::SlotReply::Done);
    guest.write(0x1005, Fill::Easy(5)).expect("it fits");
    assert_eq!(guest.create(3, 0x4000, 200), ipc_proto::slot::SlotReply::Done);
    (0x4000..0x40c8).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("it fits"));
    assert!(guest.pager.vms[0].stats.splits > 0);
    assert_eq!(guest.dirty(2), BTreeSet::from([5]));
    guest.read(0x1103).expect("it fits");
}
