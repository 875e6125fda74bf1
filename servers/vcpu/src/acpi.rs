//! The ACPI tables, in the BIOS area. `build/acpi.rs` makes them when the server is built.

use crate::memory::{GuestMemory, NotRam};

/// Where the root pointer is.
pub const RSDP: u64 = 0xe_0000;

/// Root pointer and tables, from [`RSDP`] on.
pub const TABLES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/acpi.bin"));

/// Writes the tables.
///
/// # Errors
/// [`NotRam`] when the BIOS area cannot be written.
pub fn write(memory: &mut dyn GuestMemory) -> Result<(), NotRam> {
    memory.write(RSDP, TABLES)
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
