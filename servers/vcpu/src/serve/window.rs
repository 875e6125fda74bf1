//! The guest's memory through the window that the kernel gives this task. Each first touch is a fault that the pager
//! answers.

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
}

impl Ram {
    /// The memory of VM `vm`.
    pub const fn new(vm: u16, map: RamMap) -> Self {
        Self { window: Window::new(vm as usize, map.end()), map, bios: Bios::Writable }
    }

    /// From now on the BIOS area is read-only.
    pub const fn seal(&mut self) {
        self.bios = Bios::ReadOnly;
    }
}

impl GuestMemory for Ram {
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
        if held && self.window.write(gpa, bytes) { Ok(()) } else { Err(NotRam) }
    }
}
