//! What the pager has to say to people, line by line: to the log, or one line of it in an answer.

use crate::backing::Backing;
use crate::machine::Kernel;
use crate::memslot::MemSlots;
use crate::policy::Chosen;
use crate::pool::Pool;
use crate::stats::{PfStats, VmStats, figures};
use core::fmt::{Arguments, Write};
use ipc_proto::slot::Space;
use ipc_proto::text::Text;

/// Takes lines, one after another.
pub trait Listener {
    /// The next line.
    fn say(&mut self, line: Arguments<'_>);
}

/// Prints every line.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Listener for Log {
    fn say(&mut self, line: Arguments<'_>) {
        log::info!("{line}");
    }
}

/// Keeps one line.
#[derive(Debug)]
pub struct One {
    /// How many lines come before it still.
    before: u16,
    kept: Option<Text>,
}

impl One {
    /// Keeps line `number`, counted from 0.
    #[must_use]
    pub const fn line(number: u16) -> Self {
        Self { before: number, kept: None }
    }

    /// The line, if there were so many.
    #[must_use]
    pub const fn kept(self) -> Option<Text> {
        self.kept
    }
}

impl Listener for One {
    fn say(&mut self, line: Arguments<'_>) {
        if self.kept.is_some() {
            return;
        }
        let Some(before) = self.before.checked_sub(1) else {
            let mut text = Text::empty();
            // A text that is too long is cut, and nothing else can happen.
            let _ = text.write_fmt(line);
            self.kept = Some(text);
            return;
        };
        self.before = before;
    }
}

/// The figures of a VM and what the kernel's own numbers for it are.
pub fn stats(
    vm: usize,
    (vcpus, of_vm): (&[PfStats], &VmStats),
    (pool, backing, policy): (&Pool, &Backing, &Chosen),
    kernel: &mut impl Kernel,
    listener: &mut impl Listener,
) {
    let found = (0..).map_while(|number| policy.figure(vm, number));
    for (key, value) in figures(vcpus, of_vm, pool).into_iter().chain(backing.figures(vm)).chain(found) {
        listener.say(format_args!("{key} {value}"));
    }
    if let Some(seq) = kernel.mmu_seq(vm) {
        listener.say(format_args!("mmu_seq {seq}"));
    }
}

/// The policy, and then every name there is, with its options and what each may be.
pub fn policies(policy: &Chosen, listener: &mut impl Listener) {
    listener.say(format_args!("{}", policy.name()));
    for other in Chosen::NAMES.iter().filter_map(|name| Chosen::by_name(name)) {
        listener.say(format_args!("can be {}", other.name()));
        for (key, allowed) in other.options() {
            listener.say(format_args!("  {key}=: {allowed}"));
        }
    }
}

/// The slots.
pub fn slots(slots: &MemSlots, listener: &mut impl Listener) {
    for space in [Space::Normal, Space::Smm] {
        for slot in slots.iter(space) {
            listener.say(format_args!(
                "slot {} {space:?} gpa {:#x} pages {} {:?} {:?}",
                slot.id().0,
                slot.base().0 << 12,
                slot.pages(),
                slot.flags(),
                slot.state()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Listener, One, policies};
    use crate::policy::Chosen;
    use ipc_proto::text::Text;

    fn told(tell: impl Fn(&mut One)) -> impl Iterator<Item = Text> {
        (0..).map_while(move |number| {
            let mut one = One::line(number);
            tell(&mut one);
            one.kept()
        })
    }

    #[test]
    fn every_policy_is_told_with_what_its_options_may_be() {
        let clock = Chosen::by_name("clock").expect("it exists");
        let lines: std::vec::Vec<Text> = told(|one| policies(&clock, one)).collect();
        let text = |place: usize| lines[place].as_str();
        assert_eq!(text(0), "clock");
        let around = lines.iter().position(|line| line.as_str() == "can be fault-around").expect("it is told");
        assert_eq!(text(around + 1), "  window=: a whole number from 1 to 512");
        let named = lines.iter().filter(|line| line.as_str().starts_with("can be ")).count();
        assert_eq!(named, Chosen::NAMES.len());
    }

    #[test]
    fn one_line_of_many_is_kept() {
        for (wanted, kept) in [(0, Some("a")), (1, Some("b")), (2, None)] {
            let mut one = One::line(wanted);
            one.say(format_args!("a"));
            one.say(format_args!("b"));
            assert_eq!(one.kept(), kept.map(Text::cut));
        }
    }
}
