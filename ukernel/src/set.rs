//! Sets of contexts: who is ready, who waits to ask. One word, so that nobody is in a set twice and none can be full.

use crate::core::Context;
use ipc_proto::manifest::{MAX_TASKS, MAX_VCPUS, MAX_VMS};

/// Bits below are vCPUs, from here on threads.
const THREADS: u32 = (MAX_VMS * MAX_VCPUS) as u32;
const _: () = assert!(THREADS as usize + MAX_TASKS <= 64, "every context has a bit");

/// A set of vCPUs and threads, who are taken out of it in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contexts {
    /// A bit for each that is in it.
    members: u64,
    /// The bit after the one that was taken last: where the next turn begins.
    turn: u32,
}

impl Contexts {
    const fn bit(context: Context) -> u64 {
        match context {
            Context::Idle => 0,
            Context::Vcpu(vcpu) => 1 << (vcpu as u32 % THREADS),
            Context::Thread(thread) => 1 << ((THREADS + thread as u32) % 64),
        }
    }

    /// A bit for each that is in it.
    #[inline(always)]
    #[must_use]
    pub const fn members(self) -> u64 {
        self.members
    }

    /// Adds `context`.
    pub const fn insert(&mut self, context: Context) {
        self.members |= Self::bit(context);
    }

    /// Takes `context` out.
    pub const fn remove(&mut self, context: Context) {
        self.members &= !Self::bit(context);
    }

    /// Takes the next one out, round and round, so that everyone has a turn.
    pub const fn take(&mut self) -> Option<Context> {
        if self.members == 0 {
            return None;
        }
        let number = (self.members.rotate_right(self.turn).trailing_zeros() + self.turn) % 64;
        self.members &= !(1 << number);
        self.turn = (number + 1) % 64;
        Some(if number < THREADS { Context::Vcpu(number as u8) } else { Context::Thread((number - THREADS) as u8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn() {
        let all = [Context::Vcpu(0), Context::Vcpu(31), Context::Thread(0), Context::Thread(MAX_TASKS as u8 - 1)];
        let mut set = Contexts::default();
        all.into_iter().for_each(|context| set.insert(context));
        for n in 0..12 {
            let next = set.take().expect("someone is there");
            assert_eq!(next, all[n % 4]);
            // It is back at once: whoever waits for the CPU all the time must not keep it from the others.
            set.insert(next);
        }
        set.remove(Context::Vcpu(0));
        assert_eq!(set.take(), Some(Context::Vcpu(31)));
    }

    #[test]
    fn nobody_is_in_a_set_twice() {
        let mut set = Contexts::default();
        set.insert(Context::Thread(3));
        set.insert(Context::Thread(3));
        set.insert(Context::Idle);
        assert_eq!(set.take(), Some(Context::Thread(3)));
        assert_eq!(set.members(), 0);
        assert_eq!(set.take(), None);
    }
}
