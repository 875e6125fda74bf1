//! One pager makes way for another while the guest runs: it hands over, is replaced, and the next one is told of every slot.
//!
//! What goes wrong before the pager is stopped leaves it as it was. What goes wrong behind that brings the image back that was
//! there before, which takes over in the same way: until a pager has said that it has taken over, nothing is lost.

use super::lives::{self, Images};
use super::pager::{Asked, Pager, PagerError};
use super::window::Ram;
use super::wrong::Wrong;
use core::fmt;
use heapless::Vec;
use ipc_proto::lifecycle::{Features, Hello, Order};
use ipc_proto::manifest::Name;
use ipc_proto::memop::MemOp;
use ipc_proto::slot::{Slot, SlotReply, SlotRequest};
use ipc_proto::version::PROTOCOL;

/// The most slots that are handed over: more than a server makes, and than pagers must have room for.
const SLOTS: usize = 128;

/// How long each part has taken, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Swapped {
    handed: u64,
    stopped: u64,
    taken: u64,
    slots: usize,
    frames: u64,
}

impl fmt::Display for Swapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handed, stopped, taken, slots, frames } = self;
        let all = handed + stopped + taken;
        write!(f, "paused ticks={all}: {handed} to hand over, {stopped} to begin, {taken} to take over; ")?;
        write!(f, "{slots} slots, frames={frames}")
    }
}

/// Replaces the pager of VM `vm`, which has image `before`, by image `name`.
pub fn swap(vm: u16, (before, name): (&Name, &Name), images: &Images, memory: &Ram) -> Result<Swapped, Wrong> {
    let pager = Pager::of(vm);
    let began = rt::tsc();
    let slots = match hand_over(&pager) {
        Ok(slots) => slots,
        Err(why) => {
            // Whatever it is asked, it goes on.
            let _ = Pager::greet(vm);
            return Err(why);
        }
    };
    let handed = rt::tsc();
    let begun = lives::order(&Order::Swap(name.clone()), images);
    let stopped = rt::tsc();
    let taken = begun.map_err(Wrong::from).and_then(|()| take_over(&pager, &slots).map_err(Wrong::from));
    if let Err(why) = taken {
        log::error!("pager {name} does not take over: {why}; {before} comes back");
        lives::order(&Order::Swap(before.clone()), images)?;
        take_over(&pager, &slots)?;
        memory.track_again()?;
        return Err(why);
    }
    let taken = rt::tsc() - stopped;
    memory.track_again()?;
    let frames = rt::mem_op(usize::from(vm), MemOp::Info, [0; 4]).map_or(0, |words| words[2]);
    Ok(Swapped { handed: handed - began, stopped: stopped - handed, taken, slots: slots.len(), frames })
}

/// The pager stands still, and says which slots there are.
fn hand_over(pager: &Pager) -> Result<Vec<Slot, SLOTS>, Wrong> {
    let mut slots = Vec::new();
    loop {
        let request = SlotRequest::HandOver(slots.len() as u16);
        match pager.ask_once(&request)? {
            SlotReply::Slot(slot) => slots.push(slot).map_err(|_| Wrong::TooManySlots)?,
            SlotReply::Done => return Ok(slots),
            SlotReply::Refused(why) => return Err(PagerError::Refused(Asked::of(&request), why).into()),
            SlotReply::Hello(_)
            | SlotReply::Dirty(_)
            | SlotReply::Line(_)
            | SlotReply::Idle(_)
            | SlotReply::Left(_) => return Err(PagerError::Nonsense(Asked::of(&request)).into()),
        }
    }
}

/// The pager that has just begun is told of every slot. It is not waited for: one that dies at once is not the right one.
fn take_over(pager: &Pager, slots: &[Slot]) -> Result<(), PagerError> {
    let hello = SlotRequest::Hello(Hello { version: PROTOCOL, features: Features::empty() });
    let all = [hello].into_iter().chain(slots.iter().copied().map(SlotRequest::Create)).chain([SlotRequest::TakeOver]);
    for request in all {
        match pager.ask_once(&request)? {
            SlotReply::Hello(_) | SlotReply::Done => {}
            SlotReply::Refused(why) => return Err(PagerError::Refused(Asked::of(&request), why)),
            SlotReply::Dirty(_) | SlotReply::Line(_) | SlotReply::Idle(_) | SlotReply::Left(_) | SlotReply::Slot(_) => {
                return Err(PagerError::Nonsense(Asked::of(&request)));
            }
        }
    }
    Ok(())
}
