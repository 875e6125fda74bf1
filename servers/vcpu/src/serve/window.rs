//! The guest's memory through the window that the kernel gives this task. Each first touch is a fault that the pager
//! answers.

use super::pager::{Pager, PagerError};
use heapless::Vec;
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::slot::{SlotRequest, Space, Tracking};
use rt::Window;
use vcpu::memory::{GuestMemory, NotRam, RamMap};

/// Whether the BIOS area may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bios {
    /// While the machine is being set up.
    Writable,
    /// From then on.
    ReadOnly,
}

/// The guest's RAM.
pub struct Ram {
    window: Window,
    map: RamMap,
    bios: Bios,
    vm: u16,
    /// Pages whose writes the guest does not do itself.
    tracked: Vec<Gfn, TRACKED>,
}

/// The most pages that are tracked at once.
const TRACKED: usize = 16;

/// Why a page's tracking does not change.
#[derive(Clone, Debug)]
pub enum NotTracked {
    /// Too many pages are tracked.
    Full,
    /// The pager does not do it.
    Pager(PagerError),
}

impl Ram {
    /// The memory of VM `vm`.
    pub const fn new(vm: u16, map: RamMap) -> Self {
        Self { window: Window::new(vm as usize, map.end()), map, bios: Bios::Writable, vm, tracked: Vec::new() }
    }

    /// From now on the guest's writes to the page come here, to be emulated, or are its own again.
    pub fn track(&mut self, gfn: Gfn, tracking: Tracking) -> Result<(), NotTracked> {
        if tracking == Tracking::On && self.tracked.is_full() && !self.tracked.contains(&gfn) {
            return Err(NotTracked::Full);
        }
        self.ask(gfn, tracking).map_err(NotTracked::Pager)?;
        self.tracked.retain(|tracked| *tracked != gfn);
        if tracking == Tracking::On {
            // There is room: it was looked for.
            let _ = self.tracked.push(gfn);
        }
        Ok(())
    }

    /// A pager that knows nothing of it is told what is tracked.
    pub fn track_again(&self) -> Result<(), PagerError> {
        self.tracked.iter().try_for_each(|gfn| self.ask(*gfn, Tracking::On))
    }

    /// Whether one of `pages` pages from `base` on is tracked: the window on it cannot be written.
    pub fn tracks(&self, base: Gfn, pages: u64) -> bool {
        self.tracked.iter().any(|gfn| gfn.0.checked_sub(base.0).is_some_and(|offset| offset < pages))
    }

    fn ask(&self, gfn: Gfn, tracking: Tracking) -> Result<(), PagerError> {
        Pager::of(self.vm).request(&SlotRequest::Track(Space::Normal, gfn, tracking))
    }

    /// Writes to a tracked page. Nobody can write such a page, so it is none for as long as this takes; the guest stands
    /// still meanwhile.
    #[cold]
    fn write_tracked(&self, gpa: u64, bytes: &[u8]) -> bool {
        let last = gpa.saturating_add(bytes.len().saturating_sub(1) as u64);
        let written = || (Gpa(gpa).gfn().0..=last >> 12).map(Gfn).filter(|gfn| self.tracked.contains(gfn));
        let off = written().all(|gfn| self.ask(gfn, Tracking::Off).is_ok());
        let done = off && self.window.write(gpa, bytes);
        written().all(|gfn| self.ask(gfn, Tracking::On).is_ok()) && done
    }

    /// From now on the BIOS area is read-only.
    pub const fn seal(&mut self) {
        self.bios = Bios::ReadOnly;
    }
}

impl GuestMemory for Ram {
    #[inline(always)]
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), NotRam> {
        let held = self.map.holds(gpa, bytes.len() as u64);
        if held && self.window.read(gpa, bytes) { Ok(()) } else { Err(NotRam) }
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam> {
        let len = bytes.len() as u64;
        let held = match self.bios {
            Bios::Writable => self.map.holds(gpa, len),
            Bios::ReadOnly => self.map.writable(gpa, len),
        };
        let written = |ram: &Self| {
            if ram.tracked.is_empty() { ram.window.write(gpa, bytes) } else { ram.write_tracked(gpa, bytes) }
        };
        if held && written(self) { Ok(()) } else { Err(NotRam) }
    }
}
