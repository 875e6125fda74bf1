//! System calls and operations: every refusal, and what an accepted one has done.

use crate::desk::{Access, Desk, PAGE, same, with};
use ipc_proto::call::{Call, NO_REPLY};
use ipc_proto::exit::Exit;
use ipc_proto::fault::FaultReply;
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::layout::handle;
use ipc_proto::memop::{Abilities, GENERATIONS, HARVEST, Harvest, MemOp};
use ipc_proto::refused::{DenyReason, Refused};
use rt::Received;

const GPA: u64 = PAGE << 12;
const VM: u64 = handle::vm(0) as u64;

/// Tries them.
pub fn try_all(desk: &mut Desk) {
    calls(desk);
    servers_calls(desk);
    refused_operations(desk);
    owned(desk);
    walks(desk);
    donations(desk);
    effects(desk);
    sequence(desk);
    harvests(desk);
}

fn calls(desk: &mut Desk) {
    desk.case("call::unknown_numbers", |desk| {
        [11, 12, 255, 257, 1 << 32, u64::MAX]
            .iter()
            .try_for_each(|number| same(desk.call(*number, [0; 6]).status, Refused::UnknownCall as u64))
    });
    desk.case("call::handles_that_were_not_given", |desk| {
        for handle in [0, 1, 7, 10, 16, 24, 55, 56, 4096, u64::MAX] {
            for number in [Call::Send, Call::MemOp, Call::Run, Call::PowerOff] {
                let status = desk.call(number as u64, [handle, 6, 0, 0, 0, 0]).status;
                same((handle, number, status), (handle, number, Refused::BadHandle as u64))?;
            }
        }
        Ok(())
    });
    desk.case("call::handles_of_another_kind", |desk| {
        [Call::Send, Call::Run, Call::PowerOff].iter().try_for_each(|number| {
            same(desk.call(*number as u64, [VM, 0, 0, 0, 0, 0]).status, Refused::BadHandle as u64)
        })
    });
    desk.case("call::lines_that_are_too_long", |desk| {
        for number in [Call::Log, Call::Stat] {
            for length in [513, 4096, u64::MAX] {
                same(desk.call(number as u64, [3, length, 0, 0, 0, 0]).status, Refused::BadLength as u64)?;
            }
        }
        Ok(())
    });
    desk.case("call::receiving_with_a_message_unanswered", |desk| {
        same(desk.call(Call::ReplyReceive as u64 | NO_REPLY, [0; 6]).status, Refused::Unanswered as u64)
    });
}

fn servers_calls(desk: &mut Desk) {
    desk.case("server::reads_and_nothing_else", |desk| {
        let reads = [MemOp::Read, MemOp::Info, MemOp::Walk].map(|op| op as u64);
        for op in 1..=11 {
            desk.let_call(Call::MemOp as u64, [VM, op, 1, 1, 1, 0]);
            let wanted = if reads.contains(&op) { 0 } else { Refused::NoRight as u64 };
            same((op, desk.called()?.0), (op, wanted))?;
        }
        Ok(())
    });
    desk.case("server::calls_that_are_too_long", |desk| {
        desk.let_call(Call::Send as u64, [u64::from(handle::pager(0)), 4097, 0, 0, 0, 0]);
        same(desk.called()?.0, Refused::BadLength as u64)
    });
    desk.case("server::calls_itself", |desk| {
        desk.let_call(Call::Send as u64, [u64::from(handle::pager(2)), 8, 0, 0, 0, 0]);
        same(desk.called()?.0, Refused::Unreachable as u64)
    });
    desk.case("server::runs_what_does_not_wait", |desk| {
        desk.touch(crate::order::CODE_READ, Access::Read);
        desk.exit()?;
        desk.let_call(Call::Run as u64, [u64::from(handle::vcpu(0, 0)), 0, 0, 0, 0, 0]);
        same(desk.called()?.0, Refused::NotParked as u64)?;
        desk.let_call(Call::Run as u64, [u64::from(handle::vcpu(0, 0)), 0xf0 << 32, 0, 0, 0, 0]);
        same(desk.called()?.0, Refused::UnknownVariant as u64)
    });
    desk.case("server::calls_carry_badge_and_bytes", |desk| {
        rt::write_message_at(64, &[0xee; 64]);
        desk.let_call(Call::Send as u64, [u64::from(handle::pager(1)), 80, 0, 0, 0, 0]);
        same(matches!(desk.received(), Received::Call { vm: 1, len: 80 }), true)?;
        let mut bytes = [0; 64];
        rt::read_message_at(64, &mut bytes);
        let (carried, kept) = bytes.split_at(16);
        let kept = kept.iter().all(|byte| *byte == 0xee);
        let carried = carried.iter().any(|byte| *byte != 0xee);
        desk.answer_words([5, 0, 0, 0, 0, 0]);
        same((carried, kept), (true, true))?;
        let (status, words) = desk.called()?;
        same((status, words[0]), (0, 5))
    });
    desk.case("server::replies_are_at_most_a_page", |desk| {
        desk.let_call(Call::Send as u64, [u64::from(handle::pager(1)), 0, 0, 0, 0, 0]);
        same(matches!(desk.received(), Received::Call { vm: 1, len: 0 }), true)?;
        desk.answer_words([5000, 0, 0, 0, 0, 0]);
        same(desk.called()?.1[0], 4096)
    });
}

