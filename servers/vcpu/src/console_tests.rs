use super::{COMMANDS, Dirty, LONGEST, Mistake, Request, Way};
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::shadow::Kind;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, Space, Tracking};
use ipc_proto::text::Text;
use std::format;
use std::string::ToString;

fn read(line: &str) -> Option<Request<'_>> {
    Request::parse(line).expect("understood")
}

#[test]
fn every_form_in_the_list_is_understood() {
    let slot = Slot { id: SlotId(7), space: Space::Normal, base: Gfn(0x10000), pages: 16, flags: SlotFlags::empty() };
    let both = SlotFlags::LOG_DIRTY_PAGES | SlotFlags::READONLY;
    for (line, request) in [
        ("help", Request::Help),
        ("stats", Request::Stats("")),
        ("stats invepts", Request::Stats("invepts")),
        ("why 0x1000", Request::Why(Gpa(4096))),
        ("ledger", Request::Ledger(Gpa(0), 16)),
        ("ledger 0x100000", Request::Ledger(Gpa(1 << 20), 16)),
        ("  ledger   4096\t3 ", Request::Ledger(Gpa(4096), 3)),
        ("slot list", Request::Slots),
        ("slot create 7 0x10000000 16", Request::Create(slot)),
        ("slot create 7 0x10000000 16 log,readonly", Request::Create(Slot { flags: both, ..slot })),
        ("slot delete 7", Request::Delete(SlotId(7))),
        ("slot move 7 0x20000000", Request::Move(SlotId(7), Gfn(0x20000))),
        ("slot flags 7 private", Request::SetFlags(SlotId(7), SlotFlags::PRIVATE)),
        ("slot flags 7 none", Request::SetFlags(SlotId(7), SlotFlags::empty())),
        ("dirty start", Request::Dirty(Dirty::Start, SlotId(2))),
        ("dirty read 0", Request::Dirty(Dirty::Read, SlotId(0))),
        ("dirty stop 7", Request::Dirty(Dirty::Stop, SlotId(7))),
        ("idle", Request::Idle(SlotId(2))),
        ("idle 0", Request::Idle(SlotId(0))),
        ("track 0x2000 on", Request::Track(Gfn(2), Tracking::On)),
        ("track 0x2000 off", Request::Track(Gfn(2), Tracking::Off)),
        ("peek 8", Request::Peek(8)),
        ("poke 8 0xffffffffffffffff", Request::Poke(8, u64::MAX)),
        ("precopy 2 0x20000000", Request::Precopy(SlotId(2), Gfn(0x20000))),
        ("policy", Request::Policy),
        ("policy fault-around window=16", Request::SetPolicy(Text::cut("fault-around window=16"))),
        ("shadow", Request::Shadow(&[Kind::Decision, Kind::Extent])),
        ("shadow decision", Request::Shadow(&[Kind::Decision])),
        ("shadow extent", Request::Shadow(&[Kind::Extent])),
        ("kill", Request::Kill),
        ("restart", Request::Restart),
        ("swap pager-c ", Request::Swap("pager-c", Way::Kept)),
        ("swap vmm-mm ledger", Request::Swap("vmm-mm", Way::Ledger)),
        ("type echo a  b", Request::Type("echo a  b")),
    ] {
        assert_eq!(read(line), Some(request), "{line}");
        let name = line.split_whitespace().next().expect("a word");
        assert!(COMMANDS.iter().any(|entry| entry.name == name), "{name} is in the list");
    }
    assert_eq!(read(" \t"), None);
}

#[test]
fn a_mistake_names_what_would_have_been_right() {
    assert_eq!(Request::parse("slotte list"), Err(Mistake::Unknown("slotte")));
    for line in [
        "help me",
        "why",
        "why 0xg",
        "why 0x10000000000000000",
        "slot",
        "slot create 7 0x10000001 16",
        "slot create 70000 0 16",
        "slot create 7 0 16 shared",
        "slot delete",
        "dirty",
        "dirty again",
        "track 0x2000 maybe",
        "poke 8",
        "ledger 1 2 3",
        "kill vcpu",
        "restart now",
        "swap",
        "swap vmm-mm pager-c",
        "slot a b c d e f g h i",
    ] {
        let name = line.split(' ').next().expect("a word");
        let mistake = Request::parse(line).expect_err(line);
        assert_eq!(mistake, Mistake::Arguments(name));
        for entry in COMMANDS.iter().filter(|entry| entry.name == name) {
            assert!(mistake.to_string().contains(entry.arguments), "{mistake}");
        }
    }
}

#[test]
fn every_command_fits_into_a_request() {
    for entry in COMMANDS {
        assert!(format!("{} {}", entry.name, entry.arguments).len() < LONGEST);
    }
}
