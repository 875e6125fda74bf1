//! A core's user side: whose address space and ports the CPU has.

use crate::arch::paging::{Cached, Space};
use crate::arch::tables::Tables;
use crate::task::Task;
use core::sync::atomic::Ordering::Relaxed;

/// What of the CPU is a task's.
pub struct User {
    space: Space,
    /// Whether the ports of the task whose space this is are open.
    open: bool,
    tables: &'static mut Tables,
}

impl User {
    /// Nobody's.
    #[must_use]
    pub const fn new(tables: &'static mut Tables) -> Self {
        Self { space: Space::NONE, open: false, tables }
    }

    /// A VM exit has entered `space`.
    #[inline(always)]
    pub fn left_guest(&mut self, space: Space) {
        self.space = space;
        if self.open {
            self.open = false;
            self.tables.close_ports();
        }
    }

    /// Makes the CPU the task's.
    #[inline(always)]
    pub fn enter(&mut self, task: &Task) {
        if self.space != task.space {
            self.left_guest(task.space);
            let stale = task.stale.load(Relaxed);
            if stale {
                task.stale.store(false, Relaxed);
            }
            task.space.enter(if stale { Cached::Flush } else { Cached::Keep });
        }
    }

    /// As [`User::enter`], and nothing that was cached of the task's space is true.
    pub fn enter_anew(&mut self, task: &Task) {
        self.left_guest(task.space);
        task.space.enter(Cached::Flush);
    }

    /// Lets the task touch its ports, when it is its turn; false when it has none, or has them already.
    pub fn open_ports(&mut self, id: u8, task: &Task) -> bool {
        if self.open || task.ports.is_empty() {
            return false;
        }
        self.open = true;
        self.tables.open_ports(id, &task.ports);
        true
    }
}
