//! The registers of a local APIC that interrupts nobody: small kernels write to it before they look whether CPUID
//! offers one. What is written reads back; SDM vol. 3A, table 12-1.

/// Where it is, and how far it reaches.
pub const BASE: u64 = 0xfee0_0000;
const SIZE: u64 = 0x1000;

/// An integrated APIC with seven local vectors.
const VERSION: u32 = 0x0006_0014;
/// Vectors masked, spurious vector 0xff, software-disabled.
const SPURIOUS_RESET: u32 = 0xff;
const MASKED: u32 = 0x1_0000;

mod register {
    pub const ID: usize = 0x02;
    pub const VERSION: usize = 0x03;
    pub const TASK_PRIORITY: usize = 0x08;
    pub const EOI: usize = 0x0b;
    pub const LOGICAL_DESTINATION: usize = 0x0d;
    pub const DESTINATION_FORMAT: usize = 0x0e;
    pub const SPURIOUS: usize = 0x0f;
    pub const ERROR: usize = 0x28;
    pub const COMMAND_LOW: usize = 0x30;
    pub const COMMAND_HIGH: usize = 0x31;
    pub const FIRST_VECTOR: usize = 0x32;
    pub const LAST_VECTOR: usize = 0x37;
    pub const INITIAL_COUNT: usize = 0x38;
    pub const DIVIDE: usize = 0x3e;
    /// Registers are 16 bytes apart.
    pub const COUNT: usize = 0x40;
}

/// Delivery status of the command register: always idle.
const COMMAND_PENDING: u32 = 1 << 12;

/// The registers.
#[derive(Clone, Debug)]
pub struct Lapic {
    registers: [u32; register::COUNT],
}

impl Default for Lapic {
    fn default() -> Self {
        Self::new()
    }
}

impl Lapic {
    /// The registers after reset.
    #[must_use]
    pub const fn new() -> Self {
        let mut registers = [0; register::COUNT];
        registers[register::VERSION] = VERSION;
        registers[register::DESTINATION_FORMAT] = u32::MAX;
        registers[register::SPURIOUS] = SPURIOUS_RESET;
        let mut vector = register::FIRST_VECTOR;
        while vector <= register::LAST_VECTOR {
            registers[vector] = MASKED;
            vector += 1;
        }
        Self { registers }
    }

    /// The register that a guest-physical address belongs to, if it is this APIC's.
    const fn register(gpa: u64) -> Option<usize> {
        if gpa < BASE || gpa >= BASE + SIZE {
            return None;
        }
        Some(((gpa - BASE) >> 4) as usize)
    }

    /// A read of up to four bytes; `None` for an address that is not the APIC's.
    #[must_use]
    pub fn read(&self, gpa: u64) -> Option<u64> {
        let register = Self::register(gpa)?;
        let value = self.registers.get(register).copied().unwrap_or(0);
        // Bytes 4 to 15 of a register are undefined.
        Some(u64::from(value) >> (8 * (gpa & 3)))
    }

    /// A write of four bytes; `None` for an address that is not the APIC's.
    pub fn write(&mut self, gpa: u64, value: u64) -> Option<()> {
        let register = Self::register(gpa)?;
        let value = value as u32;
        match register {
            register::ID
            | register::TASK_PRIORITY
            | register::LOGICAL_DESTINATION
            | register::DESTINATION_FORMAT
            | register::SPURIOUS
            | register::COMMAND_HIGH
            | register::FIRST_VECTOR..=register::LAST_VECTOR
            | register::INITIAL_COUNT
            | register::DIVIDE => self.registers[register] = value,
            register::COMMAND_LOW => self.registers[register] = value & !COMMAND_PENDING,
            // Nothing is in service and no error has happened; what is left can only be read.
            register::EOI | register::ERROR => {}
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BASE, Lapic};

    #[test]
    fn what_is_written_reads_back_and_the_version_stays() {
        let mut lapic = Lapic::new();
        for (offset, value) in [(0x80, 0x10), (0xf0, 0x1ff), (0x350, 0x700), (0x310, 0x0100_0000)] {
            assert_eq!(lapic.write(BASE + offset, value), Some(()));
            assert_eq!(lapic.read(BASE + offset), Some(value));
        }
        assert_eq!(lapic.write(BASE + 0x30, 0), Some(()));
        assert_eq!(lapic.read(BASE + 0x30), Some(0x6_0014));
    }

    #[test]
    fn a_command_is_never_pending() {
        let mut lapic = Lapic::new();
        assert_eq!(lapic.write(BASE + 0x300, 0x1_4612 | 1 << 12), Some(()));
        assert_eq!(lapic.read(BASE + 0x300).map(|value| value >> 12 & 1), Some(0));
    }

    #[test]
    fn the_page_ends_where_it_ends() {
        let mut lapic = Lapic::new();
        assert_eq!((lapic.read(BASE + 0x1000), lapic.read(BASE - 1)), (None, None));
        assert_eq!(lapic.write(BASE + 0x1000, 0), None);
        assert_eq!(lapic.read(BASE + 0xff0), Some(0));
    }
}
