//! The local APIC: one timer, no other interrupt.
#![expect(unsafe_code, reason = "memory-mapped registers")]

use super::{cpu::Features, msr, paging};
use core::ptr;

/// The vector of the timer.
pub const TIMER: u8 = 0x40;
/// The vector of interrupts that went away before they were taken.
pub const SPURIOUS: u8 = 0xff;

const EOI: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const TSC_DEADLINE: u32 = 2 << 17;
const MASKED: u32 = 1 << 16;
/// In IA32_APIC_BASE: the registers are MSRs.
const X2APIC: u64 = 1 << 10;

/// The MSR of a register in x2APIC mode (SDM vol. 3A, table 12-6).
const fn x2apic(register: usize) -> u32 {
    0x800 + register as u32 / 16
}

/// This CPU's local APIC.
pub struct Apic {
    /// Where its registers are mapped; nowhere when the firmware has switched to x2APIC mode, where they are MSRs.
    registers: Option<*mut u8>,
    /// Ticks of the time-stamp counter in 1024 of the APIC's timer; 0 where the timer takes a deadline itself.
    scale: u64,
}

impl Apic {
    /// Switches the APIC on, with its timer the only source.
    ///
    /// `tsc` reads the time-stamp counter.
    #[must_use]
    pub fn start(features: Features, tsc: impl Fn() -> u64) -> Self {
        let base = msr::read(msr::IA32_APIC_BASE);
        // SAFETY: setting the enable bit changes no address; the firmware's address stays.
        unsafe { msr::write(msr::IA32_APIC_BASE, base | 1 << 11) };
        let registers = (base & X2APIC == 0).then(|| paging::device(base & 0xf_ffff_f000));
        let mut apic = Self { registers, scale: 0 };
        apic.write(SPURIOUS_VECTOR, 1 << 8 | u32::from(SPURIOUS));
        apic.write(LVT_LINT0, MASKED);
        apic.write(LVT_LINT1, MASKED);
        if features.contains(Features::TSC_DEADLINE) {
            apic.write(LVT_TIMER, TSC_DEADLINE | u32::from(TIMER));
        } else {
            apic.write(DIVIDE, 0b1011);
            apic.write(LVT_TIMER, MASKED | u32::from(TIMER));
            apic.write(INITIAL_COUNT, u32::MAX);
            let start = tsc();
            while tsc() - start < 1 << 20 {}
            let passed = u64::from(u32::MAX - apic.read(CURRENT_COUNT)).max(1);
            apic.scale = (1 << 30) / passed;
            apic.write(INITIAL_COUNT, 0);
            apic.write(LVT_TIMER, u32::from(TIMER));
        }
        apic
    }

    fn read(&self, register: usize) -> u32 {
        let Some(registers) = self.registers else { return msr::read(x2apic(register)) as u32 };
        let at = registers.wrapping_add(register).cast();
        // SAFETY: `registers` is the APIC's page, mapped for as long as the kernel runs.
        unsafe { ptr::read_volatile(at) }
    }

    fn write(&mut self, register: usize, value: u32) {
        let Some(registers) = self.registers else {
            // SAFETY: the APIC's registers concern interrupts only.
            return unsafe { msr::write(x2apic(register), u64::from(value)) };
        };
        let at = registers.wrapping_add(register).cast();
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(at, value) }
    }

    /// Ends the interrupt that was taken last.
    pub fn end_of_interrupt(&mut self) {
        self.write(EOI, 0);
    }

    /// Asks for the timer interrupt when the time-stamp counter reaches `deadline`; `None` asks for none.
    pub fn set_deadline(&mut self, deadline: Option<u64>, now: u64) {
        if self.scale == 0 {
            // SAFETY: the deadline register only arms the timer.
            unsafe { msr::write(msr::IA32_TSC_DEADLINE, deadline.unwrap_or(0)) };
        } else {
            let count = deadline
                .map_or(0, |deadline| (deadline.saturating_sub(now) * 1024 / self.scale).clamp(1, u64::from(u32::MAX)));
            self.write(INITIAL_COUNT, count as u32);
        }
    }
}
