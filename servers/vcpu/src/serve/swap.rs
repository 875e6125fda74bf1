//! One pager makes way for another while the guest runs.
//!
//! If the one keeps what it knows, the other is started as after its death, and goes on from that if it can read it: nothing is
//! asked, moved or told. Else the pager hands over by the ledger, is replaced, and the next one is told of every slot.
//!
//! What goes wrong before the pager is stopped leaves it as it was. What goes wrong behind that brings the image back that was
//! there before, which goes on in the same way: until a pager has said that it has taken over, nothing is lost. Each may die
//! at any instruction; who dies over `TakeOver` may have begun to keep what it knows, and is asked once more.

use super::give_up;
use super::lives::{self, Images};
use super::pager::{Asked, HELLO, Pager, PagerError, done, done_before, features};
use super::window::Ram;
use super::wrong::Wrong;
use core::{fmt, iter};
use heapless::Vec;
use ipc_proto::call::End;
use ipc_proto::lifecycle::{Features, Order};
use ipc_proto::manifest::Name;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotRefused, SlotReply, SlotRequest};
use ipc_proto::text::Text;
use vcpu::console::Way;

/// The most slots that are handed over: more than a server makes, and than pagers must have room for.
const SLOTS: usize = 128;
/// How often the two images are tried in turn before the VM is given up. One that is sound takes over at once; each may be killed.
const TRIES: usize = 32;

/// What came of it: for how long the guest stood still.
#[derive(Clone, Copy, Debug)]
pub struct Swapped {
    ticks: u64,
    by: By,
    frames: u64,
}

/// What the next pager has gone on from.
#[derive(Clone, Copy, Debug)]
enum By {
    /// What the one before kept.
    Kept,
    /// The kernel's ledger. How many ticks each part has taken.
    Ledger { handed: u64, begun: u64, taken: u64, slots: usize },
}

impl fmt::Display for Swapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, by, frames } = self;
        write!(f, "paused ticks={ticks}: ")?;
        match by {
            By::Kept => f.write_str("it goes on from what was kept; ")?,
            By::Ledger { handed, begun, taken, slots } => {
                write!(f, "{handed} to hand over, {begun} to begin, {taken} to take over; {slots} slots, ")?;
            }
        }
        write!(f, "frames={frames}")
    }
}

/// A swap: of which VM's pager, from which image to which, and what the pager was asked that is no slot.
pub struct Swap<'a> {
    /// The VM.
    pub vm: u16,
    /// The image that it has.
    pub before: &'a Name,
    /// The image that it shall have.
    pub name: &'a Name,
    /// Those that there are.
    pub images: &'a Images,
    /// Pages that are tracked.
    pub memory: &'a Ram,
    /// The policy that was chosen while the guest ran.
    pub policy: Option<Text>,
}

