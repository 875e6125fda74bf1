//! What the kernel does when it is asked: the operations of [`ipc_proto::memop`] over maps instead of tables.

use super::{Asked, FIRST_PFN, FakeMachine, Trace};
use crate::machine::{Cpu, Kernel, LogSwitch, OwnedRun};
use core::fmt::Arguments;
use ipc_proto::fault::{ClaimedReply, Fault, Origin};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::memop::{Abilities, GENERATIONS, HARVEST, Harvest};
use ipc_proto::refused::Refused;
use ipc_proto::walk::Walk;
use ipc_proto::words::Words;
use std::collections::BTreeSet;
use std::vec::Vec;

/// Pages of each size, the smallest first.
const LEVELS: [Level; 3] = [Level::Page, Level::Large, Level::Huge];

impl FakeMachine {
    /// Does what an accepted reply does; hands back the first grant.
    pub(crate) fn install(&mut self, words: &Words) -> Option<Grant> {
        self.apply(words).expect("a reply that is accepted")
    }

    /// What the kernel does with the reply to `fault`: the first grant, or why it was refused.
    pub(crate) fn answered(&mut self, fault: &Fault, words: &Words) -> Result<Option<Grant>, Refused> {
        let gfn = fault.gpa.gfn().0;
        let done = self.apply(words)?;
        if let Ok(ClaimedReply::Mmio(generation)) = ClaimedReply::from_words(words)
            && fault.origin == Origin::Vcpu
        {
            self.remember(gfn, generation);
        }
        if done.is_some() && fault.origin == Origin::Window {
            self.shown.insert(gfn);
        }
        Ok(done)
    }

    /// Keeps the answer that the page is emulated, as the kernel does: only where nothing is mapped.
    fn remember(&mut self, gfn: u64, generation: u64) {
        if generation != 0 && generation == self.generation && self.found(gfn).is_none() {
            self.mmio.insert(gfn, generation);
            self.tables.insert(gfn & !511);
            self.directories.insert(gfn & !(Level::Huge.frames() - 1));
        }
    }

    /// What the kernel does with a reply: the first grant, or why it was refused.
    pub(crate) fn apply(&mut self, words: &Words) -> Result<Option<Grant>, Refused> {
        match ClaimedReply::from_words(words).expect("a reply of this version") {
            ClaimedReply::Map(claim, more) => {
                let grant = claim.typed().expect("a grant that is one");
                self.grant(&grant)?;
                for place in 0..usize::from(more) {
                    let claim = self.message.remove(&place).expect("a further grant where it was announced");
                    self.grant(&claim.typed().expect("a grant that is one"))?;
                }
                Ok(Some(grant))
            }
            ClaimedReply::Mmio(_) | ClaimedReply::Retry | ClaimedReply::Pending(_) | ClaimedReply::Deny(_) => Ok(None),
        }
    }

    /// Checks a grant as the kernel's `decode` does, and installs it. Says how many frames are mapped more.
    fn grant(&mut self, grant: &Grant) -> Result<u64, Refused> {
        let size = grant.level.frames();
        assert_eq!((grant.gfn.0 | grant.pfn.0) % size, 0, "gfn and pfn are multiples of the page");
        assert!((grant.gfn.0 / size) % 512 + u64::from(grant.count) <= 512, "a run lies in one table");
        assert!((1..=512).contains(&grant.count) && grant.pfn.0 >= FIRST_PFN);
        if grant.mmu_seq != self.mmu_seq {
            return Err(Refused::Stale);
        }
        if grant.level > self.largest {
            return Err(Refused::BadLevel);
        }
        let run = grant.gfn.0..grant.gfn.0 + u64::from(grant.count) * size;
        for gfn in run.clone().step_by(size as usize) {
            if self.found(gfn).is_some_and(|(_, level)| level > grant.level) {
                return Err(Refused::LargePageThere);
            }
            let tables = match grant.level {
                Level::Page => false,
                Level::Large => self.tables.contains(&gfn),
                Level::Huge => self.directories.contains(&gfn),
            };
            if tables {
                return Err(Refused::TablesThere);
            }
        }
        let mut added = 0;
        let mut stale = false;
        for n in 0..u64::from(grant.count) {
            let (gfn, pfn) = (grant.gfn.0 + n * size, grant.pfn.0 + n * size);
            let before = self.pages(grant.level).insert(gfn, (pfn, grant.rights));
            match grant.seen_by {
                SeenBy::Everyone => self.hidden.remove(&gfn),
                SeenBy::Guest => self.hidden.insert(gfn),
            };
            let trace = Trace { allowed: grant.rights, ..Trace::NONE };
            match before {
                None => {
                    added += size;
                    self.traces.insert(gfn, trace);
                }
                Some((old, rights)) => {
                    stale |= old != pfn || !grant.rights.contains(rights);
                    self.traces.entry(gfn).or_insert(trace).allowed = grant.rights;
                }
            }
            self.mmio.remove(&gfn);
        }
        self.invepts += u64::from(stale);
        match grant.level {
            Level::Page => {
                self.tables.insert(run.start & !511);
                self.directories.insert(run.start & !(Level::Huge.frames() - 1));
            }
            Level::Large => {
                self.directories.insert(run.start & !(Level::Huge.frames() - 1));
            }
            Level::Huge => {}
        }
        Ok(added)
    }

