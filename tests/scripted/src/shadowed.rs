//! A pager that has a shadow, and the shadow: what it is asked, what becomes of its answers, and how they compare (K33 to K35).

use crate::desk::{Access, Desk, Held, PAGE, same, with};
use ipc_proto::exit::Exit;
use ipc_proto::fault::{FaultReply, TopUp};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::DenyReason;
use ipc_proto::words::Words;
use rt::{Received, Task};

/// The page that the shadow would like to map.
const WANTED: u64 = PAGE + 64;

/// How often the guest's access is answered so that the shadow sees it.
const SHOWN: u64 = 4;

/// The pager.
pub fn main(desk: &mut Desk) -> ! {
    // What the shadow answers is in `answer`: the same, another run, another decision, nothing.
    for (n, name, counts) in [
        (0, "shadow::what_is_the_same_is_counted_so", [1, 0, 0, 0]),
        (1, "shadow::a_longer_run_is_a_difference_in_extent", [1, 1, 0, 0]),
        (2, "shadow::a_denial_is_a_difference_in_the_decision", [1, 1, 1, 0]),
        (3, "shadow::who_stops_over_a_fault_has_missed_it", [1, 1, 1, 1]),
        (4, "shadow::who_has_stopped_misses_each_fault", [1, 1, 1, 2]),
    ] {
        desk.step(name, |desk| {
            let shape = granted(desk, PAGE + n)?;
            same(
                row(desk, 0).map(|[same, extent, decision, missed, ..]| [same, extent, decision, missed]),
                Ok(counts),
            )?;
            difference(desk, n, shape)
        });
    }
    desk.step("shadow::a_refused_answer_is_not_shown", |desk| {
        desk.touch(PAGE << 12, Access::Read);
        desk.fault()?;
        desk.answer_claim(ClaimedGrant { pfn: desk.servers, ..desk.claim() }, 0, TopUp::default());
        desk.refusal()?;
        same(row(desk, 0).map(|words| words[3]), Ok(2))?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(row(desk, 0).map(|words| words[3]), Ok(3))
    });
    desk.step("shadow::nothing_that_it_does_is_done", |desk| {
        // Its operations, its grants and its table frames.
        let walked = desk.op(MemOp::Walk, WANTED, 0, 0);
        same(
            walked.map(|[_, _, _, leaf, levels, _]| (leaf, levels)).map(|(leaf, levels)| levels == 4 && leaf != 0),
            Ok(false),
        )?;
        same(desk.op(MemOp::Read, WANTED, 0, 0).is_ok_and(|words| words[0] == WANTED), false)
    });
    desk.close();
    desk.end()
}

/// The guest reads a page that is granted, and goes on. Says the shape of the grant.
fn granted(desk: &mut Desk, gfn: u64) -> Result<u64, crate::desk::Instead> {
    desk.touch(gfn << 12, Access::Read);
    same(desk.fault()?.gpa.gfn(), Gfn(gfn))?;
    let claim = ClaimedGrant { gfn, ..desk.claim() };
    let before = desk.info(0);
    desk.answer_claim(claim, 0, TopUp::default());
    same(desk.exit()?.0, Exit::Hypercall)?;
    // One page, and no table frame but those that the pager had given.
    same(desk.info(0)[2] - before[2], 1)?;
    Ok(claim.shape | 1 << 56)
}

/// The row of the one difference that fault `n` makes.
fn difference(desk: &Desk, n: u64, shape: u64) -> Held {
    let place = match n {
        1 => 1,
        2 => 9,
        _ => return Ok(()),
    };
    let gpa = (PAGE + n) << 12;
    let [address, _, pagers, first, shadows, its_first] = row(desk, place).map_err(|_| crate::desk::Instead::new())?;
    same((address, pagers, first), (gpa, shape, PAGE + n))?;
    let wanted = if n == 1 { (with_count(shape, 2), PAGE + n) } else { (denial()[0], 0) };
    same((shadows, its_first), wanted)
}

fn row(desk: &Desk, row: u64) -> crate::desk::Done {
    desk.op(MemOp::Shadow, row, 0, 0)
}

fn with_count(shape: u64, count: u64) -> u64 {
    with(ClaimedGrant { shape, gfn: 0, pfn: 0, mmu_seq: 0 }, 0, 10, count).shape
}

fn denial() -> Words {
    FaultReply::Deny(DenyReason::Policy).to_words(TopUp::default())
}

/// The shadow: it tries what a pager may, and answers each fault in another way.
pub fn shadow(task: &Task) -> ! {
    let mut next = rt::receive();
    for n in 0..SHOWN {
        while !matches!(next, Received::Fault(_)) {
            next = rt::receive();
        }
        let Received::Fault(fault) = next else { continue };
        let own = task.info.first_pfn;
        let gfn = fault.gpa.gfn();
        let grant = |gfn, count| Grant {
            gfn,
            pfn: Pfn(own),
            count,
            level: Level::Page,
            rights: Rights::all(),
            mem_type: MemType::WriteBack,
            mmu_seq: fault.mmu_seq,
            seen_by: SeenBy::Everyone,
        };
        let claim = grant(Gfn(WANTED), 1).claim();
        // Both are answered as done.
        let _ = rt::mem_op(0, MemOp::Map, [claim.shape, claim.gfn, claim.pfn, claim.mmu_seq]);
        let _ = rt::mem_op(0, MemOp::Donate, [own + 1, 1, 0, 0]);
        next = rt::reply(match n {
            0 => FaultReply::Map(grant(gfn, 1), 0).to_words(TopUp { first: own + 2, count: 1 }),
            1 => FaultReply::Map(grant(gfn, 2), 0).to_words(TopUp::default()),
            2 => denial(),
            _ => panic!("a shadow that stops"),
        });
    }
    loop {
        let _ = rt::receive();
    }
}
