//! One pager makes way for another while the guest runs: it hands over, is replaced, and the next one is told of every slot.
//!
//! What goes wrong before the pager is stopped leaves it as it was. What goes wrong behind that brings the image back that was
//! there before, which takes over in the same way: until a pager has said that it has taken over, nothing is lost. Each may die
//! at any instruction; who dies over `TakeOver` may have begun to keep what it knows, and is asked once more.

use super::give_up;
use super::lives::{self, Images};
use super::pager::{Asked, Pager, PagerError, done_before};
use super::window::Ram;
use super::wrong::Wrong;
use core::fmt;
use heapless::Vec;
use ipc_proto::call::End;
use ipc_proto::lifecycle::{Features, Hello, Order};
use ipc_proto::manifest::Name;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotRefused, SlotReply, SlotRequest};
use ipc_proto::text::Text;
use ipc_proto::version::PROTOCOL;

/// The most slots that are handed over: more than a server makes, and than pagers must have room for.
const SLOTS: usize = 128;
/// How often the two images are tried in turn before the VM is given up. One that is sound takes over at once; each may be killed.
const TRIES: usize = 32;

/// How long each part has taken, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Swapped {
    handed: u64,
    begun: u64,
    taken: u64,
    slots: usize,
    frames: u64,
}

impl fmt::Display for Swapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handed, begun, taken, slots, frames } = self;
        let all = handed + begun + taken;
        write!(f, "paused ticks={all}: {handed} to hand over, {begun} to begin, {taken} to take over; ")?;
        write!(f, "{slots} slots, frames={frames}")
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
    pub fn perform(&self) -> Result<Swapped, Wrong> {
        let pager = Pager::of(self.vm);
        let began = rt::tsc();
        let mut slots = Vec::new();
        if let Err(why) = hand_over(&pager, &mut slots) {
            // Whatever it is asked, it goes on; or the next incarnation does, with what was told or what the last one knew.
            let ask = |request: &SlotRequest| pager.ask_until_answered(request);
            tell(&slots, ask)?;
            take_over(ask)?;
            self.tell_again(&pager);
            return Err(why);
        }
        let handed = rt::tsc();
        let mut failed = None;
        for image in [self.name, self.before].into_iter().cycle().take(TRIES) {
            match self.try_image(image, &pager, &slots) {
                Ok(begun) => {
                    self.tell_again(&pager);
                    lives::order(&Order::Stay, self.images)?;
                    let end = rt::tsc();
                    let frames = rt::mem_op(usize::from(self.vm), MemOp::Info, [0; 4]).map_or(0, |words| words[2]);
                    let (handed, begun, taken) = (handed - began, begun - handed, end - begun);
                    let swapped = Swapped { handed, begun, taken, slots: slots.len(), frames };
                    return if image == self.name { Ok(swapped) } else { failed.map_or(Ok(swapped), Err) };
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
    let hello = SlotRequest::Hello(Hello { version: PROTOCOL, features: Features::empty() });
    let mut all = [hello].into_iter().chain(slots.iter().copied().map(SlotRequest::Create));
    all.try_for_each(|request| done(&request, ask(&request)?))
}

/// It knows all, and answers faults from now on.
fn take_over(ask: impl Fn(&SlotRequest) -> Result<SlotReply, PagerError>) -> Result<(), PagerError> {
    done(&SlotRequest::TakeOver, ask(&SlotRequest::TakeOver)?)
}

fn done(request: &SlotRequest, reply: SlotReply) -> Result<(), PagerError> {
    let greeted = matches!(request, SlotRequest::Hello(_));
    match done_before(request, reply) {
        SlotReply::Hello(hello) if greeted && PROTOCOL.understands(hello.version) => Ok(()),
        SlotReply::Done if !greeted => Ok(()),
        SlotReply::Refused(why) => Err(PagerError::Refused(Asked::of(request), why)),
        SlotReply::Hello(_)
        | SlotReply::Done
        | SlotReply::Dirty(_)
        | SlotReply::Line(_)
        | SlotReply::Idle(_)
        | SlotReply::Left(_)
        | SlotReply::Slot(_) => Err(PagerError::Nonsense(Asked::of(request))),
    }
}
