//! Pagers that die at any write to memory, and before any operation of the kernel, while one makes way for another: whoever is
//! started then goes on, by what the server of the VM does about it (`servers/vcpu/src/serve/swap.rs`), and the guest cannot
//! tell.

use super::*;
use crate::testing::{Death, FakeMachine};
use ipc_proto::text::Text;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A guest, and what the supervisor and the VM's server do about its pager.
struct Swap {
    guest: Guest,
    frames: u64,
    /// The policy of the image that runs.
    image: &'static str,
    incarnation: u32,
    /// What the kernel says has died.
    deaths: u32,
}

/// The pager has stopped over what it was asked.
#[derive(Debug)]
struct Unreachable;

impl Swap {
    fn new(image: &'static str, frames: u64, slots: &[(u16, u64, u64, SlotFlags)]) -> Self {
        let mut machine = FakeMachine::default();
        machine.tsc = 1;
        machine.owned = (FIRST_PFN..FIRST_PFN + frames).collect();
        machine.images = std::vec![std::vec![7; 5 * 4096]];
        let mut pager = std::boxed::Box::new(Pager::empty());
        pager.prepare(FIRST_PFN, &whole(frames), 40, Chosen::by_name(image).expect("there is such a policy"));
        pager.take_over(&whole(frames), &mut machine);
        pager.keep_on(&mut machine).expect("there are frames enough");
        assert!(pager.set_image(SlotId(3), 0));
        let mut guest = Guest { pager, machine, holds: std::collections::BTreeMap::new(), notices: 0 };
        assert!(matches!(guest.ask(HELLO), SlotReply::Hello(_)));
        for (id, base, pages, flags) in slots {
            assert_eq!(guest.ask(SlotRequest::Create(slot(*id, *base, *pages, *flags))), SlotReply::Done);
        }
        guest.pager.wake(&mut guest.machine);
        Self { guest, frames, image, incarnation: 0, deaths: 0 }
    }

    /// Whoever runs is stopped, and that image begins, by what was kept.
    fn start(&mut self, image: &'static str) -> Result<(), Unreachable> {
        self.incarnation += 1;
        self.image = image;
        let begins = |swap: &mut Self| {
            let Self { guest, frames, incarnation, .. } = swap;
            let machine = &mut guest.machine;
            machine.drop_message();
            (machine.wake, machine.ready) = (None, Vec::new());
            *guest.pager = Pager::empty();
            guest.pager.prepare(
                FIRST_PFN,
                &whole(*frames),
                40,
                Chosen::by_name(image).expect("there is such a policy"),
            );
            guest.pager.equip(crate::machine::Cpu { abilities: machine.abilities, largest: machine.largest }, None)?;
            assert!(guest.pager.set_image(SlotId(3), 0));
            let kept = machine.kept;
            if kept == HANDED_OVER {
                guest.pager.take_up(&whole(*frames), *incarnation, machine).expect("it was handed over");
            } else {
                guest.pager.adopt((kept, &whole(*frames)), *incarnation, machine).expect("it was kept");
            }
            guest.pager.wake(machine);
            Ok::<(), crate::dirty::Way>(())
        };
        self.lives(|swap| begins(swap).expect("any CPU will do"))
    }

    /// Does that; whether the pager lives.
    fn lives<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> Result<T, Unreachable> {
        catch_unwind(AssertUnwindSafe(|| what(self))).map_err(|panic| {
            assert!(panic.is::<Death>(), "image {}, incarnation {}", self.image, self.incarnation);
            self.guest.machine.dies_after = None;
            self.deaths += 1;
            Unreachable
        })
    }

    fn ask(&mut self, request: SlotRequest) -> Result<SlotReply, Unreachable> {
        self.lives(|swap| swap.guest.ask(request))
    }

