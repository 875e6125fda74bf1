//! Answers to faults.

use super::{done, ram, slot, with, with_more_frames};
use crate::case::Case;
use crate::kit::{GUEST, Kit, Outcome, WINDOW, Who};
use crate::setup::VCPUS;
use anyhow::{Context, ensure};
use ipc_proto::fault::{FaultKind, Qualification};
use ipc_proto::grant::{Gpa, Rights};
use ipc_proto::slot::{SlotFlags, SlotRequest};

pub const CASES: &[Case] = &[
    Case { name: "fault::memory_of_a_slot_is_given", checks: &["P5", "P6"], run: given },
    Case { name: "fault::memory_is_write_back", checks: &["P45"], run: given },
    Case { name: "fault::every_kind_of_access_is_given", checks: &["P5", "P6"], run: kinds },
    Case { name: "fault::the_bits_of_a_qualification_do_not_confuse", checks: &["P5", "P6"], run: bits },
    Case { name: "fault::the_same_fault_twice_is_answered_twice", checks: &["P2", "P5"], run: twice },
    Case { name: "fault::faults_in_any_order_are_answered", checks: &["P5", "P13"], run: any_order },
    Case { name: "fault::nothing_beyond_a_slots_edges_is_mapped", checks: &["P7"], run: edges },
    Case { name: "fault::a_write_to_a_read_only_slot_is_emulated", checks: &["P8", "P10"], run: read_only },
    Case { name: "fault::no_slot_is_emulated_up_to_the_last_address", checks: &["P9"], run: no_slot },
    Case { name: "fault::the_window_gets_memory_too", checks: &["P5"], run: window },
];

const READ: Rights = Rights::READ;

fn given(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    for n in [0, 10, 30, 62] {
        kit.write(GUEST, 0x100 + n, 0, n + 1)?;
        kit.check()?;
    }
    (0..64).try_for_each(|n| kit.read(GUEST, 0x100 + n))
}

fn kinds(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    let kinds = [READ, Rights::WRITE, Rights::EXECUTE, READ | Rights::WRITE];
    for (n, tried) in kinds.into_iter().enumerate() {
        kit.touch(Who { vcpu: n as u16 % VCPUS, ..GUEST }, 0x108 + n as u64, tried)?;
    }
    for tried in kinds {
        // First in this way, then in all others.
        let gfn = 0x120 + u64::from(tried.bits());
        kit.touch(GUEST, gfn, tried)?;
        kinds.into_iter().try_for_each(|tried| kit.touch(GUEST, gfn, tried).map(|_| ()))?;
    }
    Ok(())
}

/// Walks of guest page tables, events under delivery, unblocked NMIs, undefined bits: the page is given all the same.
fn bits(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    let tries = [
        Qualification::READ | Qualification::WRITE | Qualification::GVA_VALID,
        Qualification::READ | Qualification::GVA_VALID | Qualification::NMI_UNBLOCKED,
        Qualification::WRITE | Qualification::GVA_TRANSLATED,
        Qualification::FETCH | Qualification::from_bits_retain(0xffff_e840),
        Qualification::READ,
    ];
    for (n, qualification) in tries.into_iter().enumerate() {
        let gfn = 0x110 + n as u64;
        let tried = Rights::from_bits_truncate(qualification.bits() as u8);
        let fault = ipc_proto::fault::Fault {
            qualification,
            idt_vectoring: 0x8000_0b0e,
            gpa: Gpa((gfn << 12) + 0xffc),
            ..kit.fault_at(GUEST, 0, tried, FaultKind::Violation)
        };
        kit.fault(&fault)?;
        let outcome = kit.access(GUEST, gfn, tried)?;
        ensure!(outcome == Outcome::Allowed, "P5: {qualification:?}: {outcome:?}");
    }
    Ok(())
}

fn twice(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    let fault = kit.fault_at(GUEST, 0x120 << 12, Rights::WRITE, FaultKind::Violation);
    for vcpu in [0, 0, 1, 2, 3, 0] {
        // Two vCPUs have touched the page before the first was answered.
        kit.fault(&ipc_proto::fault::Fault { vcpu, mmu_seq: kit.kernel.vms[0].mmu_seq, ..fault })?;
        kit.check()?;
    }
    kit.write(GUEST, 0x120, 0, 1)?;
    kit.read(Who { vcpu: 3, ..GUEST }, 0x120)
}

