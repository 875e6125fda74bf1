//! The CPUID policy: what the host has, through masks that name every feature the guest may see.
//!
//! A bit that no mask names is hidden. Numbers as in SDM vol. 2A, CPUID.

use core::arch::x86_64::CpuidResult;

/// What a hypervisor's leaf says of itself: twelve characters.
pub const SIGNATURE: &[u8; 12] = b"FaultlineVMM";

const MAX_BASIC: u32 = 0x16;
const HYPERVISOR: u32 = 0x4000_0000;
const HYPERVISOR_TIMING: u32 = 0x4000_0010;
const EXTENDED: u32 = 0x8000_0000;
const MAX_EXTENDED: u32 = 0x8000_0008;

const fn mask(bits: &[u32]) -> u32 {
    let mut mask = 0;
    let mut index = 0;
    while index < bits.len() {
        mask |= 1 << bits[index];
        index += 1;
    }
    mask
}

/// 1:ECX: SSE3, PCLMULQDQ, SSSE3, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND. Nothing that needs XSAVE, and no
/// MONITOR, VMX, SMX, PDCM, PCID, x2APIC, TSC-deadline.
const FEATURES_ECX: u32 = mask(&[0, 1, 9, 13, 19, 20, 22, 23, 25, 30]);
/// The bit by which a guest knows that it is one.
const FEATURES_ECX_HYPERVISOR: u32 = mask(&[31]);
/// 1:EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE, SSE2, SS. No APIC:
/// the machine has none that interrupts; no MTRR, MCE, MCA, DS, ACPI, HTT.
const FEATURES_EDX: u32 = mask(&[0, 1, 2, 3, 4, 5, 6, 8, 11, 13, 15, 16, 17, 19, 23, 24, 25, 26, 27]);
/// 7.0:EBX: FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA. No INVPCID, AVX, HLE, RTM, MPX, SGX.
const STRUCTURED_EBX: u32 = mask(&[0, 3, 7, 8, 9, 18, 19, 20, 23, 24, 29]);
/// 7.0:ECX: UMIP. No PKU, CET, LA57, RDPID, UINTR.
const STRUCTURED_ECX: u32 = mask(&[2]);
/// 7.0:EDX: FSRM. No speculation controls: their MSRs are not there.
const STRUCTURED_EDX: u32 = mask(&[4]);
/// 80000001:ECX: LAHF, LZCNT, PREFETCHW.
const EXTENDED_ECX: u32 = mask(&[0, 5, 8]);
/// 80000001:EDX: SYSCALL, NX, 1 GiB pages, long mode. No RDTSCP.
const EXTENDED_EDX: u32 = mask(&[11, 20, 26, 29]);
/// 80000007:EDX: the TSC runs at one rate and never stops.
const INVARIANT_TSC: u32 = mask(&[8]);

const NOTHING: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// Answers that are kept.
const KEPT: usize = 16;

/// The policy of one VM.
#[derive(Clone, Copy)]
pub struct Cpuid {
    host: fn(u32, u32) -> CpuidResult,
    tsc_hz: u64,
    physical_bits: u8,
    /// Answers that were given before, under leaf and subleaf: the policy never changes, and the host's CPUID is slow.
    kept: [(u64, CpuidResult); KEPT],
}

/// CPUID of the CPU that this runs on.
#[must_use]
pub fn host(leaf: u32, subleaf: u32) -> CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

impl Cpuid {
    /// What `host` answers, filtered, with a TSC of `tsc_hz` and at most `physical_bits` of guest-physical address.
    #[must_use]
    pub const fn new(host: fn(u32, u32) -> CpuidResult, tsc_hz: u64, physical_bits: u8) -> Self {
        // Both numbers all ones: a leaf beyond the last one, whose answer this is.
        Self { host, tsc_hz, physical_bits, kept: [(u64::MAX, NOTHING); KEPT] }
    }