    /// `Hello` and every slot; what is there already is as good as done.
    fn tell(&mut self, slots: &[Slot]) -> Result<(), Unreachable> {
        assert!(matches!(self.ask(HELLO)?, SlotReply::Hello(_)));
        for slot in slots {
            let reply = self.ask(SlotRequest::Create(*slot))?;
            let exists = SlotReply::Refused(SlotRefused::Exists);
            assert!(reply == SlotReply::Done || reply == exists, "{slot:?}: {reply:?}");
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), Unreachable> {
        assert_eq!(self.ask(SlotRequest::TakeOver)?, SlotReply::Done);
        Ok(())
    }

    /// What `swap` on the console does. Says whether that image runs now.
    fn to(&mut self, image: &'static str) -> bool {
        let (before, mut slots) = (self.image, Vec::new());
        let handed = loop {
            match self.ask(SlotRequest::HandOver(slots.len() as u16)) {
                Ok(SlotReply::Slot(slot)) => slots.push(slot),
                Ok(SlotReply::Done) => break Some(()),
                Ok(reply) => panic!("{reply:?}"),
                Err(Unreachable) => break None,
            }
        };
        if handed.is_none() {
            self.start(before).expect("it dies once");
            self.tell(&slots).expect("it dies once");
            self.take_over().expect("it dies once");
            return false;
        }
        for image in [image, before, image] {
            if self.tries(image, &slots).is_ok() {
                return self.image == image && image != before;
            }
        }
        panic!("nobody takes over")
    }

    fn tries(&mut self, image: &'static str, slots: &[Slot]) -> Result<(), Unreachable> {
        self.start(image)?;
        self.tell(slots)?;
        if let Err(Unreachable) = self.take_over() {
            self.start(image)?;
            self.tell(slots)?;
            self.take_over()?;
        }
        Ok(())
    }

    /// Everything is as the guest has written it, and no frame is in two places, or in none.
    fn holds(&mut self) {
        reads_all(&mut self.guest);
        self.guest.check();
        // The next incarnation counts every frame, and stops when one is lost or doubled.
        let pool = self.guest.pager.vms[0].pool.left();
        // What is behind `>=` had tables for pages that share frames, and does not any more.
        self.start(self.image).expect("it dies once");
        assert!(self.guest.pager.vms[0].pool.left() >= pool, "frames are lost");
        reads_all(&mut self.guest);
    }
}

/// One death at each `stride`th step of a swap there and back. Says how many deaths there were, and how many of the swaps were done
/// all the same.
fn dies_everywhere(
    (from, to): (&'static str, &'static str),
    frames: u64,
    slots: &[(u16, u64, u64, SlotFlags)],
    stride: usize,
    write: impl Fn(&mut Guest),
) -> (u32, u32) {
    let (mut deaths, mut done) = (0, 0);
    for dies_after in (0..).step_by(stride) {
        let mut swap = Swap::new(from, frames, slots);
        write(&mut swap.guest);
        swap.guest.machine.dies_after = Some(dies_after);
        done += u32::from(swap.to(to));
        let died = swap.guest.machine.dies_after.take().is_none();
        swap.holds();
        write(&mut swap.guest);
        swap.holds();
        if !died {
            return (deaths, done - 1);
        }
        assert_eq!(swap.deaths, 1);
        deaths += 1;
    }
    (deaths, done)
}

#[test]
fn a_death_at_any_step_of_a_hand_over_loses_nothing() {
    let slots = [(1, 0, 40, PLAIN), (2, 0x1000, 8, SlotFlags::PRIVATE), (4, 0x2000, 4, SlotFlags::LOG_DIRTY_PAGES)];
    let (deaths, done) = dies_everywhere(("demand", "huge"), 80, &slots, 1, |guest| {
        (0..40).step_by(3).chain(0x1000..0x1004).chain([0x2001]).for_each(|gfn| {
            guest.write(gfn, Fill::Noise(gfn as u32)).expect("room");
        });
        guest.dirty(4);
    });
    assert!(deaths > 90 && done > 0 && done < deaths, "it died {deaths} times, and {done} swaps were done");
}

#[test]
fn a_death_over_large_pages_a_module_and_shared_frames_loses_nothing() {
    let slots = [(1, 0, 1024, PLAIN), (3, 0x1000, 8, PLAIN)];
    let (deaths, _) = dies_everywhere(("huge", "share"), 2048, &slots, 809, |guest| {
        guest.write(3, Fill::Easy(1)).expect("room");
        guest.write(700, Fill::Noise(2)).expect("room");
        guest.touch(0x1001, Rights::READ).expect("it is there");
    });
    assert!(deaths > 5, "it died {deaths} times only");
    let (deaths, _) = dies_everywhere(("share", "demand"), 100, &[(1, 0, 64, PLAIN)], 241, |guest| {
        (0..16).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32 / 5)).expect("room"));
        (20..24).for_each(|gfn| guest.read(gfn).expect("zeros"));
        guest.idle(100);
    });
    assert!(deaths > 5, "it died {deaths} times only");
}

#[test]
fn a_death_over_compressed_pages_loses_nothing() {
    let (deaths, _) = dies_everywhere(("clock", "demand"), 60, &[(1, 0, 40, PLAIN)], 2003, |guest| {
        let begins_compressed = guest.pager.policy.name() == "clock";
        (0..40).for_each(|gfn| guest.write(gfn, Fill::Easy(gfn as u32)).expect("room"));
        if begins_compressed {
            // Others make them smaller, and go.
            assert_eq!(guest.create(2, 0x100, 40), SlotReply::Done);
            (0x100..0x120).for_each(|gfn| guest.write(gfn, Fill::Noise(gfn as u32)).expect("they become smaller"));
            assert!(guest.counts().compressions > 10);
            guest.delete(2);
            guest.holds.retain(|gfn, _| *gfn < 0x100);
        }
    });
    assert!(deaths > 5, "it died {deaths} times only");
}

/// What is no slot is told anew; a swap that fails leaves what was set.
#[test]
fn what_was_set_outlives_a_death_over_a_hand_over() {
    for dies_after in (0..).step_by(7) {
        let mut swap = Swap::new("demand", 60, &[(1, 0, 20, PLAIN)]);
        swap.guest.write(3, Fill::Noise(3)).expect("room");
        let policy = SlotRequest::Policy(Text::cut("fault-around window=4"));
        assert_eq!(swap.guest.ask(policy), SlotReply::Done);
        swap.guest.machine.dies_after = Some(dies_after);
        let done = swap.to("huge");
        let died = swap.guest.machine.dies_after.take().is_none();
        if !done && swap.incarnation == 1 {
            assert_eq!(swap.guest.pager.policy.name(), "fault-around");
        }
        swap.holds();
        if !died {
            return;
        }
    }
}
