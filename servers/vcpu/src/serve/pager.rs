//! What this server asks of the VM's pager: to say hello, and to make slots.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use heapless::String;
use ipc_proto::layout::handle;
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{SlotRefused, SlotReply, SlotRequest, Topic};
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;
use rt::Task;

/// Longest request or reply, in bytes.
const LONGEST: usize = 256;

/// Why the pager did not do what it was asked.
#[derive(Clone, Debug)]
pub enum PagerError {
    /// The kernel did not carry the request.
    NotCarried(Refused),
    /// The pager refused this request.
    Refused(Asked, SlotRefused),
    /// Its answer is no answer to this request.
    Nonsense(Asked),
}

/// A request as people read it, as much of it as has room.
#[derive(Clone, Debug)]
pub struct Asked(String<64>);

impl Asked {
    /// That request.
    pub fn of(request: &SlotRequest) -> Self {
        let mut text = String::new();
        // What has no room is left out.
        let _ = write!(text, "{request:?}");
        Self(text)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCarried(refused) => write!(f, "the pager cannot be reached: {refused}"),
            Self::Refused(request, why) => write!(f, "the pager refuses {request}: {why:?}"),
            Self::Nonsense(request) => write!(f, "the pager's answer to {request} makes no sense"),
        }
    }
}

/// How long a pager that has stopped is waited for, in seconds, when somebody starts it again.
const PATIENCE_S: u64 = 10;
/// The same in ticks; 0 when nobody does.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// Whether the pager has died over a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Died {
    No,
    Yes,
}

/// The greeting of every pager.
pub const HELLO: SlotRequest = SlotRequest::Hello(Hello { version: PROTOCOL, features: Features::empty() });

/// What a pager can do that answers [`HELLO`] so.
pub fn features(reply: SlotReply) -> Result<Features, PagerError> {
    match reply {
        SlotReply::Hello(answer) if PROTOCOL.understands(answer.version) => Ok(answer.features),
        SlotReply::Refused(why) => Err(PagerError::Refused(Asked::of(&HELLO), why)),
        SlotReply::Hello(_)
        | SlotReply::Done
        | SlotReply::Dirty(_)
        | SlotReply::Line(_)
        | SlotReply::Idle(_)
        | SlotReply::Left(_)
        | SlotReply::Slot(_) => Err(PagerError::Nonsense(Asked::of(&HELLO))),
    }
}

/// Whether something was done that has no other answer.
pub fn done(request: &SlotRequest, reply: SlotReply) -> Result<(), PagerError> {
    match reply {
        SlotReply::Done => Ok(()),
        SlotReply::Refused(why) => Err(PagerError::Refused(Asked::of(request), why)),
        SlotReply::Hello(_)
        | SlotReply::Dirty(_)
        | SlotReply::Line(_)
        | SlotReply::Idle(_)
        | SlotReply::Left(_)
        | SlotReply::Slot(_) => Err(PagerError::Nonsense(Asked::of(request))),
    }
}

/// What the reply to a request means that may have been done before.
pub fn done_before(request: &SlotRequest, reply: SlotReply) -> SlotReply {
    match (request, reply) {
        (SlotRequest::Create(_), SlotReply::Refused(SlotRefused::Exists))
        | (SlotRequest::Delete(..), SlotReply::Refused(SlotRefused::NoSuchSlot)) => SlotReply::Done,
        (_, reply) => reply,
    }
}

/// The portal of a VM's pager, and that of its shadow, who is told of every change that the pager makes.
pub struct Pager {
    portal: u16,
    shadow: u16,
}

impl Pager {
    /// Greets the pager of VM `vm`.
    pub fn greet(vm: u16) -> Result<Self, PagerError> {
        let pager = Self::of(vm);
        features(pager.ask(&HELLO)?)?;
        Ok(pager)
    }

    /// The pager of VM `vm`, which has been greeted.
    pub fn of(vm: u16) -> Self {
        Self { portal: handle::pager(usize::from(vm)), shadow: handle::shadow(usize::from(vm)) }
    }

    /// Notes whether the pager of VM `vm` is started again when it has stopped: then it is waited for.
    pub fn is_revived(task: &Task, vm: usize) {
        if task.pager(vm).is_some_and(|pager| pager.restart != 0) {
            PATIENCE.store(task.info.tsc_hz.saturating_mul(PATIENCE_S), Relaxed);
        }
    }

    /// Whether VM `vm` has a pager that has stopped.
    pub fn has_stopped(vm: u16) -> bool {
        matches!(Self::greet(vm), Err(PagerError::NotCarried(Refused::Unreachable)))
    }

    /// Whether VM `vm` has a shadow that has stopped.
    pub fn shadow_has_stopped(vm: u16) -> bool {
        let nothing = SlotRequest::Tell(Topic::Policy, u16::MAX);
        let asked = Self::ask_at(handle::shadow(usize::from(vm)), &nothing);
        matches!(asked, Err(PagerError::NotCarried(Refused::Unreachable)))
    }

