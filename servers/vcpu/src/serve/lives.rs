//! The lives of the VM's pager: the supervisor is asked to end one and to begin another, with the same image or another one.

use core::fmt::{self, Write};
use heapless::{String, Vec};
use ipc_proto::layout::handle;
use ipc_proto::lifecycle::{Order, Supervised};
use ipc_proto::manifest::{MAX_SPARES, Name};
use ipc_proto::refused::Refused;
use ipc_proto::wire;
use rt::Task;

/// The longest order or answer, in bytes.
const LONGEST: usize = 64;

/// The images that the pager can be started with.
#[derive(Clone, Debug)]
pub struct Images(Vec<Name, { MAX_SPARES + 1 }>);

/// Their names, as many as have room.
#[derive(Clone, Debug)]
pub struct Named(String<96>);

/// Why the pager lives on as it was, or does not live.
#[derive(Clone, Debug)]
pub enum NotSupervised {
    /// The system has no supervisor, or it has stopped.
    Alone(Refused),
    /// The pager has no such image, but these.
    NoImage(Named),
    /// It was stopped, and the kernel does not start it.
    NotStarted,
    /// The supervisor's answer makes no sense.
    Nonsense,
}

impl fmt::Display for NotSupervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(Refused::BadHandle) => f.write_str("this system has no supervisor that could do it"),
            Self::Alone(refused) => write!(f, "the supervisor cannot be reached: {refused}"),
            Self::NoImage(Named(images)) => write!(f, "the pager has no such image, but{images}"),
            Self::NotStarted => f.write_str("the pager was stopped, and is not started again"),
            Self::Nonsense => f.write_str("the supervisor's answer makes no sense"),
        }
    }
}

impl Images {
    /// Those of the pager of VM `vm`.
    pub fn of(task: &Task, vm: u16) -> Self {
        let pager = task.pager(usize::from(vm));
        let names = pager.into_iter().flat_map(|pager| [pager.image].into_iter().chain(pager.spares));
        Self(names.filter_map(|name| Name::try_from(name).ok()).collect())
    }

    fn names(&self) -> Named {
        let mut text = String::new();
        // What has no room is left out.
        let _ = self.0.iter().try_for_each(|image| write!(text, " {image}"));
        Named(text)
    }

    /// The one that the pager begins with.
    pub fn first(&self) -> Option<&Name> {
        self.0.first()
    }

    /// The image of that name.
    pub fn find(&self, name: &str) -> Result<Name, NotSupervised> {
        self.0.iter().find(|image| *image == name).cloned().ok_or_else(|| NotSupervised::NoImage(self.names()))
    }
}

/// Has the supervisor do that to the VM's pager. When it is done, the next life of the pager has begun.
pub fn order(order: &Order, images: &Images) -> Result<(), NotSupervised> {
    let mut bytes = [0; LONGEST];
    let len = wire::encode(order, &mut bytes).map_err(|_| NotSupervised::Nonsense)?;
    rt::write_message(&bytes[..len]);
    let len = rt::send(handle::SUPERVISOR, len).map_err(NotSupervised::Alone)?;
    let answer = bytes.get_mut(..len).ok_or(NotSupervised::Nonsense)?;
    rt::read_message(answer);
    match wire::decode(answer) {
        Ok(Supervised::Done) => Ok(()),
        Ok(Supervised::UnknownImage) => Err(NotSupervised::NoImage(images.names())),
        Ok(Supervised::NotStarted) => Err(NotSupervised::NotStarted),
        Ok(Supervised::Malformed) | Err(_) => Err(NotSupervised::Nonsense),
    }
}
