//! `wss`: how much of its memory a guest uses, and how much lies idle.

use super::{Advice, Begins, Duties, Looks, Policy, Purpose, Refusal, Verdict, View, number};
use crate::fault::PageFault;
use ipc_proto::manifest::MAX_VMS;

/// One page at a time; and round after round it is counted which pages with frames were used since the round before.
/// Option `ticks`: how often a block is looked at, in ticks of the time-stamp counter, 2,000,000 if it is not given.
#[derive(Debug)]
pub struct Wss {
    ticks: u64,
    vms: [Rounds; MAX_VMS],
}

/// What was counted of a VM.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    /// Of the round under way.
    used: u64,
    resident: u64,
    /// Of the last whole round.
    whole: Option<(u64, u64)>,
    /// The most that any round found in use.
    peak: u64,
    rounds: u64,
}

impl Rounds {
    const NONE: Self = Self { used: 0, resident: 0, whole: None, peak: 0, rounds: 0 };

    fn next(&mut self) {
        if self.resident > 0 {
            self.whole = Some((self.used, self.resident));
            self.peak = self.peak.max(self.used);
            self.rounds += 1;
        }
        (self.used, self.resident) = (0, 0);
    }
}

impl Default for Wss {
    fn default() -> Self {
        Self { ticks: 2_000_000, vms: [Rounds::NONE; MAX_VMS] }
    }
}

impl Policy for Wss {
    const NAME: &'static str = "wss";
    const ONE_PAGE: bool = true;
    const OPTIONS: &'static [(&'static str, &'static str)] = &[("ticks", "a whole number from 1 on")];

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "ticks" => self.ticks = number(value, 1..=u64::MAX)?,
            _ => return Err(Refusal::UnknownOption),
        }
        Ok(())
    }

    #[inline]
    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::THE_PAGE
    }

    fn duties(&self) -> Duties {
        Duties { period: Some(self.ticks), looks: Looks::Accessed, ..Duties::NONE }
    }

    fn survey(&mut self, view: &View) -> Verdict {
        let (Some(rounds), Purpose::Time { begins }) = (self.vms.get_mut(view.vm), view.purpose) else {
            return Verdict::KEEP;
        };
        if begins == Begins::Round {
            rounds.next();
        }
        rounds.resident += view.resident.count();
        // A machine that does not tell which pages were used may have used all of them.
        rounds.used += view.accessed.map_or(view.resident, |accessed| accessed.both(view.resident)).count();
        Verdict::KEEP
    }

    fn figure(&self, vm: usize, number: usize) -> Option<(&'static str, u64)> {
        let rounds = self.vms.get(vm)?;
        let (used, resident) = rounds.whole.unwrap_or((0, 0));
        let figures = [
            ("wss_rounds", rounds.rounds),
            ("wss_pages", used),
            ("wss_peak_pages", rounds.peak),
            ("idle_pages", resident - used),
        ];
        figures.get(number).copied()
    }
}
