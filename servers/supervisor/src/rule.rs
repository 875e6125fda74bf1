//! When a task that has stopped is started again.
//!
//! At once, as long as it has not stopped by itself more often in a second than its entry in the manifest allows; each further
//! time in the same second waits twice as long as the one before. So a task that dies at once costs little and is given up
//! soon. A task that was killed is not to blame, and one that is done stays so.

use ipc_proto::call::Cause;

/// What is to be done about a task that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it, at that time.
    At(u64),
    /// It stays stopped.
    GiveUp,
}

/// What is known of one task's stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the second began in which stops are counted.
    since: u64,
    /// How many there were.
    stops: u8,
}

impl History {
    /// It has never stopped.
    pub const CLEAN: Self = Self { since: 0, stops: 0 };

    /// It has stopped now, for that cause; `allowed` are its restarts in a second of `tsc_hz` ticks.
    pub fn stopped(&mut self, cause: Cause, allowed: u8, now: u64, tsc_hz: u64) -> Verdict {
        match cause {
            Cause::Killed => return Verdict::At(now),
            Cause::Done => return Verdict::GiveUp,
            Cause::Nothing | Cause::Trap | Cause::Refused | Cause::Deadline | Cause::Window => {}
        }
        if self.stops == 0 || now - self.since > tsc_hz {
            *self = Self { since: now, stops: 0 };
        }
        if self.stops >= allowed {
            return Verdict::GiveUp;
        }
        self.stops += 1;
        Verdict::At(now + if self.stops == 1 { 0 } else { (tsc_hz / 1000) << (self.stops - 2).min(9) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000;

    #[test]
    fn the_first_time_at_once_then_later_and_later_and_then_never() {
        let mut task = History::CLEAN;
        let stops = core::array::from_fn(|n| task.stopped(Cause::Trap, 4, 10 + n as u64, HZ));
        assert_eq!(
            stops,
            [Verdict::At(10), Verdict::At(11 + 1000), Verdict::At(12 + 2000), Verdict::At(13 + 4000), Verdict::GiveUp]
        );
    }

    #[test]
    fn a_second_later_nothing_is_held_against_it() {
        let mut task = History::CLEAN;
        assert_eq!(task.stopped(Cause::Deadline, 1, 5, HZ), Verdict::At(5));
        assert_eq!(task.stopped(Cause::Deadline, 1, 6 + HZ, HZ), Verdict::At(6 + HZ));
        assert_eq!(task.stopped(Cause::Deadline, 1, 7 + HZ, HZ), Verdict::GiveUp);
    }

    #[test]
    fn who_was_killed_is_not_to_blame_who_is_done_is_done_and_without_a_rule_there_is_no_restart() {
        let mut task = History::CLEAN;
        assert!((0..100).all(|now| task.stopped(Cause::Killed, 0, now, HZ) == Verdict::At(now)));
        assert_eq!(task.stopped(Cause::Done, 9, 100, HZ), Verdict::GiveUp);
        assert_eq!(task.stopped(Cause::Trap, 0, 101, HZ), Verdict::GiveUp);
    }
}