    /// The reply was never sent: what was written for it does not count.
    pub(crate) fn drop_message(&mut self) {
        self.message.clear();
    }

    /// Pages that reach beyond a range are refused, as the kernel does.
    fn check_edges(&self, first: u64, pages: u64) -> Result<(), Refused> {
        let cut = |gfn: u64| {
            self.found(gfn).is_some_and(|(start, level)| start < first || start + level.frames() > first + pages)
        };
        if cut(first) || cut(first + pages - 1) { Err(Refused::LargePageThere) } else { Ok(()) }
    }

    /// Every page that begins in the range or reaches into it: its first gfn and its size.
    fn within(&mut self, first: u64, end: u64) -> Vec<(u64, Level)> {
        let mut found = Vec::new();
        for level in LEVELS {
            let from = first & !(level.frames() - 1);
            found.extend(self.pages(level).range(from..end).map(|(gfn, _)| (*gfn, level)));
        }
        found
    }

    /// The next operation may be refused.
    fn refused(&mut self) -> Result<(), Refused> {
        self.lives();
        match self.refuse_after.take() {
            Some((0, refused)) => return Err(refused),
            Some((left, refused)) => self.refuse_after = Some((left - 1, refused)),
            None => {}
        }
        self.refuse.take().map_or(Ok(()), Err)
    }

    /// Translations were flushed, and the window shows nothing of the range.
    fn flush(&mut self, first: u64, end: u64) {
        self.invepts += 1;
        self.shown.retain(|gfn| !(first..end).contains(gfn));
    }

    fn take_bits(&mut self, first: u64, count: u64, mode: Harvest) -> u64 {
        let end = first + count;
        self.harvested = std::vec![0; count.div_ceil(64) as usize];
        let mut found = 0;
        for (gfn, level) in self.within(first, end) {
            if !self.traces.get_mut(&gfn).expect("a page has traces").take(mode) {
                continue;
            }
            for place in gfn.max(first)..end.min(gfn + level.frames()) {
                self.harvested[((place - first) / 64) as usize] |= 1 << ((place - first) % 64);
                found += 1;
            }
        }
        self.mmu_seq += u64::from(matches!(mode, Harvest::WriteProtect | Harvest::Hide));
        if found != 0 && mode.takes() {
            self.flush(first, end);
        }
        found
    }

    fn take_log(&mut self) -> Result<u64, Refused> {
        let log = core::mem::take(self.log.as_mut().ok_or(Refused::NotAsked)?);
        let mut taken = false;
        for gfn in &log {
            if let Some((start, _)) = self.found(*gfn) {
                taken |= self.traces.get_mut(&start).expect("a page has traces").take(Harvest::Log);
            }
        }
        self.invepts += u64::from(taken);
        self.harvested = log;
        Ok(self.harvested.len() as u64)
    }
}

impl Kernel for FakeMachine {
    fn unmap(&mut self, _: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        self.asked.push(Asked::Unmap(first.0, pages));
        self.refused()?;
        self.check_edges(first.0, pages)?;
        self.mmu_seq += 1;
        let end = first.0 + pages;
        let mut unmapped = 0;
        for (gfn, level) in self.within(first.0, end) {
            self.pages(level).remove(&gfn);
            self.traces.remove(&gfn);
            self.hidden.remove(&gfn);
            unmapped += level.frames();
        }
        self.flush(first.0, end);
        if !self.hoards {
            let inside = |start: u64, level: Level| start >= first.0 && start + level.frames() <= end;
            let freed: Vec<u64> = self.tables.iter().copied().filter(|block| inside(*block, Level::Large)).collect();
            for block in freed {
                self.tables.remove(&block);
                self.mmio.retain(|gfn, _| gfn & !511 != block);
            }
            self.directories.retain(|start| !inside(*start, Level::Huge));
        }
        Ok(unmapped)
    }

    fn protect(&mut self, _: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        self.asked.push(Asked::Protect(first.0, pages, keep));
        self.refused()?;
        self.check_edges(first.0, pages)?;
        self.mmu_seq += 1;
        let end = first.0 + pages;
        let mut changed = 0;
        for (gfn, level) in self.within(first.0, end) {
            let (_, rights) = self.pages(level).get_mut(&gfn).expect("it was just found");
            changed += u64::from(!keep.contains(*rights));
            *rights = rights.intersection(keep);
            let trace = self.traces.get_mut(&gfn).expect("a page has traces");
            trace.allowed = trace.allowed.intersection(keep);
        }
        self.flush(first.0, end);
        Ok(changed)
    }

