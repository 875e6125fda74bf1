//! The MSR policy as one table: what each register the guest may touch reads as, and what becomes of a write.
//! A register that is not in the table raises #GP and is counted.
//!
//! FS_BASE, GS_BASE, KERNEL_GS_BASE and the SYSCALL and SYSENTER registers are not here: the CPU switches them.

use crate::clock::Tsc;
use crate::tally::Tally;
use ipc_proto::state::{StateMask, VcpuState};

/// What becomes of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Reads as this; a write is ignored.
    Fixed(u64),
    /// Reads as this; a write raises #GP.
    ReadOnly(u64),
    /// Reads as what was written last; the number is its place in [`Msrs::kept`].
    Kept(usize),
    /// The time-stamp counter: a write is ignored, the kernel gives the guest no offset.
    Tsc,
    /// EFER, as far as the guest may change it.
    Efer,
    /// PAT, which the CPU switches at entry.
    Pat,
    /// The CPU's clock ratio.
    PlatformInfo,
}

/// Registers that are kept for the guest, with what they hold at first.
const KEPT: [u64; 3] = [MISC_ENABLE_RESET, APIC_BASE_RESET, 0];

/// Whether the CPU moves strings in pieces larger than their elements. A guest that is told so clears and copies pages byte
/// by byte, which takes eight times as long where it is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastStrings {
    /// It moves them element by element.
    Off,
    /// It does.
    On,
}
const MISC_ENABLE: usize = 0;
const APIC_BASE: usize = 1;
const TSC_AUX: usize = 2;

/// Neither branch trace storage nor precise sampling; with the host's bit for fast strings.
const MISC_ENABLE_RESET: u64 = 1 << 11 | 1 << 12;
const MISC_ENABLE_FAST_STRINGS: u64 = 1;
/// The boot processor's, enabled, at its usual place.
const APIC_BASE_RESET: u64 = 0xfee0_0900;
/// PAT after reset: WB, WT, UC-, UC, twice.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// EFER bits.
pub mod efer {
    #![expect(missing_docs, reason = "the names are the SDM's")]
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

const CR0_PG: u64 = 1 << 31;

/// Numbers as in SDM vol. 4.
const TABLE: &[(u32, Rule)] = &[
    (0x10, Rule::Tsc),
    // IA32_PLATFORM_ID.
    (0x17, Rule::ReadOnly(0)),
    (0x1b, Rule::Kept(APIC_BASE)),
    // IA32_FEATURE_CONTROL: locked, nothing enabled.
    (0x3a, Rule::ReadOnly(1)),
    // IA32_BIOS_SIGN_ID: written before CPUID to make the CPU put the microcode's revision here.
    (0x8b, Rule::Fixed(1 << 32)),
    (0xce, Rule::PlatformInfo),
    // IA32_MTRRCAP: no MTRRs.
    (0xfe, Rule::ReadOnly(0)),
    // MISC_FEATURES_ENABLES: no CPUID faulting.
    (0x140, Rule::Fixed(0)),
    // IA32_MCG_CAP, IA32_MCG_STATUS: no banks.
    (0x179, Rule::ReadOnly(0)),
    (0x17a, Rule::Fixed(0)),
    (0x1a0, Rule::Kept(MISC_ENABLE)),
    // IA32_DEBUGCTL: no branch records.
    (0x1d9, Rule::Fixed(0)),
    (0x277, Rule::Pat),
    // IA32_MTRR_DEF_TYPE: off.
    (0x2ff, Rule::Fixed(0)),
    (0xc000_0080, Rule::Efer),
    (0xc000_0103, Rule::Kept(TSC_AUX)),
];

/// The MSRs of one vCPU.
#[derive(Clone, Debug)]
pub struct Msrs {
    tsc_hz: u64,
    kept: [u64; KEPT.len()],
    pat: u64,
    /// Registers that are not in the table.
    pub unknown: Tally,
}

/// The guest gets #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

impl Msrs {
    /// The registers after reset.
    #[must_use]
    pub const fn new(tsc_hz: u64, strings: FastStrings) -> Self {
        let mut kept = KEPT;
        kept[MISC_ENABLE] |= match strings {
            FastStrings::Off => 0,
            FastStrings::On => MISC_ENABLE_FAST_STRINGS,
        };
        Self { tsc_hz, kept, pat: PAT_RESET, unknown: Tally::new() }
    }

    fn rule(&mut self, number: u32) -> Result<Rule, GeneralProtection> {
        if let Some((_, rule)) = TABLE.iter().find(|(listed, _)| *listed == number) {
            return Ok(*rule);
        }
        if self.unknown.count(u64::from(number)) {
            log::debug!("nobody has MSR {number:#x}");
        }
        Err(GeneralProtection)
    }

    /// RDMSR.
    ///
    /// # Errors
    /// [`GeneralProtection`] for a register that is not in the table.
    pub fn read(&mut self, number: u32, state: &VcpuState, now: Tsc) -> Result<u64, GeneralProtection> {
        Ok(match self.rule(number)? {
            Rule::Fixed(value) | Rule::ReadOnly(value) => value,
            Rule::Kept(place) => self.kept[place],
            Rule::Tsc => now,
            Rule::Efer => state.efer,
            Rule::Pat => self.pat,
            // The ratio is in units of 100 MHz.
            Rule::PlatformInfo => ((self.tsc_hz / 100_000_000) & 0xff) << 8,
        })
    }

    /// WRMSR. Says which state has changed.
    ///
    /// # Errors
    /// [`GeneralProtection`] for a register that is not in the table, is read-only, or cannot hold the value.
    pub fn write(&mut self, number: u32, value: u64, state: &mut VcpuState) -> Result<StateMask, GeneralProtection> {
        match self.rule(number)? {
            Rule::Fixed(_) | Rule::Tsc => Ok(StateMask::empty()),
            Rule::ReadOnly(_) | Rule::PlatformInfo => Err(GeneralProtection),
            Rule::Kept(place) => {
                self.kept[place] = value;
                Ok(StateMask::empty())
            }
            Rule::Efer => write_efer(value, state),
            Rule::Pat => {
                if !value.to_le_bytes().iter().all(|entry| matches!(entry, 0 | 1 | 4..=7)) {
                    return Err(GeneralProtection);
                }
                self.pat = value;
                state.pat = value;
                Ok(StateMask::PAT)
            }
        }
    }
}

/// SCE, LME and NXE are the guest's; LMA follows from LME and CR0.PG, and LME stays while paging is on.
fn write_efer(value: u64, state: &mut VcpuState) -> Result<StateMask, GeneralProtection> {
    let allowed = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    let changes_lme = (value ^ state.efer) & efer::LME != 0;
    if value & !allowed != 0 || (changes_lme && state.cr0 & CR0_PG != 0) {
        return Err(GeneralProtection);
    }
    state.efer = value & !efer::LMA | state.efer & efer::LMA;
    Ok(StateMask::EFER)
}

#[cfg(test)]
#[path = "msr_tests.rs"]
mod tests;
