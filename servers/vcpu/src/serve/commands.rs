//! What the control console's requests do: most are asked of the pager.

use super::control::say;
use super::figures;
use super::line::Line;
use super::lives::{self, Images};
use super::pager::{Asked, Pager, PagerError};
use super::rows::Rows;
use super::shadow;
use super::swap::Swap;
use super::window::{NotTracked, Ram};
use super::wrong::{Verdict, Wrong};
use heapless::{Deque, Vec};
use ipc_proto::grant::{ClaimedGrant, Gfn, Gpa, Grant};
use ipc_proto::lifecycle::Order;
use ipc_proto::manifest::Name;
use ipc_proto::memop::MemOp;
use ipc_proto::slot::{
    DirtyPages, IdlePages, Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Topic,
};
use ipc_proto::text::Text;
use rt::{Task, Window};
use vcpu::console::{COMMANDS, Dirty, Request};
use vcpu::machine::Machine;
use vcpu::memory::{BIOS_SLOT, RamMap};

/// More slots than the console can make.
const SLOTS: usize = 64;
/// Letters that wait to be typed at the guest.
const KEYS: usize = 128;

/// What the requests need.
pub struct Commands {
    vm: u16,
    pub(super) pager: Pager,
    /// What this server has made, to keep its own hands off addresses that have no memory.
    slots: Vec<Slot, SLOTS>,
    keys: Deque<u8, KEYS>,
    images: Images,
    /// The pager's image, if it was swapped.
    image: Option<Name>,
    /// The policy, if it was chosen here.
    policy: Option<Text>,
    pub(super) tsc_hz: u64,
}

impl Commands {
    /// For VM `vm`, whose RAM has been made.
    pub fn new(task: &Task, vm: u16, map: RamMap) -> Self {
        let mut slots: Vec<Slot, SLOTS> = map.slots().into_iter().collect();
        for slot in slots.iter_mut().filter(|slot| slot.id == BIOS_SLOT) {
            slot.flags = SlotFlags::READONLY;
        }
        Self {
            vm,
            pager: Pager::of(vm),
            slots,
            keys: Deque::new(),
            images: Images::of(task, vm),
            image: None,
            policy: None,
            tsc_hz: task.info.tsc_hz,
        }
    }

    /// The slot of that number.
    pub fn slot(&self, id: SlotId) -> Result<Slot, Wrong> {
        self.slots.iter().find(|slot| slot.id == id).copied().ok_or(Wrong::NoSlot(id))
    }

    /// The window on `pages` pages from `base` on, which one slot without a flag of `without` must hold: the window on
    /// anything else would stop this task.
    pub fn window(&self, base: Gfn, pages: u64, without: SlotFlags) -> Result<Window, Wrong> {
        let without = without.union(SlotFlags::PRIVATE);
        let holds = |slot: &&Slot| {
            let inside = base.0.checked_sub(slot.base.0).and_then(|offset| offset.checked_add(pages));
            inside.is_some_and(|end| end <= slot.pages) && !slot.flags.intersects(without)
        };
        let nothing = || Wrong::NoMemory(base.0.saturating_mul(4096));
        let slot = self.slots.iter().find(holds).ok_or_else(nothing)?;
        let end = (slot.base.0 + slot.pages).checked_mul(4096).ok_or_else(nothing)?;
        Ok(Window::new(usize::from(self.vm), end))
    }

