//! The control console: what may be asked of a running VM over the system's second serial port.
//!
//! A request is one line of ASCII, ended by a line feed or a carriage return. Every byte is echoed, and whoever sends
//! keeps at most [`UNECHOED`] bytes ahead of the echo: the port's FIFO holds no more. The answer is lines that begin with a
//! space, and then one line that does not: `ok`, or `error: ` and what is wrong. When the VM's server is ready for the first
//! request it sends [`GREETING`]. What a request may be is in [`COMMANDS`]; numbers are decimal, or hexadecimal after `0x`.

use core::fmt;
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::shadow::Kind;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, Space, Tracking};
use ipc_proto::text::Text;

/// The longest request, in bytes.
pub const LONGEST: usize = 120;
/// How many bytes may be sent before their echo has come back.
pub const UNECHOED: usize = 16;
/// The line that says that requests are taken.
pub const GREETING: &str = "faultline control console: help lists what can be asked";

/// A command, as `help` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its first word.
    pub name: &'static str,
    /// What may follow.
    pub arguments: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// Every command.
pub const COMMANDS: &[Entry] = &[
    Entry { name: "help", arguments: "", about: "this list" },
    Entry {
        name: "stats",
        arguments: "[NAME]",
        about: "what the pager, the kernel and this server counted for the VM, or what of it is named so",
    },
    Entry { name: "why", arguments: "GPA", about: "what pager and ledger know of an address, and the last answers" },
    Entry { name: "ledger", arguments: "[GPA [LINES]]", about: "what the kernel has mapped, from an address on" },
    Entry { name: "slot", arguments: "list", about: "the memory slots" },
    Entry { name: "slot", arguments: "create ID GPA PAGES [FLAGS]", about: "a new slot; flags: readonly,log,private" },
    Entry { name: "slot", arguments: "delete ID", about: "the slot and its memory are gone" },
    Entry { name: "slot", arguments: "move ID GPA", about: "the slot lies at another place, with its content" },
    Entry { name: "slot", arguments: "flags ID FLAGS|none", about: "the slot behaves so" },
    Entry {
        name: "dirty",
        arguments: "start|read|stop [ID]",
        about: "the log of written pages; slot 2 is the RAM above 1 MiB",
    },
    Entry { name: "prefault", arguments: "GPA PAGES", about: "maps pages before the guest touches them" },
    Entry { name: "idle", arguments: "[ID]", about: "how many pages nobody used since it was last asked" },
    Entry {
        name: "track",
        arguments: "GPA on|off",
        about: "guest writes to the page become MMIO, or are its own again",
    },
    Entry { name: "peek", arguments: "GPA", about: "eight bytes of guest memory" },
    Entry { name: "poke", arguments: "GPA VALUE", about: "writes eight bytes of guest memory" },
    Entry { name: "precopy", arguments: "ID GPA", about: "copies a slot's memory while the guest runs, and compares" },
    Entry {
        name: "policy",
        arguments: "[NAME [KEY=VALUE]...]",
        about: "the policy that answers faults, or another one",
    },
    Entry {
        name: "shadow",
        arguments: "[extent|decision]",
        about: "how the answers of the VM's second pager compare, and the last that differed",
    },
    Entry { name: "kill", arguments: "", about: "the VM's pager dies as by its own fault, and is started again" },
    Entry {
        name: "restart",
        arguments: "",
        about: "the VM's pager is stopped and started again, with the image that it has",
    },
    Entry {
        name: "swap",
        arguments: "IMAGE [ledger]",
        about: "the VM's pager makes way for that image, which goes on from what is kept, else from the kernel's ledger",
    },
    Entry { name: "type", arguments: "TEXT", about: "types a line at the guest's serial port" },
];

/// What is done with the log of written pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// It begins.
    Start,
    /// What was written since it began, or since the last time.
    Read,
    /// It ends.
    Stop,
}

/// What the next pager goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the one before has kept, if it can read that; else the ledger.
    Kept,
    /// The kernel's ledger.
    Ledger,
}