    fn map(&mut self, _: usize, grant: &Grant) -> Result<u64, Refused> {
        self.refused()?;
        if self.tables_left == Some(0) {
            return Err(Refused::NoTables);
        }
        self.tables_left = self.tables_left.map(|left| left - 1);
        self.grant(grant)
    }

    fn donate(&mut self, _: usize, first: u64, count: u64) -> Result<(), Refused> {
        self.lives();
        (first..first + count).for_each(|pfn| {
            self.owned.remove(&pfn);
        });
        self.donated += count;
        self.tables_left = self.tables_left.map(|left| left + count);
        Ok(())
    }

    fn owned(&mut self, pfn: u64) -> Option<OwnedRun> {
        let first = *self.owned.range(pfn..).next()?;
        let mapped: BTreeSet<u64> = LEVELS
            .iter()
            .flat_map(|level| {
                self.pages(*level).values().flat_map(|(pfn, _)| *pfn..*pfn + level.frames()).collect::<Vec<_>>()
            })
            .collect();
        let alike = |pfn: &u64| self.owned.contains(pfn) && mapped.contains(pfn) == mapped.contains(&first);
        Some(OwnedRun {
            first,
            count: (first..).take_while(alike).take(self.tells).count() as u64,
            mapped: mapped.contains(&first),
        })
    }

    fn keep(&mut self, pfn: u64) {
        self.lives();
        self.kept = pfn;
    }

    fn next_mapped(&mut self, _: usize, gfn: Gfn) -> Option<Grant> {
        let hidden = self.hidden.clone();
        let of = |start: u64, level: Level, (pfn, rights): (u64, Rights)| Grant {
            gfn: Gfn(start),
            pfn: Pfn(pfn),
            count: 1,
            level,
            rights,
            mem_type: MemType::WriteBack,
            mmu_seq: 0,
            seen_by: SeenBy::from_bit(u64::from(hidden.contains(&start))),
        };
        let found = LEVELS.map(|level| {
            let from = gfn.0 & !(level.frames() - 1);
            self.pages(level).range(from..).next().map(|(start, leaf)| of(*start, level, *leaf))
        });
        found.into_iter().flatten().min_by_key(|leaf| leaf.gfn)
    }

    fn walk(&mut self, vm: usize, gfn: Gfn) -> Option<Walk> {
        // It has maps, no tables: those are at pfn 1.
        let table = 1 << 12 | 7;
        let mut path = [table, table, table, 0, 4, 0];
        if let Some(leaf) = self.mapped(vm, gfn) {
            let place = 4 - leaf.level as usize;
            path[place] = leaf.pfn.0 << 12 | u64::from(leaf.rights.bits()) << 52 | u64::from(leaf.rights.bits());
            path[4] = place as u64 + 1;
        }
        Some(Walk::from_words(&path))
    }

    fn mmu_seq(&mut self, _: usize) -> Option<u64> {
        Some(self.mmu_seq)
    }

    fn cpu(&mut self, _: usize) -> Option<Cpu> {
        Some(Cpu { abilities: self.abilities, largest: self.largest })
    }

    fn harvest(&mut self, _: usize, first: Gfn, frames: u64, mode: Harvest) -> Result<u64, Refused> {
        self.asked.push(Asked::Harvest(first.0, frames, mode));
        self.refused()?;
        if mode.needs_bits() && !self.abilities.contains(Abilities::ACCESSED_DIRTY) {
            return Err(Refused::BadRights);
        }
        if mode == Harvest::Log {
            return self.take_log();
        }
        if frames == 0 || frames > HARVEST {
            return Err(Refused::BadCount);
        }
        Ok(self.take_bits(first.0, frames, mode))
    }

    fn harvested(&self, word: usize) -> u64 {
        self.harvested[word]
    }

    fn generation(&mut self, _: usize, generation: u64) -> Result<(), Refused> {
        self.refused()?;
        if generation >= GENERATIONS {
            return Err(Refused::Reserved);
        }
        self.generation = generation;
        Ok(())
    }

    fn set_log(&mut self, _: usize, log: LogSwitch) -> Result<(), Refused> {
        self.refused()?;
        if !self.abilities.contains(Abilities::LOG) {
            return Err(Refused::BadRights);
        }
        self.log = match log {
            LogSwitch::On => Some(Vec::new()),
            LogSwitch::Off => None,
        };
        self.shown.clear();
        Ok(())
    }

    fn ready(&mut self, _: usize, token: u64) -> Result<(), Refused> {
        self.lives();
        self.ready.push(token);
        Ok(())
    }

    fn now(&mut self) -> u64 {
        self.tsc += self.each_look;
        self.tsc
    }

    fn wake_at(&mut self, tsc: u64) {
        self.wake = (tsc != 0).then_some(tsc);
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        self.message.insert(place, claim);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        self.stats.push((std::format!("{key}"), value));
    }
}
