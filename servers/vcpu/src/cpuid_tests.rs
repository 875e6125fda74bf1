//! Whatever the host has: what the guest sees is what the machine can keep.

use super::{Cpuid, SIGNATURE};
use core::arch::x86_64::CpuidResult;

/// A host that has everything.
fn everything(_: u32, _: u32) -> CpuidResult {
    CpuidResult { eax: u32::MAX, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX }
}

fn nothing(_: u32, _: u32) -> CpuidResult {
    CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
}

const HZ: u64 = 2_400_000_000;

fn policy() -> Cpuid {
    Cpuid::new(everything, HZ, 46)
}

#[test]
fn what_the_machine_does_not_have_is_hidden_on_any_host() {
    let one = policy().answer(1, 0);
    for (bit, name) in [
        (3, "MONITOR"),
        (5, "VMX"),
        (6, "SMX"),
        (12, "FMA"),
        (15, "PDCM"),
        (17, "PCID"),
        (21, "x2APIC"),
        (24, "TSC-deadline"),
        (26, "XSAVE"),
        (27, "OSXSAVE"),
        (28, "AVX"),
        (29, "F16C"),
    ] {
        assert_eq!(one.ecx >> bit & 1, 0, "{name}");
    }
    for (bit, name) in [(7, "MCE"), (9, "APIC"), (12, "MTRR"), (14, "MCA"), (21, "DS"), (22, "ACPI"), (28, "HTT")] {
        assert_eq!(one.edx >> bit & 1, 0, "{name}");
    }
    let seven = policy().answer(7, 0);
    for (bit, name) in [(2, "SGX"), (4, "HLE"), (5, "AVX2"), (10, "INVPCID"), (11, "RTM"), (14, "MPX"), (16, "AVX-512")]
    {
        assert_eq!(seven.ebx >> bit & 1, 0, "{name}");
    }
    assert_eq!((seven.eax, seven.ecx, seven.edx), (0, 1 << 2, 1 << 4));
    assert_eq!(policy().answer(0x8000_0001, 0).edx >> 27 & 1, 0, "RDTSCP");
}

#[test]
fn what_linux_cannot_do_without_is_shown() {
    let one = policy().answer(1, 0);
    // FPU, PSE, TSC, MSR, PAE, CX8, PGE, CMOV, FXSR, SSE, SSE2.
    for bit in [0, 3, 4, 5, 6, 8, 13, 15, 24, 25, 26] {
        assert_eq!(one.edx >> bit & 1, 1, "bit {bit}");
    }
    let extended = policy().answer(0x8000_0001, 0);
    assert_eq!(extended.edx, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29);
}

#[test]
fn a_feature_that_the_host_lacks_is_not_invented() {
    let policy = Cpuid::new(nothing, HZ, 46);
    let one = policy.answer(1, 0);
    assert_eq!((one.ecx, one.edx), (1 << 31, 0));
    assert_eq!(policy.answer(7, 0).ebx, 0);
    assert_eq!(policy.answer(0x8000_0001, 0).edx, 0);
}

#[test]
fn the_guest_can_tell_that_it_is_one_and_on_whose_machine() {
    let leaf = policy().answer(0x4000_0000, 0);
    let name: std::vec::Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(name, SIGNATURE);
    assert_eq!(policy().answer(1, 0).ecx >> 31, 1);
    assert_eq!(policy().answer(leaf.eax, 0).eax, 2_400_000);
}

#[test]
fn the_tsc_frequency_needs_no_calibration() {
    for hz in [200_000_000, HZ, 4_294_967_295, 5_800_000_000] {
        let policy = Cpuid::new(everything, hz, 46);
        let CpuidResult { eax, ebx, ecx, .. } = policy.answer(0x15, 0);
        let told = u64::from(ecx) * u64::from(ebx) / u64::from(eax);
        assert!(hz - told < u64::from(ebx), "{hz}: {told}");
        assert_eq!(u64::from(policy.answer(0x16, 0).eax), hz / 1_000_000);
        assert!(policy.answer(0, 0).eax >= 0x16);
    }
    assert_eq!(policy().answer(0x8000_0007, 0).edx, 1 << 8);
}

#[test]
fn there_is_one_cpu() {
    let one = policy().answer(1, 0);
    assert_eq!(one.ebx & 0xffff_0000, 1 << 16);
    assert_eq!(policy().answer(4, 0).eax >> 14, 0);
    let topology = policy().answer(0xb, 0);
    assert_eq!((topology.eax, topology.ebx, topology.ecx, topology.edx), (0, 0, 0, 0));
}

#[test]
fn addresses_are_no_wider_than_the_tables_below() {
    let leaf = |host| Cpuid::new(host, HZ, 46).answer(0x8000_0008, 0).eax;
    assert_eq!(leaf(everything), 46 | 48 << 8);
    assert_eq!(leaf(|_, _| CpuidResult { eax: 39, ebx: 0, ecx: 0, edx: 0 }), 39 | 48 << 8);
}

#[test]
fn a_leaf_beyond_the_last_is_all_zeros() {
    for leaf in [3, 5, 6, 0xa, 0xd, 0x12, 0x14, 0x17, 0x4000_0001, 0x8000_0009, 0x8000_001f, u32::MAX] {
        let CpuidResult { eax, ebx, ecx, edx } = policy().answer(leaf, 0);
        assert_eq!((eax, ebx, ecx, edx), (0, 0, 0, 0), "leaf {leaf:#x}");
    }
    assert_eq!(policy().answer(7, 1).ebx, 0);
}

#[test]
fn an_answer_that_is_kept_is_the_policys_own() {
    let mut cpuid = Cpuid::new(by_leaf, 200_000_000, 40);
    for _ in 0..2 {
        for leaf in (0..0x20).chain(0x4000_0000..0x4000_0020).chain(0x8000_0000..0x8000_0020).chain([u32::MAX]) {
            for subleaf in [0, 1, 2, 16, u32::MAX] {
                assert_eq!(cpuid.answer_again(leaf, subleaf), cpuid.answer(leaf, subleaf), "{leaf:#x}.{subleaf}");
            }
        }
    }
}

/// A host whose every answer is another.
fn by_leaf(leaf: u32, subleaf: u32) -> CpuidResult {
    CpuidResult { eax: leaf, ebx: subleaf, ecx: leaf ^ subleaf, edx: leaf.wrapping_add(subleaf) }
}
