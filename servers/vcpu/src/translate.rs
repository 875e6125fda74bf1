//! The guest's own page tables: from a linear address to a guest-physical one, as the guest's CPU would go.
//! One walk for 32-bit, PAE and 4-level tables. SDM vol. 3A, chapter 5.

use crate::alu::mask;
use crate::control::{cr0, cr4};
use crate::memory::{GuestMemory, NotRam};
use crate::msr::efer;
use ipc_proto::state::VcpuState;

/// How wide the guest's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Real mode, virtual-8086 mode and 16-bit segments.
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data is read.
    Read,
    /// Data is written.
    Write,
    /// An instruction is read: the CPU has done so already, so only the translation is wanted.
    Fetch,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTranslation {
    /// The guest's tables forbid the access: its #PF has this address and this error code.
    PageFault(u64, u32),
    /// A table lies outside of RAM.
    TableOutsideRam,
}

impl From<NotRam> for NoTranslation {
    fn from(_: NotRam) -> Self {
        Self::TableOutsideRam
    }
}

const CS_LONG: u64 = 1 << 13;
const CS_DEFAULT: u64 = 1 << 14;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const CR0_WP: u64 = 1 << 16;
const CR4_PSE: u64 = 1 << 4;

/// The width of the code that runs.
#[must_use]
pub const fn width(state: &VcpuState) -> Width {
    if state.efer & efer::LMA != 0 && state.cs.access & CS_LONG != 0 {
        Width::Bits64
    } else if state.cs.access & CS_DEFAULT != 0 {
        Width::Bits32
    } else {
        Width::Bits16
    }
}

/// The shape of the tables, which CR4 and EFER choose.
#[derive(Clone, Copy)]
struct Shape {
    levels: u32,
    index_bits: u32,
    entry_size: u8,
    root: u64,
    /// The levels, counted from the pages, that may map a large page.
    large: [bool; 4],
    /// The level whose entries have neither rights nor accessed bits: PAE's page-directory pointers.
    bare: Option<u32>,
}

impl Shape {
    /// Four levels.
    const fn long(state: &VcpuState) -> Self {
        let large = [false, true, true, false];
        Self { levels: 4, index_bits: 9, entry_size: 8, root: state.cr3 & ADDRESS, large, bare: None }
    }

    /// PAE.
    const fn three_levels(state: &VcpuState) -> Self {
        let large = [false, true, false, false];
        let root = state.cr3 & 0xffff_ffe0;
        Self { levels: 3, index_bits: 9, entry_size: 8, root, large, bare: Some(2) }
    }

    /// 32-bit.
    const fn two_levels(state: &VcpuState) -> Self {
        let large = [false, state.cr4 & CR4_PSE != 0, false, false];
        let root = state.cr3 & 0xffff_f000;
        Self { levels: 2, index_bits: 10, entry_size: 4, root, large, bare: None }
    }

    /// The frame of a large page: 4 MiB pages keep address bits 39:32 in bits 20:13.
    const fn large_frame(&self, entry: u64, offset_bits: u32) -> u64 {
        if self.entry_size == 4 {
            return entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32;
        }
        entry & ADDRESS & !((1 << offset_bits) - 1)
    }
}

/// Where the guest-physical byte of a linear address is.
///
/// # Errors
/// [`NoTranslation`].
pub fn translate<M: GuestMemory>(
    state: &VcpuState,
    memory: &mut M,
    linear: u64,
    access: Access,
) -> Result<u64, NoTranslation> {
    let linear = match width(state) {
        Width::Bits64 => linear,
        Width::Bits16 | Width::Bits32 => linear & mask(4),
    };
    if state.cr0 & cr0::PG == 0 {
        return Ok(linear);
    }
    // One walk, compiled for each shape.
    if state.efer & efer::LMA != 0 {
        walk(&Shape::long(state), state, memory, linear, access)
    } else if state.cr4 & cr4::PAE != 0 {
        walk(&Shape::three_levels(state), state, memory, linear, access)
    } else {
        walk(&Shape::two_levels(state), state, memory, linear, access)
    }
}

#[inline(always)]
fn walk<M: GuestMemory>(
    shape: &Shape,
    state: &VcpuState,
    memory: &mut M,
    linear: u64,
    access: Access,
) -> Result<u64, NoTranslation> {
    let mut table = shape.root;
    let mut rights = WRITABLE | USER;
    for level in (0..shape.levels).rev() {
        let offset_bits = 12 + level * shape.index_bits;
        let index = linear >> offset_bits & ((1 << shape.index_bits) - 1);
        let place = table + index * u64::from(shape.entry_size);
        let entry = read_entry(memory, place, shape.entry_size)?;
        if entry & PRESENT == 0 {
            return Err(fault(state, linear, access, 0));
        }
        let bare = shape.bare == Some(level);
        if !bare {
            rights &= entry;
        }
        let leaf = level == 0 || (shape.large[level as usize] && entry & LARGE != 0);
        if leaf && !allowed(state, rights, access) {
            return Err(fault(state, linear, access, PRESENT));
        }
        if !bare {
            let used = ACCESSED | if leaf && access == Access::Write { DIRTY } else { 0 };
            mark(memory, place, shape.entry_size, entry, used)?;
        }
        if leaf {
            let frame = if level == 0 { entry & ADDRESS } else { shape.large_frame(entry, offset_bits) };
            return Ok(frame | linear & ((1 << offset_bits) - 1));
        }
        table = entry & ADDRESS;
    }
    Err(NoTranslation::TableOutsideRam)
}

#[inline(always)]
fn read_entry(memory: &impl GuestMemory, place: u64, size: u8) -> Result<u64, NotRam> {
    if size == 4 {
        return memory.array(place).map(u32::from_le_bytes).map(u64::from);
    }
    memory.array(place).map(u64::from_le_bytes)
}

/// Sets bits of an entry that the CPU sets when it uses the entry.
fn mark(memory: &mut impl GuestMemory, place: u64, size: u8, entry: u64, bits: u64) -> Result<(), NotRam> {
    if entry & bits == bits {
        return Ok(());
    }
    memory.write(place, &(entry | bits).to_le_bytes()[..usize::from(size)])
}

/// Whether the current privilege level is that of user code.
const fn is_user(state: &VcpuState) -> bool {
    state.ss.access >> 5 & 3 == 3
}

const fn allowed(state: &VcpuState, rights: u64, access: Access) -> bool {
    if is_user(state) && rights & USER == 0 {
        return false;
    }
    match access {
        Access::Read | Access::Fetch => true,
        Access::Write => rights & WRITABLE != 0 || (!is_user(state) && state.cr0 & CR0_WP == 0),
    }
}

fn fault(state: &VcpuState, linear: u64, access: Access, present: u64) -> NoTranslation {
    let write = if access == Access::Write { WRITABLE } else { 0 };
    let user = if is_user(state) { USER } else { 0 };
    NoTranslation::PageFault(linear, (present | write | user) as u32)
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
