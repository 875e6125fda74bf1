//! The devices that small kernels touch first: interrupt controllers, old and new. And where this kernel is.

use guests::memory::{read, write};
use guests::port::{in8, out8};
use guests::report::{Report, holds};

/// The local APIC's registers, where there is one.
const LOCAL_APIC: u64 = 0xfee0_0000;
const VERSION: u64 = LOCAL_APIC + 0x30;
const SPURIOUS: u64 = LOCAL_APIC + 0xf0;
const LVT_TIMER: u64 = LOCAL_APIC + 0x320;

unsafe extern "C" {
    static image_first: u8;
    static image_end: u8;
}

/// The first byte of this kernel.
pub fn kernel_first() -> u64 {
    &raw const image_first as u64
}

/// One past the last byte of this kernel.
pub fn kernel_end() -> u64 {
    &raw const image_end as u64
}

/// An address within this kernel.
pub fn here() -> u64 {
    kernel_end() - 1
}

pub fn check(report: &mut Report) {
    report.check("both interrupt controllers keep their masks", masks());
    report.check("the local APIC's place can be touched", local_apic());
}

fn masks() -> Result<(), &'static str> {
    for (first, second) in [(0xff, 0xff), (0xa5, 0x5a), (0xff, 0xff)] {
        out8(0x21, first);
        out8(0xa1, second);
        holds(in8(0x21) == first && in8(0xa1) == second, "they do not")?;
    }
    Ok(())
}

/// Small kernels write there without asking CPUID. Whatever answers must be lasting, and a version if CPUID shows one.
fn local_apic() -> Result<(), &'static str> {
    let (before, has_one) = (read::<u32>(VERSION), guests::cpu::cpuid(1, 0).edx >> 9 & 1 == 1);
    write(LVT_TIMER, 1u32 << 16);
    write(SPURIOUS, 0x1ffu32);
    guests::line!("multiboot: local APIC version register {before:#x}");
    holds(before != u32::MAX || !has_one, "CPUID shows one, and it has no version")?;
    holds(read::<u32>(VERSION) == before, "its version changed")
}
