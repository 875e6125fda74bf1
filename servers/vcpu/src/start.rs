//! The state a vCPU starts in, and the tables in guest memory that this state needs.

use crate::control::{cr0, cr4};
use crate::memory::{GuestMemory, NotRam};
use crate::msr::{PAT_RESET, efer};
use ipc_proto::state::{Segment, Table, VcpuState};

/// The code segment of every start state, as the Linux boot protocol wants it.
pub const CODE: u64 = 0x10;
/// The data segment of every start state.
pub const DATA: u64 = 0x18;

/// Where the tables are in guest memory, all below 64 KiB.
pub mod place {
    #![expect(missing_docs, reason = "the names say it")]
    pub const BDA: u64 = 0x400;
    pub const GDT: u64 = 0x600;
    pub const PML4: u64 = 0x1000;
    pub const PDPT: u64 = 0x2000;
    /// Four page directories, one for each GiB.
    pub const DIRECTORIES: u64 = 0x3000;
    pub const BOOT_DATA: u64 = 0x7000;
    pub const COMMAND_LINE: u64 = 0x9000;
    /// The stack of a guest that starts with one grows down from here.
    pub const STACK: u64 = 0x8_0000;
}

const ACCESS_CODE64: u64 = 0xa09b;
const ACCESS_CODE32: u64 = 0xc09b;
const ACCESS_DATA: u64 = 0xc093;
const ACCESS_TSS_BUSY: u64 = 0x8b;
const ACCESS_UNUSABLE: u64 = 1 << 16;
const FLAT_LIMIT: u64 = 0xffff_ffff;

/// Whether a flat code segment is for 64-bit or for 32-bit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Bits32,
    Bits64,
}

const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;

/// Writes the BIOS data that old kernels look for: COM1 first among the serial ports, and 639 KiB of conventional memory.
///
/// # Errors
/// [`NotRam`] when the machine has no conventional memory.
pub fn write_bios_data(memory: &mut dyn GuestMemory) -> Result<(), NotRam> {
    memory.write(place::BDA, &0x3f8u16.to_le_bytes())?;
    memory.write(place::BDA + 0x13, &639u16.to_le_bytes())
}

/// Writes the BIOS data, the descriptor table, and the identity map of the first 4 GiB.
///
/// # Errors
/// [`NotRam`] when the machine has no conventional memory.
pub fn write_tables(memory: &mut dyn GuestMemory) -> Result<(), NotRam> {
    write_bios_data(memory)?;
    write_gdt(memory, Width::Bits64)?;
    memory.write(place::PML4, &(place::PDPT | PRESENT_WRITABLE).to_le_bytes())?;
    for gib in 0..4 {
        let directory = place::DIRECTORIES + gib * 0x1000;
        memory.write(place::PDPT + gib * 8, &(directory | PRESENT_WRITABLE).to_le_bytes())?;
        let mut page = [0; 4096];
        for (index, entry) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *entry = (gib << 30 | (index as u64) << 21 | LARGE | PRESENT_WRITABLE).to_le_bytes();
        }
        memory.write(directory, &page)?;
    }
    Ok(())
}

fn write_gdt(memory: &mut dyn GuestMemory, width: Width) -> Result<(), NotRam> {
    let code = match width {
        Width::Bits64 => descriptor(ACCESS_CODE64),
        Width::Bits32 => descriptor(ACCESS_CODE32),
    };
    for (index, entry) in [0, 0, code, descriptor(ACCESS_DATA)].into_iter().enumerate() {
        memory.write(place::GDT + index as u64 * 8, &entry.to_le_bytes())?;
    }
    Ok(())
}

/// A descriptor of base 0 and the largest limit.
const fn descriptor(access: u64) -> u64 {
    0x000f_0000_0000_ffff | (access & 0xff) << 40 | (access & 0xf000) << 40
}

const fn flat(selector: u64, access: u64) -> Segment {
    Segment { selector, base: 0, limit: FLAT_LIMIT, access }
}

fn common(code: u64, rip: u64) -> VcpuState {
    let data = flat(DATA, ACCESS_DATA);
    VcpuState {
        rip,
        // Bit 1 is always set; interrupts are off.
        rflags: 2,
        rsp: place::STACK,
        es: data,
        cs: flat(CODE, code),
        ss: data,
        ds: data,
        fs: data,
        gs: data,
        ldtr: Segment { access: ACCESS_UNUSABLE, ..Segment::default() },
        tr: Segment { limit: 0xffff, access: ACCESS_TSS_BUSY, ..Segment::default() },
        gdtr: Table { base: place::GDT, limit: 0x1f },
        dr7: 0x400,
        pat: PAT_RESET,
        ..VcpuState::default()
    }
}

/// 64-bit mode at `rip` with the identity map of [`write_tables`].
#[must_use]
pub fn long_mode(rip: u64) -> VcpuState {
    VcpuState {
        cr0: cr0::PG | cr0::NE | cr0::ET | cr0::PE,
        cr3: place::PML4,
        cr4: cr4::PAE,
        efer: efer::LME | efer::LMA,
        ..common(ACCESS_CODE64, rip)
    }
}

/// 32-bit protected mode at `rip` without paging. The descriptor table is made to fit.
///
/// # Errors
/// [`NotRam`] when the machine has no conventional memory.
pub fn protected_mode(rip: u64, memory: &mut dyn GuestMemory) -> Result<VcpuState, NotRam> {
    write_gdt(memory, Width::Bits32)?;
    Ok(VcpuState { cr0: cr0::NE | cr0::ET | cr0::PE, ..common(ACCESS_CODE32, rip) })
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
