//! How one VM's memory is watched: what the CPU can do, how writes are seen, which answers the kernel may remember.

use crate::dirty::Way;
use crate::machine::{Cpu, Kernel, LogSwitch};
use ipc_proto::grant::Gfn;
use ipc_proto::memop::GENERATIONS;
use ipc_proto::refused::Refused;

/// Of one VM.
#[derive(Debug)]
pub struct Watch {
    /// What the CPU can do.
    pub cpu: Cpu,
    /// How writes are seen.
    pub way: Way,
    /// Whether the CPU logs them.
    pub log: LogSwitch,
    /// A logged slot has moved since the log was taken: what the log says is by gfns, some of them of before.
    pub log_is_old: bool,
    /// The slots' generation, as far as `Mmio` answers are remembered.
    pub mmio: Generation,
    /// Where blocks are made whole next.
    pub recovered: Gfn,
    /// The block whose tables were given back last, to make room for a large page.
    pub cleared: Option<Gfn>,
}

impl Watch {
    /// What any CPU can do, and nothing remembered.
    pub const PLAIN: Self = Self {
        cpu: Cpu::PLAIN,
        way: Way::WriteProtect,
        log: LogSwitch::Off,
        log_is_old: false,
        mmio: Generation::FIRST,
        recovered: Gfn(0),
        cleared: None,
    };
}

/// The generation of a VM's slots (KVM's memslot generation with its *update in progress* bit). The kernel keeps an answer
/// `Mmio` with the generation that it was given in, and forgets all of another one: so it is told a new one *before* slots
/// change, and an answer that is worked out during a change is not kept at all.
#[derive(Debug)]
pub struct Generation {
    number: u64,
    update: Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    None,
    InProgress,
}

impl Generation {
    /// Before the first slot: nothing is remembered.
    pub const FIRST: Self = Self { number: 0, update: Update::None };

    /// In that incarnation: none of those before has told the kernel numbers as high, unless it had millions.
    #[must_use]
    pub const fn of(incarnation: u32) -> Self {
        Self { number: (incarnation as u64) << 20 & (GENERATIONS - 1), update: Update::None }
    }

    /// Slots are about to change. What the kernel remembers is void from now on.
    ///
    /// # Errors
    /// What the kernel refuses it with; then slots must not change.
    pub fn begin(&mut self, vm: usize, kernel: &mut impl Kernel) -> Result<(), Refused> {
        let next = self.next();
        kernel.generation(vm, next)?;
        self.number = next;
        self.update = Update::InProgress;
        Ok(())
    }

    /// Numbers that were used never come back: after the last one there is only 0, under which nothing is remembered.
    const fn next(&self) -> u64 {
        let spent = self.number == 0 && matches!(self.update, Update::InProgress);
        if spent || self.number + 1 >= GENERATIONS { 0 } else { self.number + 1 }
    }

    /// The change is over.
    pub const fn end(&mut self) {
        // The last generation stays in progress for ever.
        if self.number != 0 {
            self.update = Update::None;
        }
    }

    /// What an answer `Mmio` says now; 0: it is not to be remembered.
    #[must_use]
    pub const fn to_remember(&self) -> u64 {
        match self.update {
            Update::None => self.number,
            Update::InProgress => 0,
        }
    }
}

#[cfg(test)]
mod tests;