    /// Lets the pager of VM `vm`, if there is one, print its figures, and so its shadow: the system is about to end.
    pub fn report(vm: u16) {
        let pager = Self::of(vm);
        pager.tell_shadow(&SlotRequest::Stats);
        match pager.request(&SlotRequest::Stats) {
            Ok(()) | Err(PagerError::NotCarried(Refused::BadHandle)) => {}
            Err(error) => log::warn!("no figures of the pager: {error}"),
        }
    }

    /// Asks for something that is done or refused.
    pub fn request(&self, request: &SlotRequest) -> Result<(), PagerError> {
        done(request, self.ask(request)?)
    }

    /// Has it tell of something, line by line; says how many there were.
    pub fn tell(&self, topic: Topic, mut line: impl FnMut(&str)) -> Result<u16, PagerError> {
        for number in 0..u16::MAX {
            let request = SlotRequest::Tell(topic, number);
            match self.ask(&request)? {
                SlotReply::Line(text) => line(text.as_str()),
                SlotReply::Done => return Ok(number),
                SlotReply::Refused(why) => return Err(PagerError::Refused(Asked::of(&request), why)),
                SlotReply::Hello(_)
                | SlotReply::Dirty(_)
                | SlotReply::Idle(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => return Err(PagerError::Nonsense(Asked::of(&request))),
            }
        }
        Ok(u16::MAX)
    }

    /// Asks for anything. What changes something is told to the shadow too.
    pub fn ask(&self, request: &SlotRequest) -> Result<SlotReply, PagerError> {
        let answer = self.ask_until_answered(request)?;
        let done = matches!(answer, SlotReply::Done | SlotReply::Hello(_));
        if done && changes(request) {
            self.tell_shadow(request);
        }
        Ok(answer)
    }

    /// Asks, and does not wait for a pager that has stopped. The shadow is not told.
    pub fn ask_once(&self, request: &SlotRequest) -> Result<SlotReply, PagerError> {
        Self::ask_at(self.portal, request)
    }

    /// A pager that has died over a request is asked again when it is there again; what it was asked may have been done already.
    pub fn ask_until_answered(&self, request: &SlotRequest) -> Result<SlotReply, PagerError> {
        let mut died = Died::No;
        let until = rt::tsc().saturating_add(PATIENCE.load(Relaxed));
        loop {
            match Self::ask_at(self.portal, request) {
                Err(PagerError::NotCarried(Refused::Unreachable)) if rt::tsc() < until => died = Died::Yes,
                Ok(reply) if died == Died::Yes => return Ok(done_before(request, reply)),
                answer => return answer,
            }
        }
    }

    /// The shadow, if there is one, is asked for the same. What it answers changes nothing here.
    fn tell_shadow(&self, request: &SlotRequest) {
        match Self::ask_at(self.shadow, request) {
            Ok(SlotReply::Refused(why)) => log::warn!("the shadow refuses {}: {why:?}", Asked::of(request)),
            Ok(
                SlotReply::Hello(_)
                | SlotReply::Done
                | SlotReply::Dirty(_)
                | SlotReply::Line(_)
                | SlotReply::Idle(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_),
            )
            | Err(PagerError::NotCarried(Refused::BadHandle | Refused::Unreachable)) => {}
            Err(error) => log::warn!("the shadow: {error}"),
        }
    }

    fn ask_at(portal: u16, request: &SlotRequest) -> Result<SlotReply, PagerError> {
        let mut bytes = [0; LONGEST];
        let len = wire::encode(request, &mut bytes).map_err(|_| PagerError::Nonsense(Asked::of(request)))?;
        rt::write_message(&bytes[..len]);
        let len = rt::send(portal, len).map_err(PagerError::NotCarried)?;
        let answer = bytes.get_mut(..len).ok_or_else(|| PagerError::Nonsense(Asked::of(request)))?;
        rt::read_message(answer);
        wire::decode(answer).map_err(|_| PagerError::Nonsense(Asked::of(request)))
    }
}

/// Whether faults can be answered in another way after the request. Another policy is the pager's own affair, and what was
/// written or used is known to whose pages are mapped.
const fn changes(request: &SlotRequest) -> bool {
    match request {
        SlotRequest::Hello(_)
        | SlotRequest::Create(_)
        | SlotRequest::Delete(..)
        | SlotRequest::Move(..)
        | SlotRequest::SetFlags(..)
        | SlotRequest::Track(..)
        | SlotRequest::MemoryType(..) => true,
        SlotRequest::Stats
        | SlotRequest::Prefault(..)
        | SlotRequest::DirtyLog(..)
        | SlotRequest::Why(_)
        | SlotRequest::Tell(..)
        | SlotRequest::Policy(_)
        | SlotRequest::Idle(..)
        | SlotRequest::HandOver(_)
        | SlotRequest::TakeOver => false,
    }
}