fn refused_operations(desk: &mut Desk) {
    use Refused::{BadCount, BadRights, BeyondGuest, NotAsked, Reserved, UnknownToken, UnknownVariant};
    let end = desk.guest_frames;
    let cases: [(&str, MemOp, [u64; 3], Refused); 16] = [
        ("unmap_nothing", MemOp::Unmap, [PAGE, 0, 0], BadCount),
        ("unmap_beyond", MemOp::Unmap, [end - 1, 2, 0], BeyondGuest),
        ("unmap_all_bits", MemOp::Unmap, [2, u64::MAX, 0], BeyondGuest),
        ("protect_nothing", MemOp::Protect, [PAGE, 0, 1], BadCount),
        ("protect_beyond", MemOp::Protect, [end, 1, 1], BeyondGuest),
        ("protect_unknown_right", MemOp::Protect, [PAGE, 1, 9], BadRights),
        ("protect_without_read", MemOp::Protect, [PAGE, 1, 4], BadRights),
        ("read_of_nothing", MemOp::Read, [PAGE, 0, 0], NotAsked),
        ("ready_unknown_token", MemOp::Ready, [77, 0, 0], UnknownToken),
        ("harvest_nothing", MemOp::Harvest, [PAGE, 0, 0], BadCount),
        ("harvest_too_much", MemOp::Harvest, [PAGE, HARVEST + 1, 0], BadCount),
        ("harvest_beyond", MemOp::Harvest, [end - 1, 2, 0], BeyondGuest),
        ("harvest_unknown_mode", MemOp::Harvest, [PAGE, 1, 7], UnknownVariant),
        ("harvest_log_that_is_off", MemOp::Harvest, [0, 0, Harvest::Log as u64], NotAsked),
        ("generation_beyond", MemOp::Generation, [GENERATIONS, 0, 0], Reserved),
        ("log_unknown", MemOp::SetLog, [2, 0, 0], UnknownVariant),
    ];
    for (name, op, [w2, w3, w4], why) in cases {
        let mut full = heapless::String::<64>::new();
        let _ = core::fmt::Write::write_fmt(&mut full, format_args!("op::{name}"));
        desk.case(&full, |desk| {
            let before = desk.info(0);
            same(desk.op(op, w2, w3, w4).err(), Some(why))?;
            same(desk.info(0), before)
        });
    }
    desk.case("op::one_invept_however_many_pages", |desk| {
        let forgotten = |desk: &Desk| desk.op(MemOp::Info, 0, 0, 0).map_or(0, |words| words[4]);
        let run = |desk: &Desk, rights| with(with(desk.claim(), 0, 10, 512), 12, 3, rights);
        same(desk.map(0, run(desk, 7)).map(|words| words[0]), Ok(512))?;
        let mut before = forgotten(desk);
        for (op, keep, taken) in
            [(MemOp::Protect, 5, 1), (MemOp::Protect, 5, 0), (MemOp::Unmap, 0, 1), (MemOp::Unmap, 0, 0)]
        {
            same(desk.op(op, PAGE, 512, keep).is_ok(), true)?;
            same((op, keep, forgotten(desk) - before), (op, keep, taken))?;
            before += taken;
        }
        Ok(())
    });
    desk.case("op::unknown_operations", |desk| {
        [0, 14, 255, u64::MAX].iter().try_for_each(|op| same(desk.raw_op(VM, *op, 0, 0, 0), UnknownVariant as u64))
    });
    desk.case("op::part_of_a_large_page", |desk| {
        same(desk.map(0, with(desk.claim(), 10, 2, 2)).is_ok(), true)?;
        let before = desk.info(0);
        for (gfn, count) in [(PAGE, 1), (PAGE + 1, 600), (PAGE - 3, 4)] {
            same(desk.op(MemOp::Unmap, gfn, count, 0).err(), Some(Refused::LargePageThere))?;
            same(desk.op(MemOp::Protect, gfn, count, 1).err(), Some(Refused::LargePageThere))?;
        }
        same(desk.info(0), before)
    });
}

