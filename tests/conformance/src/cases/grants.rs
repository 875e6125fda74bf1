//! Grants and tables, as the kernel takes them.

use super::{done, ram, with, with_more_frames};
use crate::case::Case;
use crate::kit::{GUEST, Kit, WINDOW};
use crate::setup::Setup;
use anyhow::{Context, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Level, Rights};
use ipc_proto::memop::Abilities;
use ipc_proto::slot::SlotRequest;

pub const CASES: &[Case] = &[
    Case { name: "grant::none_is_refused", checks: &["P14"], run: accepted },
    Case { name: "grant::none_is_refused_by_a_lesser_cpu", checks: &["P14"], run: lesser },
    Case { name: "grant::a_stale_answer_is_worked_out_anew", checks: &["P15"], run: stale },
    Case { name: "grant::two_stale_answers_in_a_row_too", checks: &["P15"], run: stale_twice },
    Case { name: "tables::an_empty_pool_is_filled", checks: &["P16"], run: empty },
    Case { name: "tables::a_pool_that_empties_between_is_filled", checks: &["P16"], run: emptied },
    Case { name: "tables::what_was_given_is_left_alone", checks: &["P17"], run: left_alone },
];

fn accepted(kit: &mut Kit) -> anyhow::Result<()> {
    with_more_frames(kit)?;
    with(kit, &[ram(1, 0x1fe, 4), ram(2, 0x3ffff, 0x402), ram(3, 0x7000, 1024)])?;
    for gfn in [0x1fe, 0x1ff, 0x200, 0x201, 0x3ffff, 0x40000, 0x401ff, 0x40200, 0x40400, 0x7000, 0x71ff, 0x7200] {
        kit.write(GUEST, gfn, 0, gfn)?;
        kit.check()?;
    }
    for gfn in (0x7000..0x7400).step_by(3) {
        kit.write(GUEST, gfn, 0, gfn)?;
    }
    Ok(())
}

/// 4 KiB pages only, no A and D bits, narrow addresses.
fn lesser(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { largest: Level::Page, abilities: Abilities::empty(), bits: 32, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    with(kit, &[ram(1, 0x200, 1024), ram(2, (1 << 20) - 8, 8)])?;
    for gfn in [0x200, 0x400, 0x5ff, (1 << 20) - 8, (1 << 20) - 1] {
        kit.write(GUEST, gfn, 0, gfn)?;
        kit.read(WINDOW, gfn)?;
    }
    kit.touch(GUEST, 1 << 20, Rights::READ).map(|_| ())
}

fn stale(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 256)])?;
    for n in 0..32 {
        kit.overtake = true;
        kit.write(GUEST, 0x100 + 8 * n, 0, n + 1).context("P15: after Stale")?;
        kit.overtake = true;
        kit.read(WINDOW, 0x101 + 8 * n).context("P15: after Stale through the window")?;
        kit.overtake = false;
    }
    kit.check()?;
    (0..32).try_for_each(|n| kit.read(GUEST, 0x100 + 8 * n))?;
    // One that has mapped all of the slot when it was created is never asked.
    let ahead = kit.kernel.vms[0].mapped >= 256;
    ensure!(kit.stale > 0 || ahead, "P15: no answer was stale, so nothing was checked");
    Ok(())
}

/// The answer to the refusal is overtaken as well.
fn stale_twice(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 256)])?;
    for n in 0..4 {
        let gfn = 0x100 + 64 * n;
        for _ in 0..3 {
            kit.overtake = true;
            let fault = kit.fault_at(GUEST, gfn << 12, Rights::WRITE, FaultKind::Violation);
            kit.fault(&fault).context("P15")?;
        }
        kit.write(GUEST, gfn, 0, n + 1).context("P15")?;
    }
    kit.check()
}

fn empty(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { tables: 0, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    let told = "P16: the pool was empty at the start";
    with(kit, &[ram(1, 0, 512), ram(2, 0x8_0000, 64), ram(3, 0x80_0000, 64)]).context(told)?;
    for gfn in [0, 1, 0x8_0000, 0x80_0000, 511] {
        kit.write(GUEST, gfn, 0, gfn + 1).context(told)?;
        kit.read(WINDOW, gfn).context(told)?;
    }
    done(kit, 0, &SlotRequest::Stats)
}

/// The kernel has used the tables up since the fault said how many there are: for windows, for remembered answers.
fn emptied(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0, 512), ram(2, 0x8_0000, 64), ram(3, 0x80_0000, 64)])?;
    for gfn in [0, 0x8_0000, 0x80_0000, 0x8_0001] {
        let vm = &kit.kernel.vms[0];
        let left = vm.pool.lock().count();
        // Tables taken from the pool are lost to the system: it ends soon.
        let taken = kit.kernel.ledger.frames.take(&mut vm.pool.lock(), left);
        ensure!(taken.is_some(), "as many as there are can be taken");
        let mut fault = kit.fault_at(GUEST, gfn << 12, Rights::WRITE, FaultKind::Violation);
        fault.tables_left = 64;
        kit.fault(&fault).context("P16: the pool emptied while the pager answered")?;
        kit.write(GUEST, gfn, 0, gfn + 1).context("P16: the pool emptied while the pager answered")?;
    }
    kit.check()
}

/// The end of the case looks at the frames.
fn left_alone(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { tables: 0, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    kit.hello(0)?;
    for n in 0..24 {
        // Each far from the last, so that each needs tables.
        done(kit, 0, &SlotRequest::Create(ram(n, u64::from(n) << 18, 8))).context("P17")?;
        kit.write(GUEST, u64::from(n) << 18, 0, 1).context("P17")?;
    }
    ensure!(kit.kernel.ledger.given.len() >= 48, "P17: 24 places far apart need more tables than that");
    Ok(())
}
