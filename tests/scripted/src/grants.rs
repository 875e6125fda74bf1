//! Every reason against a grant, in an answer and unasked, and what a good one has done.

use crate::desk::{Access, Desk, Held, PAGE, same, with};
use ipc_proto::exit::Exit;
use ipc_proto::fault::TopUp;
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::memop::{Abilities, MemOp};
use ipc_proto::refused::Refused;

const GPA: u64 = PAGE << 12;
/// A shape's rights and level.
const RIGHTS: (u64, u64) = (12, 3);
const LEVEL: (u64, u64) = (10, 2);
const COUNT: (u64, u64) = (0, 10);
const TYPE: (u64, u64) = (15, 3);

const fn shaped(claim: ClaimedGrant, field: (u64, u64), value: u64) -> ClaimedGrant {
    with(claim, field.0, field.1, value)
}

/// Both ways are refused with `why`, change nothing, and bring the same fault again.
fn refused(desk: &mut Desk, claim: ClaimedGrant, why: Refused) -> Held {
    let before = desk.info(0);
    same(desk.map(0, claim).err(), Some(why))?;
    desk.touch(GPA, Access::Read);
    let fault = desk.fault()?;
    desk.answer_claim(claim, 0, TopUp::default());
    let (again, refusal) = desk.refusal()?;
    same(refusal, why)?;
    same(again, fault)?;
    same(desk.info(0), before)?;
    desk.answer_claim(desk.claim(), 0, TopUp::default());
    same(desk.exit()?.0, Exit::Hypercall)
}

/// Tries them.
pub fn try_all(desk: &mut Desk) {
    use Refused::{
        BadCount, BadLevel, BadMemType, BadRights, BeyondGuest, CrossesTable, KernelObject, Misaligned, NotRam,
        NotYours, Stale,
    };
    type Change = fn(&Desk, ClaimedGrant) -> ClaimedGrant;
    let changes: [(&str, Change, Refused); 24] = [
        ("no_pages", |_, c| shaped(c, COUNT, 0), BadCount),
        ("more_than_512_pages", |_, c| shaped(c, COUNT, 513), BadCount),
        ("no_level", |_, c| shaped(c, LEVEL, 0), BadLevel),
        ("no_rights", |_, c| shaped(c, RIGHTS, 0), BadRights),
        ("write_without_read", |_, c| shaped(c, RIGHTS, 2), BadRights),
        ("write_and_execute_without_read", |_, c| shaped(c, RIGHTS, 6), BadRights),
        ("memory_type_2", |_, c| shaped(c, TYPE, 2), BadMemType),
        ("memory_type_3", |_, c| shaped(c, TYPE, 3), BadMemType),
        ("memory_type_7", |_, c| shaped(c, TYPE, 7), BadMemType),
        ("large_gfn_misaligned", |_, c| shaped(ClaimedGrant { gfn: PAGE + 1, ..c }, LEVEL, 2), Misaligned),
        ("large_pfn_misaligned", |_, c| shaped(ClaimedGrant { pfn: c.pfn + 1, ..c }, LEVEL, 2), Misaligned),
        ("run_crosses_table", |_, c| shaped(ClaimedGrant { gfn: PAGE + 511, ..c }, COUNT, 2), CrossesTable),
        ("first_beyond_guest", |desk, c| ClaimedGrant { gfn: desk.guest_frames, ..c }, BeyondGuest),
        ("gfn_of_all_bits", |_, c| ClaimedGrant { gfn: u64::MAX, ..c }, BeyondGuest),
        ("device_frame", |_, c| ClaimedGrant { pfn: 0xfee00, ..c }, NotRam),
        ("frame_beyond_all", |_, c| ClaimedGrant { pfn: 1 << 40, ..c }, NotRam),
        ("frame_of_all_bits", |_, c| ClaimedGrant { pfn: u64::MAX, ..c }, NotRam),
        ("frame_of_another_task", |desk, c| ClaimedGrant { pfn: desk.servers, ..c }, NotYours),
        ("frame_of_the_pool", |desk, c| ClaimedGrant { pfn: desk.first + desk.frames, ..c }, KernelObject),
        ("frame_of_the_kernel", |_, c| ClaimedGrant { pfn: 0x110, ..c }, KernelObject),
        ("older_sequence", |_, c| ClaimedGrant { mmu_seq: c.mmu_seq - 1, ..c }, Stale),
        ("older_sequence_of_a_run", |_, c| shaped(ClaimedGrant { mmu_seq: c.mmu_seq - 1, ..c }, COUNT, 3), Stale),
        ("newer_sequence", |_, c| ClaimedGrant { mmu_seq: c.mmu_seq + 1, ..c }, Stale),
        (
            "last_of_run_not_owned",
            |desk, c| shaped(ClaimedGrant { pfn: desk.first + desk.frames - 1, ..c }, COUNT, 2),
            KernelObject,
        ),
    ];
    for (name, change, why) in changes {
        let mut full = heapless::String::<64>::new();
        let _ = core::fmt::Write::write_fmt(&mut full, format_args!("grant::{name}"));
        desk.case(&full, |desk| {
            // A run of cases without an invalidation would leave 0 as the sequence number.
            same(desk.op(MemOp::Unmap, PAGE, 1, 0).is_ok(), true)?;
            let claim = change(desk, desk.claim());
            refused(desk, claim, why)
        });
    }
    by_what_is_there(desk);
    by_the_cpu(desk);
    good(desk);
    further(desk);
    tables(desk);
}

