//! Kills at instants that nobody knows beforehand, for tests: the options `kill = TASK`, `kill.count`, `kill.seed`,
//! `kill.within_us` (between two kills lies up to twice that) and `kill.after_ms` of the supervisor.

use ipc_proto::manifest::in_place::Task;

/// What is left to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The victim's place in the manifest.
    pub victim: usize,
    /// How often still.
    pub left: u64,
    /// When next, in ticks of the time-stamp counter.
    pub due: u64,
    state: u64,
    within: u64,
}

impl Drill {
    /// What the options of the supervisor's entry ask for; `place` finds a task by name.
    pub fn of(entry: &Task<'_>, tsc_hz: u64, now: u64, place: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let victim = place(entry.option("kill")?)?;
        let number = |key, usual| entry.option(key).and_then(|text| text.parse().ok()).unwrap_or(usual);
        let within = (number("kill.within_us", 1000) * (tsc_hz / 1_000_000)).max(1);
        let state = number("kill.seed", 1).max(1);
        let due = now + number("kill.after_ms", 0) * (tsc_hz / 1000);
        let mut drill = Self { victim, left: number("kill.count", 1), due, state, within };
        drill.draw(due);
        Some(drill)
    }

    /// One kill less; draws the time of the next.
    pub const fn draw(&mut self, now: u64) {
        // xorshift64: what comes need not be random, only different.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.due = now + 1 + self.state % (2 * self.within);
    }
}
