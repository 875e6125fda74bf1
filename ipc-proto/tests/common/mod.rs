//! Every message there can be, for proptest.
#![allow(dead_code, reason = "each test binary uses its part")]

use ipc_proto::exit::{Direction, Event, Exit, ExitMessage, PortAccess, PortParts, Resume, ResumeFlags};
use ipc_proto::fault::{Fault, FaultKind, FaultReply, Origin, Qualification, TopUp};
use ipc_proto::grant::{Gfn, Gpa, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{
    DirtyPages, IdlePages, Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Topic, Tracking,
};
use ipc_proto::state::StateMask;
use ipc_proto::text::Text;
use ipc_proto::version::Version;
use proptest::prelude::*;
use proptest::sample::select;

pub fn fault() -> impl Strategy<Value = Fault> {
    (
        any::<(u16, u16, u16, u64, u32, u32, u64, u64)>(),
        select(&[Origin::Vcpu, Origin::Window][..]),
        select(&[FaultKind::Violation, FaultKind::Misconfiguration, FaultKind::LogFull][..]),
    )
        .prop_map(|((vcpu, vm, tables_left, gpa, qualification, idt_vectoring, mmu_seq, rip), origin, kind)| {
            Fault {
                vcpu,
                vm,
                tables_left,
                origin,
                kind,
                gpa: Gpa(gpa),
                qualification: Qualification::from_bits_retain(qualification),
                idt_vectoring,
                mmu_seq,
                rip,
            }
        })
}

pub const LEVELS: [Level; 3] = [Level::Page, Level::Large, Level::Huge];
pub const MEM_TYPES: [MemType; 5] =
    [MemType::Uncacheable, MemType::WriteCombining, MemType::WriteThrough, MemType::WriteProtected, MemType::WriteBack];

pub fn grant() -> impl Strategy<Value = Grant> {
    (any::<(u64, u64, u64)>(), 1u16..=512, select(&LEVELS[..]), 0u8..8, select(&MEM_TYPES[..]), any::<bool>()).prop_map(
        |((gfn, pfn, mmu_seq), count, level, rights, mem_type, hidden)| Grant {
            gfn: Gfn(gfn),
            pfn: Pfn(pfn),
            count,
            level,
            rights: Rights::from_bits_truncate(rights),
            mem_type,
            mmu_seq,
            seen_by: SeenBy::from_bit(u64::from(hidden)),
        },
    )
}

pub fn fault_reply() -> impl Strategy<Value = FaultReply> {
    prop_oneof![
        (grant(), any::<u8>()).prop_map(|(grant, more)| FaultReply::Map(grant, more)),
        any::<u64>().prop_map(FaultReply::Mmio),
        Just(FaultReply::Retry),
        any::<u64>().prop_map(FaultReply::Pending),
        select(DenyReason::ALL).prop_map(FaultReply::Deny),
    ]
}

pub fn top_up() -> impl Strategy<Value = TopUp> {
    (0u64..1 << 52, 0..=TopUp::MOST).prop_map(|(first, count)| TopUp { first, count })
}

pub fn port_access() -> impl Strategy<Value = PortAccess> {
    (any::<(u16, bool, bool)>(), select(&[1u8, 2, 4][..]), select(&[Direction::In, Direction::Out][..]))
        .prop_map(|((port, string, rep), size, direction)| PortParts { port, size, direction, string, rep }.into())
}

pub fn exit() -> impl Strategy<Value = Exit> {
    let plain = [
        Exit::Cpuid,
        Exit::Hlt,
        Exit::ReadMsr,
        Exit::WriteMsr,
        Exit::InterruptWindow,
        Exit::TripleFault,
        Exit::Xsetbv,
        Exit::Hypercall,
        Exit::CacheControl,
    ];
    let pair = any::<(u64, u64)>();
    prop_oneof![
        9 => select(plain.to_vec()),
        1 => port_access().prop_map(Exit::Port),
        1 => any::<u64>().prop_map(Exit::ControlRegister),
        1 => any::<u64>().prop_map(Exit::DebugRegister),
        1 => pair.prop_map(|(gpa, qualification)| Exit::Mmio(gpa, qualification)),
        1 => pair.prop_map(|(information, code)| Exit::Exception(information, code)),
        1 => (any::<u64>(), select(DenyReason::ALL)).prop_map(|(gpa, reason)| Exit::Denied(gpa, reason)),
        1 => pair.prop_map(|(gpa, qualification)| Exit::NoPager(gpa, qualification)),
        1 => pair.prop_map(|(gpa, qualification)| Exit::Stuck(gpa, qualification)),
        1 => pair.prop_map(|(reason, qualification)| Exit::EntryFailed(reason, qualification)),
        1 => pair.prop_map(|(reason, qualification)| Exit::Other(reason, qualification)),
    ]
}

pub fn exit_message() -> impl Strategy<Value = ExitMessage> {
    (any::<(u16, u16, u8)>(), exit()).prop_map(|((vcpu, vm, length), exit)| ExitMessage { vcpu, vm, length, exit })
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<u8>().prop_map(Event::Interrupt),
        (0u8..32).prop_map(Event::Exception),
        (0u8..32, any::<u32>()).prop_map(|(vector, code)| Event::ExceptionWithCode(vector, code)),
    ]
}