    /// As [`Cpuid::answer`], but kept from the last time.
    #[inline]
    #[must_use]
    pub fn answer_again(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        let both = u64::from(leaf) | u64::from(subleaf) << 32;
        // Basic leaves, hypervisor's and extended ones begin at different places.
        let place = (leaf ^ leaf >> 28 ^ subleaf) as usize % KEPT;
        let (known, answer) = self.kept[place];
        if known == both { answer } else { self.keep(place, leaf, subleaf) }
    }

    #[cold]
    fn keep(&mut self, place: usize, leaf: u32, subleaf: u32) -> CpuidResult {
        let answer = self.answer(leaf, subleaf);
        self.kept[place] = (u64::from(leaf) | u64::from(subleaf) << 32, answer);
        answer
    }

    /// What the guest is answered. A leaf beyond the last one is all zeros.
    #[must_use]
    pub fn answer(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let host = (self.host)(leaf, subleaf);
        match leaf {
            0 => CpuidResult { eax: MAX_BASIC, ..host },
            1 => features(host),
            2 => host,
            // One core, one thread, whatever shares the host's caches.
            4 => CpuidResult { eax: host.eax & 0x3fff, ..host },
            7 if subleaf == 0 => CpuidResult {
                eax: 0,
                ebx: host.ebx & STRUCTURED_EBX,
                ecx: host.ecx & STRUCTURED_ECX,
                edx: host.edx & STRUCTURED_EDX,
            },
            0x15 => self.crystal(),
            0x16 => self.frequency(),
            HYPERVISOR => signature(),
            HYPERVISOR_TIMING => CpuidResult { eax: (self.tsc_hz / 1_000) as u32, ..NOTHING },
            EXTENDED => CpuidResult { eax: host.eax.min(MAX_EXTENDED), ..NOTHING },
            0x8000_0001 => CpuidResult { eax: 0, ebx: 0, ecx: host.ecx & EXTENDED_ECX, edx: host.edx & EXTENDED_EDX },
            0x8000_0002..=0x8000_0006 => host,
            0x8000_0007 => CpuidResult { edx: INVARIANT_TSC, ..NOTHING },
            0x8000_0008 => self.addresses(host),
            _ => NOTHING,
        }
    }

    /// TSC ticks for each tick of a crystal: the crystal divides the TSC's rate by a power of two until it fits.
    const fn crystal(&self) -> CpuidResult {
        let mut ratio = 1;
        while self.tsc_hz / ratio as u64 > u32::MAX as u64 {
            ratio *= 2;
        }
        CpuidResult { eax: 1, ebx: ratio, ecx: (self.tsc_hz / ratio as u64) as u32, edx: 0 }
    }

    /// Base and largest frequency in MHz.
    const fn frequency(&self) -> CpuidResult {
        let mhz = (self.tsc_hz / 1_000_000) as u32 & 0xffff;
        CpuidResult { eax: mhz, ebx: mhz, ..NOTHING }
    }

    fn addresses(&self, host: CpuidResult) -> CpuidResult {
        const LINEAR_BITS: u32 = 48;
        let physical = (host.eax & 0xff).min(u32::from(self.physical_bits));
        CpuidResult { eax: physical | LINEAR_BITS << 8, ..NOTHING }
    }
}

const fn features(host: CpuidResult) -> CpuidResult {
    const CLFLUSH_LINE: u32 = 0xff00;
    const ONE_CPU: u32 = 1 << 16;
    CpuidResult {
        eax: host.eax,
        ebx: host.ebx & CLFLUSH_LINE | ONE_CPU,
        ecx: host.ecx & FEATURES_ECX | FEATURES_ECX_HYPERVISOR,
        edx: host.edx & FEATURES_EDX,
    }
}

const fn signature() -> CpuidResult {
    let s = SIGNATURE;
    CpuidResult {
        eax: HYPERVISOR_TIMING,
        ebx: u32::from_le_bytes([s[0], s[1], s[2], s[3]]),
        ecx: u32::from_le_bytes([s[4], s[5], s[6], s[7]]),
        edx: u32::from_le_bytes([s[8], s[9], s[10], s[11]]),
    }
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