fn by_what_is_there(desk: &mut Desk) {
    desk.case("grant::frame_of_another_vm", |desk| {
        let other = ClaimedGrant { pfn: desk.free + 8, mmu_seq: desk.info(1)[0], ..desk.claim() };
        same(desk.map(1, other).map(|words| words[0]), Ok(1))?;
        let claim = ClaimedGrant { pfn: desk.free + 8, ..desk.claim() };
        refused(desk, claim, Refused::OtherVm)
    });
    desk.case("grant::reserved_bits", |desk| {
        for bit in [19, 32, 63] {
            let claim = desk.claim();
            let claim = ClaimedGrant { shape: claim.shape | 1 << bit, ..claim };
            same(desk.map(0, claim).err(), Some(Refused::Reserved))?;
        }
        Ok(())
    });
    desk.case("grant::large_over_small", |desk| {
        same(desk.map(0, ClaimedGrant { gfn: PAGE + 5, ..desk.claim() }).is_ok(), true)?;
        refused(desk, shaped(desk.claim(), LEVEL, 2), Refused::TablesThere)
    });
    desk.case("grant::small_under_large", |desk| {
        same(desk.map(0, shaped(desk.claim(), LEVEL, 2)).map(|words| words[0]), Ok(512))?;
        let before = desk.info(0);
        same(desk.map(0, desk.claim()).err(), Some(Refused::LargePageThere))?;
        same(desk.info(0), before)
    });
}