fn any_order(kit: &mut Kit) -> anyhow::Result<()> {
    with_more_frames(kit)?;
    with(kit, &[ram(1, 0, 2048)])?;
    let mut gfn = 7;
    for n in 0..600 {
        gfn = (gfn * 5 + 3) % 2048;
        kit.write(Who { vcpu: n % VCPUS, ..GUEST }, gfn, 8 * usize::from(n % 500), gfn)?;
    }
    kit.check()?;
    (0..2048).step_by(7).try_for_each(|gfn| kit.read(GUEST, gfn))
}

fn edges(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x10a, 0x17)]).context("P7")?;
    for gfn in [0x120, 0x10a, 0x11f, 0x10b, 0x110] {
        kit.touch(GUEST, gfn, READ)?;
        kit.check()?;
    }
    for gfn in [0x109, 0x121, 0x108, 0x122] {
        kit.touch(GUEST, gfn, READ)?;
    }
    // A slot in the middle of which another place begins: one page between two.
    done(kit, 0, &SlotRequest::Create(ram(2, 0x200, 1)))?;
    done(kit, 0, &SlotRequest::Create(ram(3, 0x202, 1)))?;
    for gfn in [0x200, 0x202, 0x201] {
        kit.touch(GUEST, gfn, Rights::WRITE)?;
        kit.check()?;
    }
    Ok(())
}

fn read_only(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[slot(1, 0x100, 64, SlotFlags::READONLY), ram(2, 0x140, 64)])?;
    kit.touch(GUEST, 0x120, Rights::WRITE).context("before anything is mapped")?;
    kit.read(GUEST, 0x120)?;
    kit.check()?;
    kit.touch(GUEST, 0x120, Rights::WRITE).context("where it is mapped")?;
    kit.touch(GUEST, 0x121, Rights::EXECUTE)?;
    kit.touch(GUEST, 0x121, READ | Rights::WRITE)?;
    kit.touch(WINDOW, 0x122, Rights::WRITE)?;
    kit.read(WINDOW, 0x122)?;
    // The page before a writable slot, and the page behind.
    kit.write(GUEST, 0x140, 0, 1)?;
    kit.touch(GUEST, 0x13f, Rights::WRITE)?;
    kit.check()
}

fn no_slot(kit: &mut Kit) -> anyhow::Result<()> {
    let limit = 1 << (kit.setup.bits - 12);
    with(kit, &[ram(1, 0x100, 16), ram(2, limit - 16, 16)]).context("P9")?;
    kit.touch(GUEST, 0x110, READ)?;
    kit.touch(GUEST, 0xff, Rights::WRITE)?;
    // What differs from a slot's address in one high bit only is another address.
    let aliases = (kit.setup.bits..64).map(|bit| 1 << bit | 0x100_010);
    let others = [0, limit << 12, (limit << 12) + 0x123, 1 << 52, (1 << 63) + 8, u64::MAX, u64::MAX - 4095];
    for gpa in others.into_iter().chain(aliases) {
        for tried in [READ, Rights::WRITE, Rights::EXECUTE] {
            let fault = kit.fault_at(GUEST, gpa, tried, FaultKind::Violation);
            let reply = kit.fault(&fault)?;
            ensure!(
                matches!(reply, crate::kernel::Reply::Mmio(_)),
                "P9: {tried:?} of {gpa:#x}, where no slot is: {reply:?}"
            );
        }
    }
    kit.touch(WINDOW, 0x110, READ)?;
    kit.check()
}

fn window(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0, 1024)])?;
    for gfn in [0, 1, 511, 512, 1023] {
        kit.write(WINDOW, gfn, 0, gfn + 1)?;
        kit.read(GUEST, gfn)?;
        kit.write(GUEST, gfn, 8, gfn + 2)?;
        kit.read(WINDOW, gfn)?;
    }
    (600..800).try_for_each(|gfn| kit.write(if gfn % 2 == 0 { WINDOW } else { GUEST }, gfn, 16, gfn))?;
    kit.check()
}