pub fn resume() -> impl Strategy<Value = Resume> {
    (any::<(u16, u16, u8, u32)>(), proptest::option::of(event())).prop_map(|((vcpu, vm, flags, write), event)| Resume {
        vcpu,
        vm,
        flags: ResumeFlags::from_bits_truncate(flags),
        write: StateMask::from_bits_truncate(write),
        event,
    })
}

pub fn hello() -> impl Strategy<Value = Hello> {
    any::<(u16, u16, u32)>().prop_map(|(major, minor, features)| Hello {
        version: Version { major, minor },
        features: Features::from_bits_retain(features),
    })
}

pub fn space() -> impl Strategy<Value = Space> {
    select(&[Space::Normal, Space::Smm][..])
}

pub fn any_slot() -> impl Strategy<Value = Slot> {
    let flags = any::<u32>().prop_map(SlotFlags::from_bits_retain);
    (any::<u16>(), space(), any::<(u64, u64)>(), flags).prop_map(|(id, space, (base, pages), flags)| Slot {
        id: SlotId(id),
        space,
        base: Gfn(base),
        pages,
        flags,
    })
}

pub fn slot_request() -> impl Strategy<Value = SlotRequest> {
    let flags = any::<u32>().prop_map(SlotFlags::from_bits_retain);
    let id = any::<u16>().prop_map(SlotId);
    prop_oneof![
        hello().prop_map(SlotRequest::Hello),
        any_slot().prop_map(SlotRequest::Create),
        (space(), id.clone()).prop_map(|(space, id)| SlotRequest::Delete(space, id)),
        (space(), id.clone(), any::<u64>()).prop_map(|(space, id, base)| SlotRequest::Move(space, id, Gfn(base))),
        (space(), id.clone(), flags).prop_map(|(space, id, flags)| SlotRequest::SetFlags(space, id, flags)),
        Just(SlotRequest::Stats),
        (space(), id, any::<u64>()).prop_map(|(space, id, from)| SlotRequest::DirtyLog(space, id, from)),
        (space(), any::<u64>(), select(&[Tracking::Off, Tracking::On][..]))
            .prop_map(|(space, gfn, tracking)| SlotRequest::Track(space, Gfn(gfn), tracking)),
        any::<u64>().prop_map(|gpa| SlotRequest::Why(Gpa(gpa))),
        any::<(u32, u64)>().prop_map(|(register, value)| SlotRequest::MemoryType(register, value)),
        (topic(), any::<u16>()).prop_map(|(topic, line)| SlotRequest::Tell(topic, line)),
        "[ -~]{0,60}".prop_map(|text| SlotRequest::Policy(Text::cut(&text))),
        (space(), any::<(u16, u64)>()).prop_map(|(space, (id, from))| SlotRequest::Idle(space, SlotId(id), from)),
        any::<(u64, u64)>().prop_map(|(gfn, pages)| SlotRequest::Prefault(Gfn(gfn), pages)),
        any::<u16>().prop_map(SlotRequest::HandOver),
        Just(SlotRequest::TakeOver),
    ]
}

fn topic() -> impl Strategy<Value = Topic> {
    prop_oneof![
        any::<u64>().prop_map(|gpa| Topic::Why(Gpa(gpa))),
        select(&[Topic::Stats, Topic::Policy, Topic::Slots][..])
    ]
}

pub fn slot_refused() -> impl Strategy<Value = SlotRefused> {
    prop_oneof![
        select(
            &[
                SlotRefused::Malformed,
                SlotRefused::Version,
                SlotRefused::NoHello,
                SlotRefused::BadSize,
                SlotRefused::BeyondGuest,
                SlotRefused::Exists,
                SlotRefused::NoSuchSlot,
                SlotRefused::TooMany,
                SlotRefused::UnknownFlag,
                SlotRefused::OutOfMemory,
                SlotRefused::NotLogged,
                SlotRefused::UnknownRegister,
                SlotRefused::UnknownPolicy,
                SlotRefused::BadOption,
                SlotRefused::NoHandOver,
            ][..]
        ),
        any::<u16>().prop_map(|id| SlotRefused::Overlap(SlotId(id))),
        select(Refused::ALL).prop_map(SlotRefused::Kernel),
    ]
}

pub fn slot_reply() -> impl Strategy<Value = SlotReply> {
    prop_oneof![
        hello().prop_map(SlotReply::Hello),
        Just(SlotReply::Done),
        slot_refused().prop_map(SlotReply::Refused),
        any::<(u64, [u64; 16])>().prop_map(|(first, bits)| SlotReply::Dirty(DirtyPages { first, bits })),
        "\\PC{0,60}".prop_map(|text| SlotReply::Line(Text::cut(&text))),
        any::<(u64, [u64; 16])>().prop_map(|(first, bits)| SlotReply::Idle(IdlePages { first, bits })),
        any::<u64>().prop_map(SlotReply::Left),
        any_slot().prop_map(SlotReply::Slot),
    ]
}