fn owned(desk: &mut Desk) {
    let owned = |desk: &Desk, pfn| desk.op(MemOp::Owned, pfn, 0, 0).map(|[first, count, how, ..]| (first, count, how));
    desk.case("op::owned_frames_that_are_mapped", |desk| {
        let free = desk.free;
        let whole = owned(desk, free).map_or(0, |run| run.1);
        same(desk.map(0, ClaimedGrant { pfn: free + 509, ..with(desk.claim(), 0, 10, 5) }).is_ok(), true)?;
        same(owned(desk, free), Ok((free, 509, 0)))?;
        same(owned(desk, free + 510), Ok((free + 510, 4, 1)))?;
        same(owned(desk, free + 514), Ok((free + 514, whole - 514, 0)))?;
        same(desk.op(MemOp::Unmap, PAGE, 512, 0).is_ok(), true)?;
        same(owned(desk, free), Ok((free, whole, 0)))?;
        same(desk.map(0, with(desk.claim(), 10, 2, 2)).is_ok(), true)?;
        same(owned(desk, free + 7), Ok((free + 7, 505, 1)))
    });
    desk.case("op::owned_frames_that_are_not", |desk| {
        let end = desk.first + desk.frames;
        same(owned(desk, end - 1), Ok((end - 1, 1, 0)))?;
        same(owned(desk, 0).map(|run| run.0), Ok(desk.first))?;
        [end, desk.servers.max(end), u64::MAX]
            .iter()
            .try_for_each(|pfn| same(owned(desk, *pfn), Err(Refused::NotAsked)))
    });
}

fn walks(desk: &mut Desk) {
    desk.case("op::walk_shows_the_entries", |desk| {
        let walk = |desk: &Desk, gfn| {
            desk.op(MemOp::Walk, gfn, 0, 0).map(|words| (words[4], words[words[4] as usize % 5 - 1]))
        };
        let leaf = |entry: u64| (entry & 7, entry >> 52 & 7, entry >> 12 & 0xff_ffff_ffff);
        same(desk.map(0, with(desk.claim(), 12, 3, 3)).is_ok(), true)?;
        same(walk(desk, PAGE).map(|(count, entry)| (count, leaf(entry))), Ok((4, (3, 3, desk.free))))?;
        same(walk(desk, PAGE + 1), Ok((4, 0)))?;
        same(desk.op(MemOp::Harvest, PAGE, 1, Harvest::WriteProtect as u64).map(|words| words[0]), Ok(1))?;
        same(walk(desk, PAGE).map(|(count, entry)| (count, leaf(entry))), Ok((4, (1, 3, desk.free))))?;
        same(desk.op(MemOp::Unmap, PAGE, 512, 0).is_ok(), true)?;
        same(desk.map(0, with(desk.claim(), 10, 2, 2)).is_ok(), true)?;
        same(walk(desk, PAGE + 7).map(|(count, entry)| (count, leaf(entry))), Ok((3, (7, 7, desk.free))))?;
        same(desk.op(MemOp::Walk, desk.guest_frames, 0, 0), Ok([0; 6]))
    });
}

