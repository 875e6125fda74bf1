use super::{PageFault, PageFaultErr};
use crate::testing::{access, heard};
use ipc_proto::fault::{Fault, FaultKind, Qualification};
use ipc_proto::grant::{Gfn, Gpa, Level, Pfn, Rights};

fn of(qualification: u32) -> PageFaultErr {
    PageFaultErr::from_violation(Qualification::from_bits_retain(qualification))
}

fn fault(kind: FaultKind, qualification: u32) -> PageFault {
    let qualification = Qualification::from_bits_retain(qualification);
    let message = Fault { kind, vm: 3, gpa: Gpa(0x1234_5678), mmu_seq: 7, ..access(0, qualification) };
    PageFault::from_message(&message)
}

#[test]
fn each_bit_of_the_qualification_has_its_error_bit() {
    assert_eq!(of(0), PageFaultErr::empty());
    assert_eq!(of(1 << 0), PageFaultErr::USER);
    assert_eq!(of(1 << 1), PageFaultErr::WRITE);
    assert_eq!(of(1 << 2), PageFaultErr::FETCH);
    for allowed in [1 << 3, 1 << 4, 1 << 5, 7 << 3] {
        assert_eq!(of(allowed), PageFaultErr::PRESENT);
    }
}

#[test]
fn gva_translated_means_nothing_unless_gva_valid() {
    assert_eq!(of(1 << 8), PageFaultErr::empty());
    assert_eq!(of(1 << 7), PageFaultErr::GUEST_PAGE);
    assert_eq!(of(1 << 7 | 1 << 8), PageFaultErr::GUEST_FINAL);
}

#[test]
fn read_and_write_together_are_legal() {
    assert_eq!(of(0b11 | 1 << 7), PageFaultErr::USER | PageFaultErr::WRITE | PageFaultErr::GUEST_PAGE);
    let access = fault(FaultKind::Violation, 0b11).access();
    assert_eq!(access, Rights::READ | Rights::WRITE);
}

#[test]
fn the_first_fetch_on_an_empty_ept_reads_0x184() {
    assert_eq!(of(0x184), PageFaultErr::FETCH | PageFaultErr::GUEST_FINAL);
}

#[test]
fn bits_that_say_nothing_of_the_access_change_nothing() {
    for other in (6..32).filter(|bit| ![7, 8].contains(bit)) {
        assert_eq!(of(1 << other), PageFaultErr::empty(), "bit {other}");
    }
}

#[test]
fn a_misconfiguration_is_rsvd_whatever_else_the_words_say() {
    let fault = fault(FaultKind::Misconfiguration, 0x1bf);
    assert_eq!(fault.error(), PageFaultErr::RSVD);
    assert!(fault.rsvd() && !fault.write() && !fault.exec() && !fault.present());
}

#[test]
fn the_predicates_say_what_the_error_code_says() {
    for kind in [FaultKind::Violation, FaultKind::Misconfiguration] {
        for qualification in 0..1 << 13 {
            let fault = fault(kind, qualification);
            let error = fault.error();
            assert_eq!(fault.write(), error.contains(PageFaultErr::WRITE));
            assert_eq!(fault.exec(), error.contains(PageFaultErr::FETCH));
            assert_eq!(fault.present(), error.contains(PageFaultErr::PRESENT));
            assert_eq!(fault.rsvd(), error.contains(PageFaultErr::RSVD));
            assert_eq!(fault.access().contains(Rights::READ), error.contains(PageFaultErr::USER));
            assert_eq!(fault.access().contains(Rights::WRITE), error.contains(PageFaultErr::WRITE));
            assert_eq!(fault.access().contains(Rights::EXECUTE), error.contains(PageFaultErr::FETCH));
        }
    }
}

#[test]
fn implicit_access_from_hardware_is_stripped_with_a_warning_and_nothing_else_is() {
    let said = PageFaultErr::WRITE | PageFaultErr::GUEST_FINAL;
    let lines = heard(|| assert_eq!((said | PageFaultErr::IMPLICIT_ACCESS).from_hardware(), said));
    assert!(lines.len() == 1 && lines[0].starts_with("WARN") && lines[0].contains("IMPLICIT_ACCESS"), "{lines:?}");
    let lines = heard(|| assert_eq!(said.from_hardware(), said));
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(PageFaultErr::all().from_hardware(), PageFaultErr::all() - PageFaultErr::IMPLICIT_ACCESS);
}

#[test]
fn a_fault_begins_with_nothing_found() {
    let fault = fault(FaultKind::Violation, 0b11);
    assert!(fault.is_tdp && fault.user() && fault.write() && !fault.exec() && !fault.present());
    assert_eq!((fault.vm, fault.gfn()), (3, Gfn(0x1_2345)));
    assert_eq!((fault.slot, fault.pfn, fault.hva(), fault.goal_level), (None, None, None, Level::Page));
    let found = PageFault { pfn: Some(Pfn(0x1234)), ..fault };
    assert_eq!(found.hva(), Some(0x100_0000_0000 + 0x123_4000));
}
