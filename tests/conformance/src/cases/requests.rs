//! What is a request, and what is a reply.

use super::{done, ram, with};
use crate::case::Case;
use crate::kit::{GUEST, Kit};
use anyhow::{Context, ensure};
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::slot::{SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use ipc_proto::wire;

pub const CASES: &[Case] = &[
    Case { name: "request::what_is_no_request_is_malformed", checks: &["P23"], run: malformed },
    Case { name: "request::every_prefix_of_a_request_is_malformed", checks: &["P23"], run: truncated },
    Case { name: "request::a_number_may_be_longer_than_it_needs", checks: &["P23"], run: long_numbers },
    Case { name: "request::replies_are_whole_and_short", checks: &["P39"], run: replies },
];

const NORMAL: Space = Space::Normal;

/// Bytes that must be answered by `Malformed`.
fn must_be_malformed(kit: &mut Kit, what: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let reply = kit.ask_bytes(0, bytes).with_context(|| format!("P23: {what}"))?;
    let wanted = SlotReply::Refused(SlotRefused::Malformed);
    ensure!(reply == wanted, "P23: {what}, {bytes:02x?}, must be refused with Malformed: {reply:?}");
    Ok(())
}

fn bytes_of(request: &SlotRequest) -> Vec<u8> {
    let mut bytes = [0; 512];
    // Every request is shorter.
    let len = wire::encode(request, &mut bytes).unwrap_or(0);
    bytes[..len].to_vec()
}

/// One of each request, accepted or not.
fn one_of_each() -> Vec<SlotRequest> {
    vec![
        SlotRequest::Create(ram(9, 0x40_0000, 0x1234)),
        SlotRequest::Delete(NORMAL, SlotId(300)),
        SlotRequest::Move(NORMAL, SlotId(300), Gfn(0x1_0000)),
        SlotRequest::SetFlags(NORMAL, SlotId(300), SlotFlags::READONLY),
        SlotRequest::DirtyLog(NORMAL, SlotId(300), 0x1000),
        SlotRequest::Track(NORMAL, Gfn(0x4000_0000), Tracking::On),
        SlotRequest::Why(Gpa(u64::MAX)),
        SlotRequest::MemoryType(0x2ff, 0xc06),
        SlotRequest::Stats,
    ]
}

fn malformed(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    must_be_malformed(kit, "no byte at all", &[])?;
    for variant in [20, 50, 100, 127] {
        must_be_malformed(kit, "an unknown variant", &[variant])?;
        must_be_malformed(kit, "an unknown variant", &[variant, 0, 0, 0, 0, 0, 0, 0])?;
    }
    must_be_malformed(kit, "a variant beyond 32 bits", &[0xff, 0xff, 0xff, 0xff, 0x7f])?;
    must_be_malformed(kit, "an unknown space", &[2, 2, 1])?;
    must_be_malformed(kit, "an unknown tracking", &[7, 0, 0x80, 2, 2])?;
    must_be_malformed(kit, "a slot number beyond 16 bits", &[2, 0, 0x80, 0x80, 0x04])?;
    must_be_malformed(kit, "a slot number of four bytes", &[2, 0, 0x81, 0x80, 0x80, 0x00])?;
    let beyond = [[8].as_slice(), &[0xff; 9], &[0x02]].concat();
    must_be_malformed(kit, "an address beyond 64 bits", &beyond)?;
    must_be_malformed(kit, "a number without an end", &[[8].as_slice(), &[0x80; 40]].concat())?;
    for request in one_of_each() {
        let longer = [bytes_of(&request), vec![0]].concat();
        must_be_malformed(kit, "a byte too many", &longer)?;
    }
    must_be_malformed(kit, "a policy that is no text", &[11, 2, 0xc3, 0x28])?;
    let long = [&[11, 0xc9, 0x01][..], &[b'a'; 201]].concat();
    must_be_malformed(kit, "a policy of 201 bytes", &long)?;
    must_be_malformed(kit, "an unknown topic", &[10, 4, 0])?;
    must_be_malformed(kit, "a line beyond 16 bits", &[10, 1, 0x80, 0x80, 0x04])?;
    for len in [257, 1000, 4096] {
        let mut long = bytes_of(&SlotRequest::Stats);
        long.resize(len, 0);
        must_be_malformed(kit, "a request that is too long", &long)?;
        must_be_malformed(kit, "noise", &vec![0xa5; len])?;
    }
    kit.read(GUEST, 0x100).context("P23: after all that")?;
    done(kit, 0, &SlotRequest::Create(ram(9, 0x1000, 4))).context("P23: nothing of it was done")
}

fn truncated(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    for request in one_of_each() {
        let bytes = bytes_of(&request);
        for len in 1..bytes.len() {
            must_be_malformed(kit, "a request cut short", &bytes[..len])?;
        }
    }
    Ok(())
}

/// Delete of a slot that is not there, its number and its variant in more bytes than they need.
fn long_numbers(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)])?;
    for bytes in [&[2, 0, 0x85, 0][..], &[2, 0, 0x85, 0x80, 0], &[0x82, 0, 0, 5], &[0x82, 0x80, 0x80, 0x80, 0, 0, 5]] {
        let reply = kit.ask_bytes(0, bytes)?;
        let wanted = SlotReply::Refused(SlotRefused::NoSuchSlot);
        ensure!(reply == wanted, "P23: {bytes:02x?} is Delete of slot 5: {reply:?}");
    }
    Ok(())
}

fn replies(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 16)]).context("P39")?;
    for request in one_of_each() {
        kit.request(0, &request).context("P39")?;
    }
    if kit.features.contains(ipc_proto::lifecycle::Features::DIRTY_LOG) {
        // The longest reply: 1024 pages, all dirty, far out.
        done(kit, 0, &SlotRequest::Create(super::slot(2, 0x1000, 1024, SlotFlags::LOG_DIRTY_PAGES)))?;
        for n in 0..1024 {
            kit.write(GUEST, 0x1000 + n, 0, 1)?;
        }
        let reply = kit.request(0, &SlotRequest::DirtyLog(NORMAL, SlotId(2), 0))?;
        ensure!(
            matches!(reply, SlotReply::Dirty(pages) if pages.bits == [u64::MAX; 16]),
            "P39: 1024 dirty pages in one reply: {reply:?}"
        );
    }
    Ok(())
}
