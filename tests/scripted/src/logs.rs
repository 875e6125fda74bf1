//! The CPU's log of written pages, on a CPU that has one.

use crate::desk::{Access, Desk, Held, PAGE, same, with};
use ipc_proto::exit::Exit;
use ipc_proto::fault::{FaultKind, FaultReply, Origin, TopUp};
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::memop::{Abilities, Harvest, LOG, MemOp};
use ipc_proto::refused::Refused;

const GPA: u64 = PAGE << 12;

/// Tries them.
pub fn try_all(desk: &mut Desk) {
    logged(desk, "log::is_there_or_refused", |_| Ok(()));
    logged(desk, "log::has_each_page_once", |desk| {
        same(desk.map(0, with(desk.claim(), 0, 10, 4)).is_ok(), true)?;
        same(take(desk), Ok(0))?;
        for page in [2, 1, 2] {
            desk.touch(GPA + (page << 12), Access::Write(1));
            same(desk.exit()?.0, Exit::Hypercall)?;
        }
        desk.touch(GPA + 0x3000, Access::Read);
        desk.exit()?;
        same(take(desk), Ok(2))?;
        same((gfn(0).min(gfn(1)), gfn(0).max(gfn(1))), (PAGE + 1, PAGE + 2))?;
        same(take(desk), Ok(0))?;
        desk.touch(GPA + 0x2000, Access::Write(1));
        desk.exit()?;
        same((take(desk), gfn(0)), (Ok(1), PAGE + 2))
    });
    logged(desk, "log::full_is_told", |desk| {
        const MORE: u64 = 8;
        let run = with(desk.claim(), 0, 10, LOG as u64);
        same(desk.map(0, run).is_ok(), true)?;
        let more = with(ClaimedGrant { gfn: PAGE + 512, pfn: run.pfn + 512, ..run }, 0, 10, MORE);
        same(desk.map(0, more).is_ok(), true)?;
        desk.sweep(GPA, LOG as u64 + MORE);
        let fault = desk.fault()?;
        same((fault.kind, fault.gpa.0, fault.vcpu), (FaultKind::LogFull, 0, 0))?;
        same(take(desk), Ok(LOG as u64))?;
        // In which order is not promised.
        let all = (0..LOG).fold([false; LOG], |mut all, n| {
            all[(gfn(n) - PAGE) as usize % LOG] = true;
            all
        });
        same(all.iter().all(|there| *there), true)?;
        desk.answer(&FaultReply::Retry);
        same(desk.exit()?.0, Exit::Hypercall)?;
        same((take(desk), gfn(0) / 512), (Ok(MORE), PAGE / 512 + 1))
    });
    logged(desk, "log::writes_through_the_window_are_asked", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.let_window(GPA, Access::Write(1));
        same(desk.fault()?.origin, Origin::Window)?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.called()?.0, 0)
    });
}

/// Tries a case with the log switched on; on a CPU without one that is refused, and nothing else is to be seen.
fn logged(desk: &mut Desk, name: &str, case: fn(&mut Desk) -> Held) {
    desk.case(name, |desk| {
        let can = Abilities::from_bits_truncate(desk.info(0)[3]).contains(Abilities::LOG);
        if !can {
            return same(desk.op(MemOp::SetLog, 1, 0, 0).err(), Some(Refused::BadRights));
        }
        same(desk.op(MemOp::SetLog, 1, 0, 0).is_ok(), true)?;
        let held = case(desk);
        same(desk.op(MemOp::SetLog, 0, 0, 0).is_ok(), true)?;
        held?;
        same(take(desk), Err(Refused::NotAsked))
    });
}

/// Takes the log: how many pages it has.
fn take(desk: &Desk) -> Result<u64, Refused> {
    desk.op(MemOp::Harvest, 0, 0, Harvest::Log as u64).map(|words| words[0])
}

/// The page in the log's place `n`.
fn gfn(n: usize) -> u64 {
    let mut bytes = [0; 8];
    rt::read_message_at(n * 8, &mut bytes);
    u64::from_le_bytes(bytes)
}