/// A request that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `help`
    Help,
    /// `stats`: what has that in its name.
    Stats(&'a str),
    /// `why`
    Why(Gpa),
    /// `ledger`: from that address on, at most so many lines.
    Ledger(Gpa, u64),
    /// `slot list`
    Slots,
    /// `slot create`
    Create(Slot),
    /// `slot delete`
    Delete(SlotId),
    /// `slot move`
    Move(SlotId, Gfn),
    /// `slot flags`
    SetFlags(SlotId, SlotFlags),
    /// `dirty`
    Dirty(Dirty, SlotId),
    /// `idle`
    Idle(SlotId),
    /// `prefault`
    Prefault(Gfn, u64),
    /// `track`
    Track(Gfn, Tracking),
    /// `peek`
    Peek(u64),
    /// `poke`
    Poke(u64, u64),
    /// `precopy`
    Precopy(SlotId, Gfn),
    /// `policy` without a name
    Policy,
    /// `policy` with a name and options
    SetPolicy(Text),
    /// `shadow`: the counts, and the last differences of these kinds.
    Shadow(&'static [Kind]),
    /// `kill`
    Kill,
    /// `restart`
    Restart,
    /// `swap`: with the image of that name, in that way.
    Swap(&'a str, Way),
    /// `type`
    Type(&'a str),
}

/// Why a request is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake<'a> {
    /// No such command.
    Unknown(&'a str),
    /// The command is there, and what follows is none of its arguments.
    Arguments(&'a str),
}

impl fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no `{name}`: help lists what there is"),
            Self::Arguments(name) => {
                f.write_str("it must be")?;
                for (place, entry) in COMMANDS.iter().filter(|entry| entry.name == *name).enumerate() {
                    write!(f, "{} {} {}", if place > 0 { " or" } else { "" }, entry.name, entry.arguments)?;
                }
                Ok(())
            }
        }
    }
}

/// How many lines of the ledger are shown when nobody says.
const LINES: u64 = 16;
/// The slot that is meant when nobody says: RAM above 1 MiB.
const RAM: SlotId = SlotId(2);

impl<'a> Request<'a> {
    /// Reads a request. An empty line is none.
    ///
    /// # Errors
    /// The [`Mistake`].
    pub fn parse(line: &'a str) -> Result<Option<Self>, Mistake<'a>> {
        let line = line.trim();
        let (name, rest) = line.split_once(' ').map_or((line, ""), |(name, rest)| (name, rest.trim_start()));
        if name.is_empty() {
            return Ok(None);
        }
        if !COMMANDS.iter().any(|entry| entry.name == name) {
            return Err(Mistake::Unknown(name));
        }
        Self::with(name, rest).map(Some).ok_or(Mistake::Arguments(name))
    }

    fn with(name: &str, rest: &'a str) -> Option<Self> {
        let mut words = [""; 8];
        let mut count = 0;
        for word in rest.split_ascii_whitespace() {
            *words.get_mut(count)? = word;
            count += 1;
        }
        Some(match (name, words.get(..count)?) {
            ("help", []) => Self::Help,
            ("stats", []) => Self::Stats(""),
            ("stats", [name]) => Self::Stats(name),
            ("why", [gpa]) => Self::Why(Gpa(number(gpa)?)),
            ("ledger", []) => Self::Ledger(Gpa(0), LINES),
            ("ledger", [gpa]) => Self::Ledger(Gpa(number(gpa)?), LINES),
            ("ledger", [gpa, lines]) => Self::Ledger(Gpa(number(gpa)?), number(lines)?),
            ("slot", ["list"]) => Self::Slots,
            ("slot", ["create", id, gpa, pages]) => Self::Create(slot(id, gpa, pages, "none")?),
            ("slot", ["create", id, gpa, pages, set]) => Self::Create(slot(id, gpa, pages, set)?),
            ("slot", ["delete", id]) => Self::Delete(slot_id(id)?),
            ("slot", ["move", id, gpa]) => Self::Move(slot_id(id)?, gfn(gpa)?),
            ("slot", ["flags", id, set]) => Self::SetFlags(slot_id(id)?, flags(set)?),
            ("dirty", [step]) => Self::Dirty(dirty(step)?, RAM),
            ("dirty", [step, id]) => Self::Dirty(dirty(step)?, slot_id(id)?),
            ("idle", []) => Self::Idle(RAM),
            ("idle", [id]) => Self::Idle(slot_id(id)?),
            ("prefault", [gpa, pages]) => Self::Prefault(gfn(gpa)?, number(pages)?),
            ("track", [gpa, "on"]) => Self::Track(gfn(gpa)?, Tracking::On),
            ("track", [gpa, "off"]) => Self::Track(gfn(gpa)?, Tracking::Off),
            ("peek", [gpa]) => Self::Peek(number(gpa)?),
            ("poke", [gpa, value]) => Self::Poke(number(gpa)?, number(value)?),
            ("precopy", [id, gpa]) => Self::Precopy(slot_id(id)?, gfn(gpa)?),
            ("policy", []) => Self::Policy,
            ("policy", _) => Self::SetPolicy(Text::cut(rest)),
            ("shadow", []) => Self::Shadow(&[Kind::Decision, Kind::Extent]),
            ("shadow", ["extent"]) => Self::Shadow(&[Kind::Extent]),
            ("shadow", ["decision"]) => Self::Shadow(&[Kind::Decision]),
            ("kill", []) => Self::Kill,
            ("restart", []) => Self::Restart,
            ("swap", [image]) => Self::Swap(image, Way::Kept),
            ("swap", [image, "ledger"]) => Self::Swap(image, Way::Ledger),
            ("type", _) => Self::Type(rest),
            _ => return None,
        })
    }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The frame at an address, which must be a multiple of 4096.
fn gfn(word: &str) -> Option<Gfn> {
    let gpa = number(word)?;
    (gpa & 0xfff == 0).then_some(Gfn(gpa >> 12))
}

fn slot_id(word: &str) -> Option<SlotId> {
    Some(SlotId(number(word)?.try_into().ok()?))
}

fn slot(id: &str, gpa: &str, pages: &str, set: &str) -> Option<Slot> {
    let (id, base, pages, flags) = (slot_id(id)?, gfn(gpa)?, number(pages)?, flags(set)?);
    Some(Slot { id, space: Space::Normal, base, pages, flags })
}

fn flags(words: &str) -> Option<SlotFlags> {
    if words == "none" {
        return Some(SlotFlags::empty());
    }
    words.split(',').try_fold(SlotFlags::empty(), |set, word| {
        Some(set.union(match word {
            "readonly" => SlotFlags::READONLY,
            "log" => SlotFlags::LOG_DIRTY_PAGES,
            "private" => SlotFlags::PRIVATE,
            _ => return None,
        }))
    })
}

fn dirty(word: &str) -> Option<Dirty> {
    match word {
        "start" => Some(Dirty::Start),
        "read" => Some(Dirty::Read),
        "stop" => Some(Dirty::Stop),
        _ => None,
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
