//! The VM-execution, exit and entry controls that the kernel runs guests with (SDM vol. 3C, 25.6 to 25.8).

use super::super::msr;

/// A word of controls: the capability MSR that says which bits may be 0 and 1, and what the kernel wants.
#[derive(Clone, Copy)]
pub(super) struct Controls {
    msr: u32,
    needed: u32,
    /// Names of the needed bits, for a CPU that lacks one.
    names: &'static [(u32, &'static str)],
}

/// Interrupt-window exiting, in [`PRIMARY`].
pub(super) const INTERRUPT_WINDOW: u64 = 1 << 2;
/// Page-modification logging, in [`SECONDARY`].
pub(super) const LOG: u64 = 1 << 17;
/// IA-32e mode guest, in [`ENTRY`].
pub(super) const LONG_MODE_GUEST: u64 = 1 << 9;

/// External interrupts and NMIs exit.
pub(super) const PIN: Controls =
    Controls { msr: msr::IA32_VMX_TRUE_PINBASED_CTLS, needed: 1 << 0 | 1 << 3, names: &[] };

/// HLT, MWAIT, RDPMC, MONITOR, MOV CR8 (which would reach the host's APIC) and all port accesses exit; MSR bitmap;
/// secondary controls.
pub(super) const PRIMARY: Controls = Controls {
    msr: msr::IA32_VMX_TRUE_PROCBASED_CTLS,
    needed: 1 << 7 | 1 << 10 | 1 << 11 | 1 << 19 | 1 << 20 | 1 << 24 | 1 << 28 | 1 << 29 | 1 << 31,
    names: &[(1 << 28, "MSR bitmaps"), (1 << 31, "secondary VM-execution controls")],
};

/// EPT, VPID, WBINVD exits, unrestricted guest.
pub(super) const SECONDARY: Controls = Controls {
    msr: msr::IA32_VMX_PROCBASED_CTLS2,
    needed: 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7,
    names: &[(1 << 1, "EPT"), (1 << 5, "VPID"), (1 << 7, "unrestricted guest")],
};

/// 64-bit host; interrupts acknowledged; debug controls, PAT and EFER switched.
pub(super) const EXIT: Controls = Controls {
    msr: msr::IA32_VMX_TRUE_EXIT_CTLS,
    needed: 1 << 2 | 1 << 9 | 1 << 15 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21,
    names: &[(1 << 15, "acknowledge interrupt on exit"), (1 << 21, "load EFER on exit")],
};

/// Debug controls, PAT and EFER switched.
pub(super) const ENTRY: Controls = Controls {
    msr: msr::IA32_VMX_TRUE_ENTRY_CTLS,
    needed: 1 << 2 | 1 << 14 | 1 << 15,
    names: &[(1 << 14, "load PAT on entry"), (1 << 15, "load EFER on entry")],
};

impl Controls {
    fn allowed(self) -> (u32, u32) {
        let true_msrs = msr::read(msr::IA32_VMX_BASIC) & 1 << 55 != 0;
        // The older MSRs are twelve below their TRUE forms (SDM vol. 3D, A.3).
        let plain = if self.msr == msr::IA32_VMX_PROCBASED_CTLS2 || true_msrs { self.msr } else { self.msr - 12 };
        let value = msr::read(plain);
        (value as u32, (value >> 32) as u32)
    }

    /// The value for the VMCS: what is needed, and what the CPU has always on.
    pub(super) fn value(self) -> u64 {
        let (always, may) = self.allowed();
        u64::from((self.needed | always) & may)
    }

    fn lacks(self) -> Option<&'static str> {
        let (_, may) = self.allowed();
        let lacking = self.needed & !may;
        let named = self.names.iter().find(|(bit, _)| lacking & bit != 0).map(|(_, name)| *name);
        named.or((lacking != 0).then_some("a VM-execution, exit or entry control of every VMX CPU since 2010"))
    }
}

/// The first control that the CPU lacks.
pub(super) fn missing() -> Option<&'static str> {
    PIN.lacks()
        .or_else(|| PRIMARY.lacks())
        .or_else(|| SECONDARY.lacks())
        .or_else(|| EXIT.lacks())
        .or_else(|| ENTRY.lacks())
}