    /// Whether letters wait to be typed.
    pub fn types(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Types at the guest what it takes now.
    pub fn type_on(&mut self, machine: &mut Machine) {
        while machine.bus.uart.has_room() {
            let Some(key) = self.keys.pop_front() else { return };
            machine.bus.receive(key);
        }
    }

    /// Does what is asked, and writes the answer's lines.
    pub fn perform(
        &mut self,
        request: &Request<'_>,
        (machine, memory): (&Machine, &mut Ram),
        line: &mut Line,
    ) -> Verdict {
        match *request {
            Request::Help => {
                for entry in COMMANDS {
                    let space = if entry.arguments.is_empty() { "" } else { " " };
                    say(line, format_args!(" {}{space}{}: {}", entry.name, entry.arguments, entry.about));
                }
            }
            Request::Stats(part) => figures::say_those(part, (self.vm, &self.pager), machine, line)?,
            Request::Why(gpa) => {
                self.tell(Topic::Why(gpa), line)?;
                let halted = if machine.is_halted() { "waits in HLT" } else { "runs" };
                say(line, format_args!(" vcpu 0 {halted}"));
            }
            Request::Ledger(from, lines) => self.ledger(from, lines, line),
            Request::Slots => self.tell(Topic::Slots, line)?,
            Request::Policy => self.tell(Topic::Policy, line)?,
            Request::SetPolicy(text) => self.set_policy(text, line)?,
            Request::Create(slot) => {
                self.pager.request(&SlotRequest::Create(slot))?;
                // One that is not remembered is only not to be read or written from here.
                let _ = self.slots.push(slot);
            }
            Request::Delete(id) => {
                self.pager.request(&SlotRequest::Delete(Space::Normal, id))?;
                self.slots.retain(|slot| slot.id != id);
            }
            Request::Move(id, base) => {
                self.pager.request(&SlotRequest::Move(Space::Normal, id, base))?;
                self.changed(id, |slot| slot.base = base);
            }
            Request::SetFlags(id, flags) => self.set_flags(id, flags)?,
            Request::Dirty(step, id) => self.dirty(step, id, line)?,
            Request::Idle(id) => self.idle(id, line)?,
            Request::Prefault(first, pages) => self.prefault(first, pages, line)?,
            Request::Track(gfn, tracking) => memory.track(gfn, tracking).map_err(|why| match why {
                NotTracked::Full => Wrong::TooManyTracked,
                NotTracked::Pager(error) => Wrong::Pager(error),
            })?,
            Request::Peek(gpa) => say(line, format_args!(" {:#018x}", self.peek(gpa)?)),
            Request::Poke(gpa, _) if memory.tracks(Gpa(gpa).gfn(), 2) => return Err(Wrong::NoMemory(gpa)),
            Request::Poke(gpa, value) => self.poke(gpa, value)?,
            Request::Shadow(kinds) => shadow::tell(self.vm, kinds, |told| say(line, format_args!(" {told}")))?,
            Request::Kill => self.begin_anew(&Order::Kill, line)?,
            Request::Restart => self.begin_anew(&Order::Restart, line)?,
            Request::Swap(image, way) => {
                let image = self.images.find(image)?;
                let before = self.image.as_ref().or(self.images.first()).cloned().unwrap_or_default();
                let (vm, images, policy) = (self.vm, &self.images, self.policy);
                let swapped = Swap { vm, before: &before, name: &image, images, memory, policy }.perform(way)?;
                say(line, format_args!(" {image}: {swapped}"));
                self.image = Some(image);
            }
            // Begun by whoever calls this.
            Request::Precopy(id, _) => return Err(Wrong::NoSlot(id)),
            Request::Type(text) => {
                for byte in text.bytes().chain([b'\n']) {
                    self.keys.push_back(byte).map_err(|_| Wrong::KeysFull)?;
                }
            }
        }
        Ok(())
    }

    /// The next life of the pager has the image of this one. The guest stands still until it has begun.
    fn begin_anew(&self, order: &Order, line: &mut Line) -> Verdict {
        let start = rt::tsc();
        lives::order(order, &self.images)?;
        say(line, format_args!(" paused ticks={}", rt::tsc() - start));
        Ok(())
    }

    /// Another policy answers faults from now on. The guest stands still until the pager has said so, and no longer.
    fn set_policy(&mut self, text: Text, line: &mut Line) -> Verdict {
        let start = rt::tsc();
        match self.pager.request(&SlotRequest::Policy(text)) {
            Ok(()) => {
                say(line, format_args!(" swapped in {} ticks", rt::tsc() - start));
                self.policy = Some(text);
            }
            Err(why) => {
                if matches!(why, PagerError::Refused(_, SlotRefused::UnknownPolicy | SlotRefused::BadOption)) {
                    self.tell(Topic::Policy, line)?;
                }
                return Err(why.into());
            }
        }
        Ok(())
    }

    /// The slot has these flags from now on.
    pub fn set_flags(&mut self, id: SlotId, flags: SlotFlags) -> Verdict {
        self.pager.request(&SlotRequest::SetFlags(Space::Normal, id, flags))?;
        self.changed(id, |slot| slot.flags = flags);
        Ok(())
    }

    fn changed(&mut self, id: SlotId, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            change(slot);
        }
    }

