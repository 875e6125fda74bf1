//! The guest's memory-type range registers (SDM vol. 3A, 12.11), as far as they matter here: whether a range has one type.
//!
//! RAM is mapped write-back whatever they say: no device of ours does DMA past the caches. But a large page over memory
//! of several types would make the guest's own view of them inconsistent, so such a range is mapped in small pages, as
//! KVM's `kvm_mtrr_check_gfn_range_consistency` has it.

use ipc_proto::grant::Gfn;

/// Variable ranges.
const VARIABLE: usize = 10;
/// `IA32_MTRR_DEF_TYPE`: bits 7:0 default type, 10 fixed ranges on, 11 all on.
const DEF_TYPE: u32 = 0x2ff;
/// `IA32_MTRR_PHYSBASE0`; base and mask alternate from there.
const PHYSBASE0: u32 = 0x200;
/// The eleven registers of the fixed ranges: number, first address, bytes for each of the eight types in it.
const FIXED: [(u32, u64, u64); 11] = [
    (0x250, 0, 0x1_0000),
    (0x258, 0x8_0000, 0x4000),
    (0x259, 0xa_0000, 0x4000),
    (0x268, 0xc_0000, 0x1000),
    (0x269, 0xc_8000, 0x1000),
    (0x26a, 0xd_0000, 0x1000),
    (0x26b, 0xd_8000, 0x1000),
    (0x26c, 0xe_0000, 0x1000),
    (0x26d, 0xe_8000, 0x1000),
    (0x26e, 0xf_0000, 0x1000),
    (0x26f, 0xf_8000, 0x1000),
];
/// Every register.
pub const REGISTERS: [u32; 2 * VARIABLE + FIXED.len() + 1] = {
    let (mut all, mut n) = ([DEF_TYPE; 2 * VARIABLE + FIXED.len() + 1], 0);
    while n < 2 * VARIABLE {
        all[n] = PHYSBASE0 + n as u32;
        n += 1;
    }
    while n < 2 * VARIABLE + FIXED.len() {
        (all[n], _, _) = FIXED[n - 2 * VARIABLE];
        n += 1;
    }
    all
};
/// Where fixed ranges end.
const FIXED_END: u64 = 0x10_0000;
/// The address bits of base and mask.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The registers of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtrrs {
    default: u64,
    fixed: [u64; FIXED.len()],
    /// Base and mask.
    variable: [(u64, u64); VARIABLE],
}

/// No register of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRegister;

impl Mtrrs {
    /// As after a reset: switched off.
    pub const OFF: Self = Self { default: 0, fixed: [0; FIXED.len()], variable: [(0, 0); VARIABLE] };

    /// The guest has written a register.
    ///
    /// # Errors
    /// [`NoRegister`]; nothing has changed then.
    pub fn write(&mut self, register: u32, value: u64) -> Result<(), NoRegister> {
        if register == DEF_TYPE {
            self.default = value;
            return Ok(());
        }
        if let Some(place) = FIXED.iter().position(|(number, ..)| *number == register) {
            self.fixed[place] = value;
            return Ok(());
        }
        let place = register.checked_sub(PHYSBASE0).ok_or(NoRegister)? as usize;
        let range = self.variable.get_mut(place / 2).ok_or(NoRegister)?;
        if place.is_multiple_of(2) {
            range.0 = value
        } else {
            range.1 = value
        }
        Ok(())
    }

    /// Whether every byte of `pages` pages from `first` on has the same type; `pages` is a power of two and `first` a
    /// multiple of it.
    #[must_use]
    pub fn is_uniform(&self, first: Gfn, pages: u64) -> bool {
        if self.default & 1 << 11 == 0 {
            return true;
        }
        let (start, size) = (first.0 << 12, pages << 12);
        if start < FIXED_END && self.default & 1 << 10 != 0 {
            return self.fixed_is_uniform(start, size);
        }
        self.variable.iter().all(|(base, mask)| covers_evenly(*base, *mask, start, size))
    }

    /// Below 1 MiB: a large page begins there with all the fixed ranges in it, and goes on beyond them.
    fn fixed_is_uniform(&self, start: u64, size: u64) -> bool {
        let inside = |n: &u64| *n >= start && *n - start < size;
        let mut seen = None;
        for (register, (_, first, each)) in self.fixed.iter().zip(FIXED) {
            for n in (0..8).filter(|n| inside(&(first + n * each))) {
                let kind = register >> (8 * n) & 0xff;
                if *seen.get_or_insert(kind) != kind {
                    return false;
                }
            }
        }
        let beyond = start + size > FIXED_END;
        let no_variable = self.variable.iter().all(|(_, mask)| mask & 1 << 11 == 0);
        !beyond || (no_variable && seen.is_none_or(|kind| kind == self.default & 0xff))
    }
}

/// Whether a variable range holds all of `start..start + size` or nothing of it: an address is in the range when it
/// equals the base in the mask's bits, so a mask that has none of the bits inside the page treats all of it alike.
const fn covers_evenly(base: u64, mask: u64, start: u64, size: u64) -> bool {
    let valid = mask & 1 << 11 != 0;
    let inside = mask & ADDRESS & (size - 1);
    let touches = (start ^ base) & mask & ADDRESS & !(size - 1) == 0;
    !valid || inside == 0 || !touches
}

#[cfg(test)]
mod tests;
