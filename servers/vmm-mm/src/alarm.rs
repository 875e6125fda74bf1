//! The task has one timer, and two who want to be woken: what a fault waits for, and what is done when there is time.

/// Ticks from the wish for time to the time: a burst of faults is let through first.
pub const LATER: u64 = 100_000;

/// Who wants to be woken, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    waited_for: Option<u64>,
    leisure: Option<u64>,
}

/// What the time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing that was asked for.
    Nothing,
    /// What a fault waits for. It goes first; the rest is due again at once.
    WaitedFor,
    /// What is done when there is time.
    Leisure,
}

impl Alarm {
    /// Nobody.
    pub const NONE: Self = Self { waited_for: None, leisure: None };

    /// What a fault waits for is to be done at `tsc`; it replaces what was asked for before. Says to what the timer is to
    /// be set.
    pub fn wake_at(&mut self, tsc: u64) -> u64 {
        self.waited_for = Some(tsc);
        self.next()
    }

    /// Somebody wants time. Says to what the timer is to be set; `None` when it is already.
    pub fn ask_for_time(&mut self, now: u64) -> Option<u64> {
        if self.leisure.is_some() {
            return None;
        }
        self.leisure = Some(now.saturating_add(LATER));
        Some(self.next())
    }

    /// The timer has come: for what, and to what it is to be set now, 0 for not at all.
    pub fn rang(&mut self, now: u64) -> (Due, u64) {
        let is_due = |wish: &Option<u64>| wish.is_some_and(|tsc| tsc <= now);
        let due = if is_due(&self.waited_for) {
            self.waited_for = None;
            Due::WaitedFor
        } else if is_due(&self.leisure) {
            self.leisure = None;
            Due::Leisure
        } else {
            Due::Nothing
        };
        (due, self.next())
    }

    /// The earlier wish; 0 for none.
    fn next(&self) -> u64 {
        self.waited_for.into_iter().chain(self.leisure).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_wish_is_what_the_timer_is_set_to() {
        let mut alarm = Alarm::NONE;
        assert_eq!(alarm.ask_for_time(1000), Some(1000 + LATER));
        assert_eq!(alarm.ask_for_time(5000), None, "the first wish stands: faults cannot put it off for ever");
        assert_eq!(alarm.wake_at(2000), 2000);
        assert_eq!(alarm.wake_at(1000 + 2 * LATER), 1000 + LATER);
    }

    #[test]
    fn what_a_fault_waits_for_goes_first_and_nothing_is_lost() {
        let mut alarm = Alarm::NONE;
        let _ = alarm.ask_for_time(0);
        let _ = alarm.wake_at(LATER);
        assert_eq!(alarm.rang(LATER - 1), (Due::Nothing, LATER), "too early");
        assert_eq!(alarm.rang(LATER), (Due::WaitedFor, LATER));
        assert_eq!(alarm.rang(LATER), (Due::Leisure, 0));
        assert_eq!(alarm.rang(LATER), (Due::Nothing, 0));
        assert_eq!(alarm.ask_for_time(LATER), Some(2 * LATER), "time can be asked for again");
    }
}
