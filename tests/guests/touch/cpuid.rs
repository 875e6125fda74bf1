//! What the CPU says it is, and its model-specific registers.

use core::fmt::Write;
use guests::cpu::{cpuid, read_msr, ticks, write_msr};
use guests::interrupt::GENERAL_PROTECTION;
use guests::report::{Report, holds};

const TSC: u32 = 0x10;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
const LSTAR: u32 = 0xc000_0082;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// In no manual: the first two lie in the ranges that a VMX bitmap covers, the third outside of them.
const UNKNOWN: [u32; 3] = [0x1f37, 0xc000_1f37, 0x4f37_0000];

pub fn check(report: &mut Report) {
    report.check("CPUID: a hypervisor, and no VMX", hypervisor());
    report.check("CPUID: the hypervisor has a name", name());
    report.check("CPUID: leaves beyond the last are harmless", beyond());
    report.check("MSRs: known ones keep what is written", known());
    report.check("MSRs: unknown ones raise #GP", UNKNOWN.into_iter().try_for_each(unknown));
}

fn hypervisor() -> Result<(), &'static str> {
    let features = cpuid(1, 0);
    holds(features.ecx >> 31 & 1 == 1, "the hypervisor bit is clear")?;
    holds(features.ecx >> 5 & 1 == 0, "the VMX bit is set")?;
    holds(features.edx >> 4 & 1 == 1, "no time-stamp counter")?;
    holds(cpuid(0x8000_0001, 0).edx >> 29 & 1 == 1, "no long mode, in long mode")
}

fn name() -> Result<(), &'static str> {
    let leaf = cpuid(0x4000_0000, 0);
    let mut console = guests::console::Console;
    let _ = write!(console, "touch: hypervisor \"");
    let mut letters = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes);
    let printable =
        letters.clone().all(|byte| byte == 0 || byte.is_ascii_graphic()) && letters.next().unwrap_or(0) != 0;
    for byte in [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes) {
        if byte.is_ascii_graphic() {
            let _ = console.write_char(char::from(byte));
        }
    }
    guests::line!("\"");
    holds(printable, "not twelve printable letters")?;
    holds(leaf.eax >= 0x4000_0000, "the last hypervisor leaf is none")
}

/// No answer is prescribed; there must be one, and XSAVE's must agree with CR4.
fn beyond() -> Result<(), &'static str> {
    for leaf in [0x7f, 0x8000_00ff, 0x4000_00ff, 0xffff_ffff] {
        let _ = cpuid(leaf, 0xffff_ffff);
    }
    holds(cpuid(1, 0).ecx >> 27 & 1 == 0, "OSXSAVE although CR4.OSXSAVE is clear")
}

fn known() -> Result<(), &'static str> {
    let efer = read_msr(EFER).map_err(|_| "EFER raised an exception")?;
    holds(efer >> 8 & 1 == 1 && efer >> 10 & 1 == 1, "EFER: long mode is not on, in long mode")?;
    let before = ticks();
    let tsc = read_msr(TSC).map_err(|_| "IA32_TSC raised an exception")?;
    holds(before <= tsc && tsc <= ticks(), "IA32_TSC is not what RDTSC reads")?;
    for (msr, value) in
        [(PAT, 0x0007_0406_0007_0406), (LSTAR, 0xffff_8000_1234_5678), (KERNEL_GS_BASE, 0x1234_5678_9abc)]
    {
        let old = read_msr(msr).map_err(|_| "a known one raised an exception")?;
        write_msr(msr, value).map_err(|_| "a known one refused a value")?;
        holds(read_msr(msr) == Ok(value), "a known one lost its value")?;
        write_msr(msr, old).map_err(|_| "a known one refused its old value")?;
    }
    holds(write_msr(KERNEL_GS_BASE, 1 << 63) == Err(GENERAL_PROTECTION), "an address that is none was taken")
}

fn unknown(msr: u32) -> Result<(), &'static str> {
    holds(read_msr(msr) == Err(GENERAL_PROTECTION), "reading one did not")?;
    holds(write_msr(msr, 0) == Err(GENERAL_PROTECTION), "writing one did not")
}