    /// The first dirty pages of the slot from `from` on, which count as clean from now on.
    pub fn written(&self, id: SlotId, from: u64) -> Result<Option<DirtyPages>, Wrong> {
        let request = SlotRequest::DirtyLog(Space::Normal, id, from);
        match self.pager.ask(&request)? {
            SlotReply::Dirty(pages) => Ok(Some(pages)),
            SlotReply::Done => Ok(None),
            SlotReply::Refused(why) => Err(PagerError::Refused(Asked::of(&request), why).into()),
            SlotReply::Hello(_) | SlotReply::Line(_) | SlotReply::Idle(_) | SlotReply::Left(_) | SlotReply::Slot(_) => {
                Err(PagerError::Nonsense(Asked::of(&request)).into())
            }
        }
    }

    fn dirty(&mut self, step: Dirty, id: SlotId, line: &mut Line) -> Verdict {
        let flags = self.slot(id)?.flags;
        match step {
            Dirty::Start => self.set_flags(id, flags.union(SlotFlags::LOG_DIRTY_PAGES)),
            Dirty::Stop => self.set_flags(id, flags.difference(SlotFlags::LOG_DIRTY_PAGES)),
            Dirty::Read => {
                let base = self.slot(id)?.base.0;
                let (mut pages, mut from, mut longest) = (0, 0, 0..0);
                let mut rows = Rows::default();
                while let Some(written) = self.written(id, from)? {
                    for page in pages_of(&written) {
                        pages += 1;
                        rows.add(page, base, line);
                        if rows.last().end - rows.last().start > longest.end - longest.start {
                            longest = rows.last();
                        }
                    }
                    from = written.first + DirtyPages::PAGES;
                }
                rows.say(base, line);
                let gpa = (base + longest.start) << 12;
                say(line, format_args!(" written pages={pages} of {}", self.slot(id)?.pages));
                say(line, format_args!(" most in a row: {} from gpa={gpa:#x}", longest.end - longest.start));
                Ok(())
            }
        }
    }

    fn idle(&self, id: SlotId, line: &mut Line) -> Verdict {
        let (start, mut pages, mut from) = (rt::tsc(), 0, 0);
        loop {
            let request = SlotRequest::Idle(Space::Normal, id, from);
            match self.pager.ask(&request)? {
                SlotReply::Idle(idle) => {
                    pages += idle.bits.iter().map(|word| word.count_ones()).sum::<u32>();
                    from = idle.first + IdlePages::PAGES;
                }
                SlotReply::Done => break,
                SlotReply::Refused(why) => return Err(PagerError::Refused(Asked::of(&request), why).into()),
                SlotReply::Hello(_)
                | SlotReply::Dirty(_)
                | SlotReply::Line(_)
                | SlotReply::Left(_)
                | SlotReply::Slot(_) => {
                    return Err(PagerError::Nonsense(Asked::of(&request)).into());
                }
            }
        }
        let ticks = rt::tsc() - start;
        say(line, format_args!(" idle pages={pages} of {}, asked in {ticks} ticks", self.slot(id)?.pages));
        Ok(())
    }

    /// Has pages mapped as long as there are more of them.
    fn prefault(&self, first: Gfn, pages: u64, line: &mut Line) -> Verdict {
        let (mut left, mut verdict) = (pages, Ok(()));
        while left > 0 {
            let request = SlotRequest::Prefault(Gfn(first.0 + pages - left), left);
            left = match self.pager.ask(&request)? {
                SlotReply::Done => 0,
                SlotReply::Left(fewer) if fewer < left => fewer,
                SlotReply::Refused(why) => {
                    verdict = Err(PagerError::Refused(Asked::of(&request), why).into());
                    break;
                }
                SlotReply::Left(_)
                | SlotReply::Slot(_)
                | SlotReply::Hello(_)
                | SlotReply::Dirty(_)
                | SlotReply::Line(_)
                | SlotReply::Idle(_) => return Err(PagerError::Nonsense(Asked::of(&request)).into()),
            };
        }
        say(line, format_args!(" mapped pages={} of {pages}", pages - left));
        verdict
    }

