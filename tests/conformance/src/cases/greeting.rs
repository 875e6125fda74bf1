//! Hello: versions and features.

use super::{done, ram, refused, slot, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit, Outcome};
use anyhow::{Context, ensure};
use ipc_proto::grant::{Gfn, Gpa, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use ipc_proto::version::{PROTOCOL, Version};

pub const CASES: &[Case] = &[
    Case { name: "greeting::nothing_is_done_before_hello", checks: &["P21"], run: no_hello },
    Case { name: "greeting::another_major_is_refused", checks: &["P22"], run: major },
    Case { name: "greeting::any_minor_and_any_feature_is_accepted", checks: &["P22"], run: minor },
    Case { name: "greeting::a_second_hello_changes_nothing", checks: &["P22"], run: again },
    Case { name: "feature::large_pages_are_said_first", checks: &["P35"], run: large },
    Case { name: "feature::a_dirty_log_is_said_first", checks: &["P35"], run: dirty_log },
];

const NORMAL: Space = Space::Normal;

fn no_hello(kit: &mut Kit) -> anyhow::Result<()> {
    let requests = [
        SlotRequest::Create(ram(1, 0x100, 16)),
        SlotRequest::Delete(NORMAL, SlotId(1)),
        SlotRequest::Move(NORMAL, SlotId(1), Gfn(0x200)),
        SlotRequest::SetFlags(NORMAL, SlotId(1), SlotFlags::empty()),
        SlotRequest::Stats,
        SlotRequest::DirtyLog(NORMAL, SlotId(1), 0),
        SlotRequest::Track(NORMAL, Gfn(0x100), Tracking::On),
        SlotRequest::Why(Gpa(0)),
        SlotRequest::MemoryType(0x2ff, 0),
    ];
    let other = Hello { version: Version { major: PROTOCOL.major + 1, minor: 0 }, features: Features::empty() };
    for round in 0..2 {
        for request in &requests {
            refused(kit, 0, request, SlotRefused::NoHello).context("P21")?;
        }
        if round == 0 {
            // A greeting that was refused is none.
            refused(kit, 0, &SlotRequest::Hello(other), SlotRefused::Version).context("P21, P22")?;
        }
    }
    let outcome = kit.access(GUEST, 0x100, Rights::READ)?;
    ensure!(outcome == Outcome::Mmio, "P21: a slot that was not created: {outcome:?}");
    with(kit, &[ram(1, 0x100, 16)]).context("P21: once Hello is said")?;
    kit.read(GUEST, 0x100)
}

fn major(kit: &mut Kit) -> anyhow::Result<()> {
    let ours = PROTOCOL.major;
    for major in [ours + 1, ours.wrapping_sub(1), 255, u16::MAX] {
        for minor in [0, PROTOCOL.minor, u16::MAX] {
            let hello = Hello { version: Version { major, minor }, features: Features::empty() };
            refused(kit, 0, &SlotRequest::Hello(hello), SlotRefused::Version).context("P22")?;
        }
    }
    Ok(())
}

fn minor(kit: &mut Kit) -> anyhow::Result<()> {
    let own = kit.hello(0)?;
    for minor in [0, 1, PROTOCOL.minor, PROTOCOL.minor + 1, u16::MAX] {
        for features in [0, 1, 0xffff_ffff] {
            let version = Version { minor, ..PROTOCOL };
            let hello = Hello { version, features: Features::from_bits_retain(features) };
            let reply = kit.request(0, &SlotRequest::Hello(hello))?;
            ensure!(
                matches!(reply, SlotReply::Hello(Hello { version: Version { major, .. }, .. }) if major == PROTOCOL.major),
                "P22: Hello of version {}.{minor}, features {features:#x}: {reply:?}",
                PROTOCOL.major
            );
            ensure!(
                matches!(reply, SlotReply::Hello(hello) if hello.version == own.version),
                "P22: its own version is {:?}, whatever minor greets it: {reply:?}",
                own.version
            );
        }
    }
    Ok(())
}

fn again(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    kit.write(GUEST, 0x105, 24, 77)?;
    let (first, second) = (kit.hello(0)?, kit.hello(0)?);
    ensure!(first == second, "P22: a second Hello is answered otherwise: {first:?}, {second:?}");
    kit.read(GUEST, 0x105).context("P22: after a second Hello")?;
    refused(kit, 0, &SlotRequest::Create(ram(1, 0x100, 16)), SlotRefused::Exists).context("P22: after a second Hello")
}

/// What is mapped is looked at after each message: here is a slot that asks for large pages.
fn large(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x200, 1024)]).context("P35")?;
    for gfn in [0x200, 0x3ff, 0x400, 0x5ff] {
        kit.write(GUEST, gfn, 0, gfn).context("P35")?;
        kit.check()?;
    }
    Ok(())
}

fn dirty_log(kit: &mut Kit) -> anyhow::Result<()> {
    let hello = kit.hello(0)?;
    let logged = SlotRequest::Create(slot(1, 0x100, 16, SlotFlags::LOG_DIRTY_PAGES));
    if hello.features.contains(Features::DIRTY_LOG) {
        return done(kit, 0, &logged).context("P35: DIRTY_LOG was said");
    }
    refused(kit, 0, &logged, SlotRefused::UnknownFlag).context("P35: DIRTY_LOG was not said")
}