fn donations(desk: &mut Desk) {
    use Refused::{BadCount, KernelObject, NotRam, NotYours, StillMapped};
    desk.case("donate::refusals", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        let before = desk.info(0);
        let (gift, pool) = (desk.free + 700, desk.first + desk.frames);
        let cases = [
            (gift, 0, BadCount),
            (gift, 513, BadCount),
            (desk.free, 1, StillMapped),
            (desk.servers, 1, NotYours),
            (pool, 1, KernelObject),
            (pool - 1, 2, KernelObject),
            (0xfee00, 1, NotRam),
            (u64::MAX, 1, NotRam),
        ];
        for (first, count, why) in cases {
            same((first, desk.op(MemOp::Donate, first, count, 0).err()), (first, Some(why)))?;
        }
        same(desk.info(0), before)
    });
    desk.case("donate::frames_are_the_pools", |desk| {
        let before = desk.info(0)[1];
        let gift = desk.gift(3);
        same(desk.op(MemOp::Donate, gift, 3, 0).is_ok(), true)?;
        same(desk.info(0)[1], before + 3)?;
        same(desk.op(MemOp::Donate, gift, 1, 0).err(), Some(KernelObject))?;
        same(desk.map(0, ClaimedGrant { pfn: gift, ..desk.claim() }).err(), Some(KernelObject))
    });
}

fn effects(desk: &mut Desk) {
    desk.case("unmap::takes_at_once", |desk| {
        same(desk.map(0, with(desk.claim(), 0, 10, 4)).map(|words| words[0]), Ok(4))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.0, Exit::Hypercall)?;
        let mapped = desk.info(0)[2];
        same(desk.op(MemOp::Unmap, PAGE, 3, 0).map(|words| words[0]), Ok(3))?;
        same(desk.info(0)[2], mapped - 3)?;
        same(desk.op(MemOp::Read, PAGE, 0, 0).map(|words| words[0]), Ok(PAGE + 3))?;
        desk.touch(GPA, Access::Read);
        same(desk.fault()?.gpa.0, GPA)
    });
    desk.case("unmap::frees_the_frame", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        same(desk.op(MemOp::Unmap, PAGE, 1, 0).map(|words| words[0]), Ok(1))?;
        let other = ClaimedGrant { mmu_seq: desk.info(1)[0], ..desk.claim() };
        same(desk.map(1, other).map(|words| words[0]), Ok(1))
    });
    desk.case("unmap::gives_tables_back", |desk| {
        let before = desk.info(0)[1];
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        same(desk.info(0)[1], before - 1)?;
        same(desk.op(MemOp::Unmap, PAGE, 512, 0).map(|words| words[0]), Ok(1))?;
        same(desk.info(0)[1], before)?;
        same(desk.map(0, with(desk.claim(), 10, 2, 2)).map(|words| words[0]), Ok(512))
    });
    desk.case("protect::takes_at_once", |desk| {
        same(desk.map(0, with(desk.claim(), 0, 10, 2)).is_ok(), true)?;
        desk.touch(GPA, Access::Write(3));
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(desk.op(MemOp::Protect, PAGE, 1, 1).map(|words| words[0]), Ok(1))?;
        let shape = |gfn| desk.op(MemOp::Read, gfn, 0, 0).map(|words| words[2] >> 12 & 7);
        same((shape(PAGE), shape(PAGE + 1)), (Ok(1), Ok(7)))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.0, Exit::Hypercall)?;
        desk.touch(GPA, Access::Write(4));
        same(desk.fault()?.gpa.0, GPA)?;
        same(desk.op(MemOp::Protect, PAGE, 1, 3).map(|words| words[0]), Ok(0))
    });
}

fn sequence(desk: &mut Desk) {
    desk.case("sequence::advances_when_it_should", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        for (op, w4) in [
            (MemOp::Harvest, Harvest::WriteProtect as u64),
            (MemOp::Harvest, Harvest::Hide as u64),
            (MemOp::Protect, 1),
            (MemOp::Unmap, 0),
        ] {
            let before = desk.info(0)[0];
            same(desk.op(op, PAGE, 1, w4).is_ok(), true)?;
            same((op, w4, desk.info(0)[0]), (op, w4, before + 1))?;
        }
        Ok(())
    });
    desk.case("sequence::stands_when_it_should", |desk| {
        let before = desk.info(0)[0];
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        let gift = desk.gift(1);
        same(desk.op(MemOp::Donate, gift, 1, 0).is_ok(), true)?;
        same(desk.op(MemOp::Read, PAGE, 0, 0).is_ok(), true)?;
        same(desk.op(MemOp::Generation, 3, 0, 0).is_ok(), true)?;
        same(desk.info(0)[0], before)
    });
    desk.case("sequence::advances_by_a_harvest_that_finds_nothing", |desk| {
        for mode in [Harvest::WriteProtect, Harvest::Hide] {
            let before = desk.info(0)[0];
            same(desk.op(MemOp::Harvest, PAGE, 1, mode as u64).map(|words| words[0]), Ok(0))?;
            same((mode, desk.info(0)[0]), (mode, before + 1))?;
        }
        Ok(())
    });
}