    /// Has the pager tell of something, line by line.
    fn tell(&self, topic: Topic, line: &mut Line) -> Verdict {
        if self.pager.tell(topic, |text| say(line, format_args!(" {text}")))? == 0 {
            say(line, format_args!(" the pager has no lines about that, and need not have any"));
        }
        Ok(())
    }

    /// The leaves from `from` on; neighbours that differ in nothing else are one line.
    fn ledger(&self, from: Gpa, lines: u64, line: &mut Line) {
        let mut next = from.gfn().0;
        for _ in 0..lines {
            let Some((first, used)) = self.leaf(next) else {
                say(line, format_args!(" nothing more is mapped"));
                return;
            };
            let (mut frames, mut bits) = (first.level.frames(), used);
            while let Some((leaf, used)) = self.leaf(first.gfn.0 + frames) {
                let goes_on = leaf.gfn.0 == first.gfn.0 + frames && leaf.pfn.0 == first.pfn.0 + frames;
                let alike = (leaf.level, leaf.rights, leaf.mem_type) == (first.level, first.rights, first.mem_type);
                if !goes_on || !alike {
                    break;
                }
                frames += leaf.level.frames();
                bits |= used;
            }
            say(
                line,
                format_args!(
                    " gpa {:#x} frames {frames} -> pfn {:#x} {:?} {:?} {:?}{}{}",
                    first.gfn.0 << 12,
                    first.pfn.0,
                    first.level,
                    first.rights,
                    first.mem_type,
                    if bits & 1 != 0 { " accessed" } else { "" },
                    if bits & 2 != 0 { " dirty" } else { "" }
                ),
            );
            next = first.gfn.0 + frames;
        }
    }

    /// The first leaf that is mapped at `gfn` or behind it, with its bits: 1 accessed, 2 dirty.
    fn leaf(&self, gfn: u64) -> Option<(Grant, u64)> {
        let [first, pfn, shape, ..] = rt::mem_op(usize::from(self.vm), MemOp::Read, [gfn, 0, 0, 0]).ok()?;
        let claim = ClaimedGrant { shape: shape & !(3 << 32), gfn: first, pfn, mmu_seq: 0 };
        Some((claim.typed().ok()?, shape >> 32 & 3))
    }

    fn peek(&self, gpa: u64) -> Result<u64, Wrong> {
        let (window, mut bytes) = (self.word(gpa, SlotFlags::empty())?, [0; 8]);
        if window.read(gpa, &mut bytes) { Ok(u64::from_le_bytes(bytes)) } else { Err(Wrong::NoMemory(gpa)) }
    }

    fn poke(&self, gpa: u64, value: u64) -> Verdict {
        let window = self.word(gpa, SlotFlags::READONLY)?;
        if window.write(gpa, &value.to_le_bytes()) { Ok(()) } else { Err(Wrong::NoMemory(gpa)) }
    }

    /// The window on the eight bytes at `gpa`.
    fn word(&self, gpa: u64, without: SlotFlags) -> Result<Window, Wrong> {
        let last = gpa.checked_add(7).ok_or(Wrong::NoMemory(gpa))?;
        self.window(Gpa(gpa).gfn(), (last >> 12) - (gpa >> 12) + 1, without)
    }
}

/// The pages that the log tells of, by their offset in the slot.
fn pages_of(written: &DirtyPages) -> impl Iterator<Item = u64> {
    let (first, bits) = (written.first, written.bits);
    (0..DirtyPages::PAGES)
        .filter(move |page| bits[(page / 64) as usize] >> (page % 64) & 1 != 0)
        .map(move |page| first + page)
}
