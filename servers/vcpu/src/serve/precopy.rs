//! Pre-copy of a slot's memory, as a migration begins: everything once while the guest runs, then round after round what was
//! written meanwhile, and the last of it while the guest stands still. Then original and copy are compared byte for byte.
//!
//! The guest stands still while this server runs: there is one CPU, and guests have the lowest priority.

use super::commands::Commands;
use super::control::say;
use super::line::Line;
use super::window::Ram;
use super::wrong::{Verdict, Wrong};
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{DirtyPages, Slot, SlotFlags, SlotId};
use rt::Window;

/// Pages that are copied before the guest goes on.
const PAGES_A_STEP: u64 = 256;
/// With no more pages than this written in a round, the next is the last.
const FEW: u64 = 128;
/// After so many rounds the copy is given up.
const ROUNDS: u32 = 40;

/// A copy that is under way.
pub struct Precopy {
    from: Slot,
    to: Gfn,
    original: Window,
    copy: Window,
    round: u32,
    /// Pages copied in this round.
    copied: u64,
    /// The page at which the round goes on.
    next: u64,
    /// Pages that the log has told of and that are not yet copied.
    told: Option<DirtyPages>,
}

/// What came of a step.
pub enum Step {
    /// There is more to do.
    On,
    /// It is over.
    Over(Verdict),
}

impl Precopy {
    /// Begins to copy slot `id` to the slot that lies at `to`.
    pub fn begin(id: SlotId, to: Gfn, commands: &mut Commands, memory: &Ram) -> Result<Self, Wrong> {
        let from = commands.slot(id)?;
        if to.0 < from.base.0 + from.pages && from.base.0 < to.0.saturating_add(from.pages) {
            return Err(Wrong::OntoItself(id));
        }
        if memory.tracks(to, from.pages) {
            return Err(Wrong::NoMemory(to.0.saturating_mul(4096)));
        }
        let original = commands.window(from.base, from.pages, SlotFlags::empty())?;
        let copy = commands.window(to, from.pages, SlotFlags::READONLY)?;
        commands.set_flags(id, from.flags.union(SlotFlags::LOG_DIRTY_PAGES))?;
        Ok(Self { from, to, original, copy, round: 0, copied: 0, next: 0, told: None })
    }

    /// Copies a little.
    pub fn step(&mut self, commands: &mut Commands, line: &mut Line) -> Step {
        match self.some(commands, line, PAGES_A_STEP) {
            Ok(Round::Goes) => Step::On,
            Ok(Round::Ended) if self.copied > FEW => {
                if self.round >= ROUNDS {
                    return self.over(commands, Err(Wrong::Diverges(self.round)));
                }
                self.begin_round();
                Step::On
            }
            Ok(Round::Ended) => {
                self.begin_round();
                let verdict = self.last(commands, line);
                self.over(commands, verdict)
            }
            Err(wrong) => self.over(commands, Err(wrong)),
        }
    }

    /// The log ends with the copy.
    fn over(&self, commands: &mut Commands, verdict: Verdict) -> Step {
        let ended = commands.set_flags(self.from.id, self.from.flags);
        Step::Over(verdict.and(ended))
    }

    const fn begin_round(&mut self) {
        self.round += 1;
        (self.copied, self.next, self.told) = (0, 0, None);
    }

    /// Copies at most `pages` pages of this round.
    fn some(&mut self, commands: &Commands, line: &mut Line, pages: u64) -> Result<Round, Wrong> {
        let limit = self.copied.saturating_add(pages);
        while self.copied < limit {
            let Some(page) = self.page(commands)? else {
                say(line, format_args!(" round {} copied={}", self.round, self.copied));
                return Ok(Round::Ended);
            };
            self.copy(page)?;
            self.copied += 1;
        }
        Ok(Round::Goes)
    }

    /// The next page to copy in this round.
    fn page(&mut self, commands: &Commands) -> Result<Option<u64>, Wrong> {
        if self.round == 0 {
            let page = self.next;
            self.next += 1;
            return Ok((page < self.from.pages).then_some(page));
        }
        loop {
            if let Some(pages) = &mut self.told {
                if let Some((place, word)) = pages.bits.iter_mut().enumerate().find(|(_, word)| **word != 0) {
                    let bit = word.trailing_zeros();
                    // Clean from now on.
                    *word &= *word - 1;
                    return Ok(Some(pages.first + 64 * place as u64 + u64::from(bit)));
                }
                self.next = pages.first + DirtyPages::PAGES;
            }
            self.told = commands.written(self.from.id, self.next)?;
            if self.told.is_none() {
                return Ok(None);
            }
        }
    }

    fn copy(&self, page: u64) -> Verdict {
        let mut bytes = [0; 4096];
        let (from, to) = self.places(page);
        if self.original.read(from, &mut bytes) && self.copy.write(to, &bytes) {
            Ok(())
        } else {
            Err(Wrong::NoMemory(from))
        }
    }

    /// Where the page and its copy lie.
    const fn places(&self, page: u64) -> (u64, u64) {
        ((self.from.base.0 + page) << 12, (self.to.0 + page) << 12)
    }

    /// The last round and the comparison, without the guest.
    fn last(&mut self, commands: &Commands, line: &mut Line) -> Verdict {
        let began = rt::tsc();
        self.some(commands, line, u64::MAX)?;
        let took = (rt::tsc() - began) * 1_000_000 / commands.tsc_hz;
        say(line, format_args!(" the guest stood still for {took} us"));
        let (mut equal, mut differ) = (0, 0);
        let (mut one, mut other) = ([0; 4096], [0; 4096]);
        for page in 0..self.from.pages {
            let (from, to) = self.places(page);
            let read = self.original.read(from, &mut one) && self.copy.read(to, &mut other);
            if read && one == other {
                equal += 1;
            } else {
                differ += 1;
            }
        }
        say(line, format_args!(" compared pages={} equal={equal} differ={differ}", self.from.pages));
        if differ == 0 { Ok(()) } else { Err(Wrong::Differs(differ)) }
    }
}

/// Whether a round has ended.
enum Round {
    Goes,
    Ended,
}