impl Swap<'_> {
    /// Replaces the pager.
    pub fn perform(&self, way: Way) -> Result<Swapped, Wrong> {
        let pager = Pager::of(self.vm);
        let began = rt::tsc();
        let keeps = features(pager.ask_until_answered(&HELLO)?)?.contains(Features::KEEPS);
        let by = if keeps && way == Way::Kept && self.by_what_is_kept(&pager)? {
            By::Kept
        } else {
            self.by_the_ledger(&pager)?
        };
        let ticks = rt::tsc() - began;
        let frames = rt::mem_op(usize::from(self.vm), MemOp::Info, [0; 4]).map_or(0, |words| words[2]);
        Ok(Swapped { ticks, by, frames })
    }

    /// Starts the image as if the pager had died: what that kept is all that is asked of it, and a pager that cannot read it stops
    /// before it answers anything. Says whether it goes on; if not, the image before does.
    fn by_what_is_kept(&self, pager: &Pager) -> Result<bool, Wrong> {
        for image in iter::once(self.name).chain(iter::repeat(self.before)).take(TRIES) {
            lives::order(&Order::Swap(image.clone()), self.images)?;
            match pager.ask_once(&HELLO).and_then(features) {
                Ok(features) if features.contains(Features::KEEPS) => {
                    lives::order(&Order::Stay, self.images)?;
                    return Ok(image == self.name);
                }
                Ok(_) => log::error!("pager {image} keeps nothing itself, and cannot have read what was kept"),
                Err(PagerError::NotCarried(Refused::Unreachable)) => {
                    log::debug!("pager {image} does not go on from what was kept");
                }
                Err(why) => log::error!("pager {image} does not go on from what was kept: {why}"),
            }
        }
        log::error!("no pager goes on, and this VM cannot do without");
        give_up(End::ServerFailed)
    }

    /// The pager tells everything by the ledger, and the image goes on from there; if it does not, the image before does.
    fn by_the_ledger(&self, pager: &Pager) -> Result<By, Wrong> {
        let began = rt::tsc();
        let mut slots = Vec::new();
        if let Err(why) = hand_over(pager, &mut slots) {
            // Whatever it is asked, it goes on; or the next incarnation does, with what was told or what the last one knew.
            let ask = |request: &SlotRequest| pager.ask_until_answered(request);
            tell(&slots, ask)?;
            take_over(ask)?;
            self.tell_again(pager);
            return Err(why);
        }
        let handed = rt::tsc();
        let mut failed = None;
        for image in [self.name, self.before].into_iter().cycle().take(TRIES) {
            match self.try_image(image, pager, &slots) {
                Ok(begun) => {
                    self.tell_again(pager);
                    lives::order(&Order::Stay, self.images)?;
                    let (handed, begun, taken) = (handed - began, begun - handed, rt::tsc() - begun);
                    let by = By::Ledger { handed, begun, taken, slots: slots.len() };
                    return if image == self.name { Ok(by) } else { failed.map_or(Ok(by), Err) };
                }
                Err(why) => {
                    log::error!("pager {image} does not take over: {why}");
                    failed.get_or_insert(why);
                }
            }
        }
        log::error!("no pager takes over, and this VM cannot do without");
        give_up(End::ServerFailed)
    }

    /// Starts an image and tells it of every slot. Says when it had begun.
    fn try_image(&self, image: &Name, pager: &Pager, slots: &[Slot]) -> Result<u64, Wrong> {
        let order = Order::Swap(image.clone());
        lives::order(&order, self.images)?;
        let begun = rt::tsc();
        let ask = |request: &SlotRequest| pager.ask_once(request);
        tell(slots, ask)?;
        match take_over(ask) {
            Err(PagerError::NotCarried(Refused::Unreachable)) => {
                lives::order(&order, self.images)?;
                tell(slots, ask)?;
                take_over(ask)?;
            }
            taken => taken?,
        }
        Ok(begun)
    }

    /// What is no slot the next pager does not know.
    fn tell_again(&self, pager: &Pager) {
        if let Err(why) = self.memory.track_again() {
            log::error!("what was tracked is not any more: {why}");
        }
        match self.policy.map(|policy| pager.request(&SlotRequest::Policy(policy))) {
            None | Some(Ok(()) | Err(PagerError::Refused(_, SlotRefused::UnknownPolicy))) => {}
            Some(Err(why)) => log::warn!("the policy is the pager's own: {why}"),
        }
    }
}

/// The pager stands still, and says which slots there are.
fn hand_over(pager: &Pager, slots: &mut Vec<Slot, SLOTS>) -> Result<(), Wrong> {
    loop {
        let request = SlotRequest::HandOver(slots.len() as u16);
        match pager.ask_once(&request)? {
            SlotReply::Slot(slot) => slots.push(slot).map_err(|_| Wrong::TooManySlots)?,
            SlotReply::Done => return Ok(()),
            SlotReply::Refused(why) => return Err(PagerError::Refused(Asked::of(&request), why).into()),
            SlotReply::Hello(_)
            | SlotReply::Dirty(_)
            | SlotReply::Line(_)
            | SlotReply::Idle(_)
            | SlotReply::Left(_) => return Err(PagerError::Nonsense(Asked::of(&request)).into()),
        }
    }
}

/// A pager that has just begun is told of every slot. One that knows them says so, and nothing is changed by it.
fn tell(slots: &[Slot], ask: impl Fn(&SlotRequest) -> Result<SlotReply, PagerError>) -> Result<(), PagerError> {
    features(ask(&HELLO)?)?;
    let mut all = slots.iter().copied().map(SlotRequest::Create);
    all.try_for_each(|request| done(&request, done_before(&request, ask(&request)?)))
}

/// It knows all, and answers faults from now on.
fn take_over(ask: impl Fn(&SlotRequest) -> Result<SlotReply, PagerError>) -> Result<(), PagerError> {
    done(&SlotRequest::TakeOver, ask(&SlotRequest::TakeOver)?)
}