fn bitmap() -> u64 {
    let mut bytes = [0; 8];
    rt::read_message(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn harvests(desk: &mut Desk) {
    desk.case("harvest::taken_rights_are_mended_and_told_once", |desk| {
        same(desk.map(0, with(desk.claim(), 0, 10, 3)).is_ok(), true)?;
        for mode in [Harvest::WriteProtect, Harvest::Hide] {
            let harvest = |desk: &Desk| desk.op(MemOp::Harvest, PAGE - 1, 5, mode as u64).map(|words| words[0]);
            let _ = harvest(desk);
            same((mode, harvest(desk)), (mode, Ok(0)))?;
            desk.touch(GPA + 0x1000, Access::Write(7));
            same(desk.exit()?.0, Exit::Hypercall)?;
            same((mode, harvest(desk), bitmap()), (mode, Ok(1), 1 << 2))?;
            same((mode, harvest(desk), bitmap()), (mode, Ok(0), 0))?;
        }
        Ok(())
    });
    desk.case("harvest::a_look_takes_nothing", |desk| {
        let can = Abilities::from_bits_truncate(desk.info(0)[3]).contains(Abilities::ACCESSED_DIRTY);
        same(desk.map(0, with(desk.claim(), 0, 10, 2)).is_ok(), true)?;
        desk.touch(GPA + 0x1000, Access::Write(7));
        same(desk.exit()?.0, Exit::Hypercall)?;
        for (look, take) in [(Harvest::LookWritable, Harvest::WriteProtect), (Harvest::LookDirty, Harvest::Dirty)] {
            let harvest = |mode: Harvest| desk.op(MemOp::Harvest, PAGE, 2, mode as u64).map(|words| words[0]);
            if look.needs_bits() && !can {
                same(harvest(look), Err(Refused::BadRights))?;
                continue;
            }
            let stands = (desk.info(0)[0], desk.info(0)[4]);
            let first = (harvest(look), bitmap());
            same((look, harvest(look), bitmap()), (look, first.0, first.1))?;
            same((look, (desk.info(0)[0], desk.info(0)[4])), (look, stands))?;
            same((take, harvest(take), bitmap()), (take, first.0, first.1))?;
            same((look, harvest(look), bitmap()), (look, Ok(0), 0))?;
        }
        Ok(())
    });
    desk.case("harvest::a_read_page_stays_clean", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        let harvest =
            |desk: &Desk| desk.op(MemOp::Harvest, PAGE, 1, Harvest::WriteProtect as u64).map(|words| words[0]);
        same(harvest(desk), Ok(1))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.0, Exit::Hypercall)?;
        same(harvest(desk), Ok(0))
    });
    desk.case("harvest::rights_that_were_not_granted_are_not_mended", |desk| {
        same(desk.map(0, with(desk.claim(), 12, 3, 1)).is_ok(), true)?;
        same(desk.op(MemOp::Harvest, PAGE, 1, Harvest::Hide as u64).map(|words| words[0]), Ok(1))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.0, Exit::Hypercall)?;
        for access in [Access::Write(1), Access::Fetch] {
            desk.touch(GPA, access);
            same((access, desk.fault()?.gpa.0), (access, GPA))?;
            desk.answer(&FaultReply::Deny(DenyReason::Policy));
            desk.exit()?;
        }
        Ok(())
    });
    desk.case("harvest::a_and_d_bits", |desk| {
        let can = Abilities::from_bits_truncate(desk.info(0)[3]).contains(Abilities::ACCESSED_DIRTY);
        same(desk.map(0, with(desk.claim(), 0, 10, 2)).is_ok(), true)?;
        for mode in [Harvest::Dirty, Harvest::Accessed] {
            let harvest = |desk: &Desk| desk.op(MemOp::Harvest, PAGE, 2, mode as u64).map(|words| words[0]);
            if !can {
                same(harvest(desk), Err(Refused::BadRights))?;
                continue;
            }
            let _ = harvest(desk);
            desk.touch(GPA + 0x1000, Access::Write(7));
            same(desk.exit()?.0, Exit::Hypercall)?;
            same((mode, harvest(desk), bitmap()), (mode, Ok(1), 2))?;
            same((mode, harvest(desk)), (mode, Ok(0)))?;
        }
        Ok(())
    });
}