fn by_the_cpu(desk: &mut Desk) {
    desk.case("grant::execute_only", |desk| {
        let can = Abilities::from_bits_truncate(desk.info(0)[3]).contains(Abilities::EXECUTE_ONLY);
        let claim = shaped(desk.claim(), RIGHTS, 4);
        if !can {
            return refused(desk, claim, Refused::BadRights);
        }
        rt::frame(desk.free).set_word(0, crate::order::VMCALL);
        desk.touch(GPA, Access::Fetch);
        desk.fault()?;
        desk.answer_claim(claim, 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        desk.touch(GPA, Access::Read);
        same(desk.fault()?.gpa.0, GPA)
    });
    desk.case("grant::huge", |desk| {
        let huge = desk.info(0)[3] >> 4 & 3 == 3;
        let claim = shaped(desk.claim(), LEVEL, 3);
        refused(desk, claim, if huge { Refused::Misaligned } else { Refused::BadLevel })
    });
}

fn good(desk: &mut Desk) {
    desk.case("map::exactly_the_run", |desk| {
        let before = desk.info(0)[2];
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        let claim = shaped(shaped(desk.claim(), COUNT, 3), RIGHTS, 3);
        desk.answer_claim(claim, 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        is_mapped(desk, claim, before)?;
        desk.touch(GPA + 0x3000, Access::Read);
        same(desk.fault()?.gpa.0, GPA + 0x3000)
    });
    desk.case("map::exactly_the_run_unasked", |desk| {
        let before = desk.info(0)[2];
        let claim = shaped(shaped(desk.claim(), COUNT, 3), RIGHTS, 3);
        same(desk.map(0, claim).map(|words| words[0]), Ok(3))?;
        is_mapped(desk, claim, before)
    });
    desk.case("map::a_run_takes_the_place_of_what_is_there", |desk| {
        // One page of the run has another frame, and one frame of the run is another page's too.
        let lost = desk.free + 9;
        same(desk.map(0, ClaimedGrant { gfn: PAGE + 1, pfn: lost, ..desk.claim() }).is_ok(), true)?;
        same(desk.map(0, ClaimedGrant { gfn: PAGE + 9, pfn: desk.free + 2, ..desk.claim() }).is_ok(), true)?;
        let before = desk.info(0)[2];
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        desk.answer_claim(shaped(desk.claim(), COUNT, 3), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(desk.info(0)[2], before + 2)?;
        same(desk.op(MemOp::Read, PAGE + 1, 0, 0).map(|words| words[1]), Ok(desk.free + 1))?;
        // The frame that lost its place is free for another VM.
        let other = ClaimedGrant { pfn: lost, mmu_seq: desk.info(1)[0], ..desk.claim() };
        same(desk.map(1, other).map(|words| words[0]), Ok(1))
    });
    desk.case("map::rights_hold", |desk| {
        same(desk.map(0, shaped(desk.claim(), RIGHTS, 1)).is_ok(), true)?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.0, Exit::Hypercall)?;
        desk.touch(GPA, Access::Write(1));
        let fault = desk.fault()?;
        same(fault.qualification.bits() & 0x3f, 1 << 1 | 1 << 3)?;
        desk.answer_claim(shaped(desk.claim(), RIGHTS, 3), 0, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        desk.touch(GPA, Access::Fetch);
        same(desk.fault()?.qualification.bits() & 0x3f, 1 << 2 | 1 << 3 | 1 << 4)
    });
    desk.case("map::another_frame_takes_the_place", |desk| {
        rt::frame(desk.free).set_word(0, 0x11);
        rt::frame(desk.free + 1).set_word(0, 0x22);
        same(desk.map(0, desk.claim()).map(|words| words[0]), Ok(1))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.1 & 0xffff_ffff, 0x11)?;
        let mapped = desk.info(0)[2];
        same(desk.map(0, ClaimedGrant { pfn: desk.free + 1, ..desk.claim() }).map(|words| words[0]), Ok(0))?;
        same(desk.info(0)[2], mapped)?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.1 & 0xffff_ffff, 0x22)
    });
    desk.case("map::the_same_again_adds_nothing", |desk| {
        let claim = desk.claim();
        same(desk.map(0, claim).map(|words| words[0]), Ok(1))?;
        let before = desk.info(0);
        same(desk.map(0, claim).map(|words| words[0]), Ok(0))?;
        same(desk.info(0), before)?;
        same(desk.op(MemOp::Unmap, PAGE, 1, 0).map(|words| words[0]), Ok(1))?;
        let other = ClaimedGrant { mmu_seq: desk.info(1)[0], ..claim };
        same(desk.map(1, other).map(|words| words[0]), Ok(1))
    });
    desk.case("map::memory_types_are_kept", |desk| {
        for kind in [0, 1, 4, 5, 6] {
            same(desk.map(0, shaped(desk.claim(), TYPE, kind)).is_ok(), true)?;
            let shape = desk.op(MemOp::Read, PAGE, 0, 0).map(|words| words[2]).unwrap_or_default();
            same(shape >> 15 & 7, kind)?;
        }
        Ok(())
    });
}

/// The three pages of `claim` are mapped where `before` pages were, and nothing behind them.
fn is_mapped(desk: &Desk, claim: ClaimedGrant, before: u64) -> Held {
    same(desk.info(0)[2], before + 3)?;
    for n in 0..3 {
        let [gfn, pfn, shape, ..] = desk.op(MemOp::Read, PAGE + n, 0, 0).unwrap_or_default();
        same((gfn, pfn, shape & 0x3ffff), (PAGE + n, claim.pfn + n, shaped(claim, COUNT, 1).shape))?;
    }
    same(desk.op(MemOp::Read, PAGE + 3, 0, 0).err(), Some(Refused::NotAsked))
}

fn further(desk: &mut Desk) {
    desk.case("map::further_grants_are_installed", |desk| {
        let claim = desk.claim();
        write_further(0, ClaimedGrant { gfn: PAGE + 9, pfn: desk.free + 9, ..claim });
        write_further(1, ClaimedGrant { gfn: PAGE + 11, pfn: desk.free + 11, ..claim });
        desk.touch(GPA, Access::Read);
        write_further(0, ClaimedGrant { gfn: PAGE + 9, pfn: desk.free + 9, ..claim });
        write_further(1, ClaimedGrant { gfn: PAGE + 11, pfn: desk.free + 11, ..claim });
        desk.answer_claim(claim, 2, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(desk.op(MemOp::Read, PAGE + 1, 0, 0).map(|words| words[0]), Ok(PAGE + 9))?;
        same(desk.op(MemOp::Read, PAGE + 10, 0, 0).map(|words| words[0]), Ok(PAGE + 11))
    });
    desk.case("map::grants_before_a_refused_one_stay", |desk| {
        let claim = desk.claim();
        let before = desk.info(0)[2];
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        write_further(0, ClaimedGrant { pfn: desk.servers, gfn: PAGE + 1, ..claim });
        write_further(1, ClaimedGrant { pfn: desk.free + 2, gfn: PAGE + 2, ..claim });
        desk.answer_claim(claim, 2, TopUp::default());
        same(desk.refusal()?.1, Refused::NotYours)?;
        same(desk.info(0)[2], before + 1)?;
        same(desk.op(MemOp::Read, PAGE + 1, 0, 0).err(), Some(Refused::NotAsked))
    });
    desk.case("map::what_is_beyond_128_further_grants_is_not_there", |desk| {
        let claim = desk.claim();
        desk.touch(GPA, Access::Read);
        desk.fault()?;
        for n in 0..128 {
            write_further(n, ClaimedGrant { gfn: PAGE + 1 + n as u64, pfn: desk.free + 1 + n as u64, ..claim });
        }
        desk.answer_claim(claim, 255, TopUp::default());
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(desk.op(MemOp::Read, PAGE + 128, 0, 0).map(|words| words[0]), Ok(PAGE + 128))?;
        same(desk.op(MemOp::Read, PAGE + 129, 0, 0).err(), Some(Refused::NotAsked))
    });
}

fn write_further(place: usize, claim: ClaimedGrant) {
    for (n, word) in [claim.shape, claim.gfn, claim.pfn, claim.mmu_seq].iter().enumerate() {
        rt::write_message_at(place * ClaimedGrant::BYTES + n * 8, &word.to_le_bytes());
    }
}

fn tables(desk: &mut Desk) {
    desk.case("tables::are_cleared", |desk| {
        let first = desk.gift(1);
        (0..1024).for_each(|word| rt::frame(first).set_word(word, u32::MAX));
        same(desk.op(MemOp::Donate, first, 1, 0).is_ok(), true)?;
        // The table of these 2 MiB is the frame that was given last.
        let before = desk.info(0);
        same(desk.map(0, ClaimedGrant { gfn: PAGE + 512, ..desk.claim() }).map(|words| words[0]), Ok(1))?;
        same((desk.info(0)[1], desk.info(0)[2]), (before[1] - 1, before[2] + 1))?;
        same(desk.op(MemOp::Read, PAGE + 513, 0, 0).err(), Some(Refused::NotAsked))
    });
    desk.case("tables::an_empty_pool_refuses_until_it_is_filled", |desk| {
        let before = desk.info(0)[1];
        let mut used = 0;
        while desk.info(0)[1] != 0 {
            used += 1;
            // Each lies in a table of its own; the last may need more tables than are left.
            let claim = ClaimedGrant { gfn: PAGE + used * 512, pfn: desk.free + used, ..desk.claim() };
            same(desk.map(0, claim).is_ok(), true)?;
        }
        desk.touch(GPA, Access::Read);
        same(desk.fault()?.tables_left, 0)?;
        desk.answer_claim(desk.claim(), 0, TopUp::default());
        same(desk.refusal()?.1, Refused::NoTables)?;
        let first = desk.gift(2);
        desk.answer_claim(desk.claim(), 0, TopUp { first, count: 2 });
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(desk.info(0)[1], 1)?;
        same(desk.op(MemOp::Unmap, PAGE, (used + 1) * 512, 0).map(|words| words[0]), Ok(used + 1))?;
        same(desk.info(0)[1], before + 2)
    });
}
