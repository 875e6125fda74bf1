//! Guest-physical addresses that are no ordinary memory: nothing at all, and memory that is read-only.

use guests::memory::{Address, read, write};
use guests::report::{Report, equal, holds};

/// The old VGA window, where this machine has nothing.
const VGA: Address = 0xb_8000;
/// The area of the firmware's tables: memory that a guest may only read.
const READ_ONLY: [Address; 3] = [0xc_0000, 0xe_0000, 0xf_fff8];
/// Above RAM and below the devices' area of a PC.
const ABOVE: u64 = 1 << 20;

pub fn check(report: &mut Report, ram: u64) {
    report.check("nothing behind RAM reads all ones", all_ones(ram + ABOVE));
    report.check("nothing at the VGA window reads all ones", all_ones(VGA));
    report.check("nothing reads all ones in every instruction", instructions(ram + ABOVE));
    report.check("a write to read-only memory changes nothing", READ_ONLY.into_iter().try_for_each(read_only));
}

/// Reads are all ones at every width; writes go nowhere.
fn all_ones(address: Address) -> Result<(), &'static str> {
    for _ in 0..2 {
        holds(read::<u8>(address + 1) == u8::MAX, "8 bits")?;
        holds(read::<u16>(address + 2) == u16::MAX, "16 bits")?;
        holds(read::<u32>(address + 4) == u32::MAX, "32 bits")?;
        holds(read::<u64>(address + 8) == u64::MAX, "64 bits")?;
        write(address + 1, 0u8);
        write(address + 2, 0u16);
        write(address + 4, 0u32);
        write(address + 8, 0u64);
    }
    Ok(())
}

/// The hypervisor has to decode these: operands of other kinds, extensions, arithmetic, flags.
fn instructions(address: Address) -> Result<(), &'static str> {
    let (zero_extended, sign_extended, sum, equal): (u64, u64, u64, u8);
    // SAFETY: there is nothing at `address`; writes go nowhere.
    unsafe {
        core::arch::asm!(
            "movzx {zx:e}, byte ptr [{a}]",
            "movsx {sx}, word ptr [{a} + {i}*2]",
            "mov {s}, 2",
            "add {s}, [{a} + 16]",
            "mov dword ptr [{a} + 4], 7",
            "mov [{a} + 8], {s:l}",
            "cmp dword ptr [{a} + 4], -1",
            "sete {eq}",
            a = in(reg) address, i = in(reg) 3u64, zx = out(reg) zero_extended, sx = out(reg) sign_extended,
            s = out(reg) sum, eq = out(reg_byte) equal, options(nostack)
        );
    }
    holds(zero_extended == 0xff, "movzx")?;
    holds(sign_extended == u64::MAX, "movsx")?;
    holds(sum == 1, "add")?;
    holds(equal == 1, "cmp")
}

fn read_only(address: Address) -> Result<(), guests::report::Unequal> {
    let before = read::<u64>(address);
    write(address, !before);
    equal(address, read(address), before)?;
    write(address + 3, !before as u8);
    equal(address, read(address), before)
}
