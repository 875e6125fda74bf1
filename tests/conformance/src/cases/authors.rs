//! What authors of pagers get wrong: each case is for mistakes that one has made.

use super::{delete, done, ram, refused, slot, with};
use crate::case::Case;
use crate::kernel::Question;
use crate::kit::{GUEST, Kit, WINDOW, Who};
use crate::setup::Setup;
use anyhow::{Context, ensure};
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Gfn, Rights};

use ipc_proto::lifecycle::Features;
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use ukernel::ept::pages;

pub const CASES: &[Case] = &[
    Case { name: "request::numbers_are_read_to_their_last_bit", checks: &["P23", "P24", "P26"], run: numbers },
    Case { name: "request::a_text_is_utf8", checks: &["P23"], run: texts },
    Case { name: "dirty::neighbours_are_noted_one_by_one", checks: &["P30", "P31"], run: neighbours },
    Case { name: "dirty::one_page_is_found_wherever_it_lies", checks: &["P30"], run: alone },
    Case { name: "types::no_large_page_lies_over_fixed_ranges", checks: &["P34"], run: fixed },
    Case { name: "tables::a_window_needs_as_many_again", checks: &["P16"], run: window },
    Case { name: "limits::a_thousand_slots_come_and_go", checks: &["P37"], run: churn },
    Case { name: "request::what_the_kernel_refuses_is_told", checks: &["P50"], run: passed_on },
    Case { name: "vm::one_that_is_over_is_taken_back", checks: &["P49"], run: over },
];

/// 64 bits, and 32 of them: more than the guest has.
fn numbers(kit: &mut Kit) -> anyhow::Result<()> {
    const FAR: u64 = 1 << 32;
    with(kit, &[ram(1, 0x100, 16)])?;
    kit.write(GUEST, 0x100, 0, 1)?;
    let told = "P24: numbers have 64 bits";
    refused(kit, 0, &SlotRequest::Create(ram(2, FAR | 0x200, 16)), SlotRefused::BeyondGuest).context(told)?;
    refused(kit, 0, &SlotRequest::Create(ram(2, 0x200, FAR | 16)), SlotRefused::BadSize).context(told)?;
    let there = SlotRequest::Move(Space::Normal, SlotId(1), Gfn(FAR | 0x300));
    refused(kit, 0, &there, SlotRefused::BeyondGuest).context("P26: numbers have 64 bits")?;
    let track = SlotRequest::Track(Space::Normal, Gfn(FAR | 0x100), Tracking::On);
    refused(kit, 0, &track, SlotRefused::NoSuchSlot).context("P23: numbers have 64 bits")?;
    // SetFlags and MemoryType with a number that does not fit into 32 bits, and whose low bits would do.
    let beyond: [&[u8]; 2] = [&[4, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x10], &[9, 0xff, 0x85, 0x80, 0x80, 0x10, 0]];
    for bytes in beyond {
        let reply = kit.ask_bytes(0, bytes)?;
        let wanted = SlotReply::Refused(SlotRefused::Malformed);
        ensure!(reply == wanted, "P23: {bytes:02x?} has a number beyond 32 bits: {reply:?}");
    }
    kit.read(GUEST, 0x100)
}

fn texts(kit: &mut Kit) -> anyhow::Result<()> {
    kit.hello(0)?;
    let bad: [&[u8]; 9] = [
        &[0xed, 0xa0, 0x80],       // a surrogate
        &[0xc0, 0x80],             // more bytes than it needs
        &[0xe0, 0x80, 0x80],       // likewise
        &[0xf0, 0x80, 0x80, 0x80], // likewise
        &[0xf4, 0x90, 0x80, 0x80], // beyond Unicode
        &[0xf8, 0x88, 0x80, 0x80], // no first byte
        &[0x80],                   // nor this
        &[b'a', 0xe2, 0x82],       // cut short
        &[0xe2, 0x28, 0xa1],       // no second byte
    ];
    let good: [&[u8]; 5] = [b"none", "é".as_bytes(), "€".as_bytes(), "😀".as_bytes(), &[0xef, 0xbf, 0xbf]];
    let refusals = [SlotRefused::Malformed, SlotRefused::UnknownPolicy];
    let all = bad.iter().map(|text| (text, refusals[0])).chain(good.iter().map(|text| (text, refusals[1])));
    for (text, wanted) in all {
        // Its length is one byte.
        let reply = kit.ask_bytes(0, &[&[11, text.len() as u8], *text].concat())?;
        ensure!(reply == SlotReply::Refused(wanted), "P23: Policy of {text:02x?}: {reply:?}");
    }
    Ok(())
}

/// Whether the pager has a dirty log.
fn logs(kit: &mut Kit) -> anyhow::Result<bool> {
    Ok(kit.hello(0)?.features.contains(Features::DIRTY_LOG))
}

/// The pages that are told of slot `id`, asked for from its beginning.
fn told(kit: &mut Kit, id: u16) -> anyhow::Result<Vec<u64>> {
    match kit.request(0, &SlotRequest::DirtyLog(Space::Normal, SlotId(id), 0))? {
        SlotReply::Dirty(pages) => {
            let set = |n: &u64| pages.bits[(n / 64) as usize] >> (n % 64) & 1 == 1;
            Ok((0..1024).filter(set).map(|n| pages.first + n).collect())
        }
        SlotReply::Done => Ok(Vec::new()),
        other => anyhow::bail!("P30: DirtyLog of slot {id}: {other:?}"),
    }
}

/// A run of pages is mapped at once; each of them is written for itself.
fn neighbours(kit: &mut Kit) -> anyhow::Result<()> {
    const PAGES: u64 = 48;
    if !logs(kit)? {
        return Ok(());
    }
    let orders: [fn(u64) -> u64; 2] = [|n| n, |n| PAGES - 1 - n];
    for (id, order) in (1..).zip(orders) {
        let base = 0x200 * u64::from(id);
        done(kit, 0, &SlotRequest::Create(slot(id, base, PAGES, SlotFlags::LOG_DIRTY_PAGES)))?;
        (0..PAGES).try_for_each(|n| kit.read(GUEST, base + order(n)))?;
        // Nothing is mapped any more: what is next is granted with what lies beside it.
        done(kit, 0, &SlotRequest::Move(Space::Normal, SlotId(id), Gfn(base + 64)))?;
        for (n, count) in (0..PAGES).map(|n| (n, 1)).chain((0..PAGES - 2).map(|n| (n, 3))) {
            let written: Vec<u64> = (n..n + count).collect();
            written.iter().try_for_each(|page| kit.write(GUEST, base + 64 + page, 0, n + count))?;
            let pages = told(kit, id)?;
            ensure!(pages == written, "P30, P31: of {PAGES} pages {written:?} were written, and told is {pages:?}");
        }
    }
    Ok(())
}

/// A slot of which nothing else is there.
fn alone(kit: &mut Kit) -> anyhow::Result<()> {
    if !logs(kit)? {
        return Ok(());
    }
    let setup = Setup { frames: 12_288, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    kit.hello(0)?;
    for n in [63, 64, 511, 512, 513, 1023, 1024, 1536, 2047, 2048, 4096, 5199] {
        done(kit, 0, &SlotRequest::Create(slot(1, 0x1_0000, 5200, SlotFlags::LOG_DIRTY_PAGES)))?;
        kit.write(GUEST, 0x1_0000 + n, 0, 1)?;
        let pages = told(kit, 1)?;
        ensure!(pages == [n], "P30: page {n} was written, and told is {pages:?}");
        done(kit, 0, &delete(1))?;
    }
    Ok(())
}

/// The first megabyte has ranges of its own, of 64 KiB and less, when the default type's register switches them on.
fn fixed(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0, 1024)])?;
    kit.write(GUEST, 0, 0, 1)?;
    for (register, value) in [(0x250, 0x0606_0606_0606_0606), (0x259, 0), (0x2ff, 0xc06)] {
        done(kit, 0, &SlotRequest::MemoryType(register, value)).context("P34")?;
    }
    for gfn in [0, 0x9f, 0xa0, 0xbf, 0xc0, 0x1ff] {
        kit.write(GUEST, gfn, 8, gfn + 1).context("P34")?;
    }
    for (first, place, _) in kit.kernel.vms[0].leaves(0, 512, &kit.kernel.ledger) {
        let size = pages(place.level);
        ensure!(size == 1, "P34: {size} frames from gfn {first:#x} are one page over fixed ranges of two types");
    }
    Ok(())
}

/// Neither the guest nor the window has a table there yet, and the pool has fewer frames than both can need.
fn window(kit: &mut Kit) -> anyhow::Result<()> {
    const BASE: u64 = 0x1_0000;
    for left in 0..6 {
        let setup = Setup { tables: left, ..kit.setup.clone() };
        kit.reboot(&setup)?;
        with(kit, &[ram(1, BASE, 4)])?;
        let fault = kit.fault_at(WINDOW, BASE << 12, Rights::READ, FaultKind::Violation);
        let before = kit.kernel.ledger.given.len();
        let reply = kit.fault(&fault).with_context(|| format!("P16: a window, and {left} table frames are left"))?;
        let brought = kit.kernel.ledger.given.len() > before;
        ensure!(brought, "P16: a window asks, {left} table frames are left, and {reply:?} comes without any");
        kit.read(WINDOW, BASE).with_context(|| format!("P16: {left} table frames were left"))?;
    }
    Ok(())
}

/// Each slot needs a few frames for what the pager notes about it, and has them no more when it is gone.
fn churn(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { frames: 1200, tables: 32, ..kit.setup.clone() };
    kit.reboot(&setup)?;
    kit.hello(0)?;
    for n in 0..1300u64 {
        let base = 0x800 + n % 5 * 0x333;
        let made = SlotRequest::Create(ram(1, base, 520));
        done(kit, 0, &made).with_context(|| format!("P37: slot number {n} of its kind"))?;
        kit.write(GUEST, base + n % 520, 0, 1).with_context(|| format!("P37: slot number {n} of its kind"))?;
        done(kit, 0, &delete(1)).with_context(|| format!("P37: slot number {n} of its kind"))?;
    }
    Ok(())
}

/// The server of VM 1 has stopped. It is told more than once, as happens when another VM is over later.
fn over(kit: &mut Kit) -> anyhow::Result<()> {
    let other = Who { vm: 1, ..GUEST };
    let told = "P49: VM 1 is over";
    with(kit, &[ram(1, 0x100, 64)])?;
    kit.hello(1)?;
    let smm = Slot { space: Space::Smm, ..ram(1, 0x100, 8) };
    for made in [ram(1, 0x100, 64), slot(2, 0x400, 8, SlotFlags::PRIVATE), smm] {
        done(kit, 1, &SlotRequest::Create(made))?;
    }
    for n in 0..64 {
        kit.write(GUEST, 0x100 + n, 0, n + 1)?;
        kit.write(other, 0x100 + n, 0, n + 2)?;
    }
    kit.touch(other, 0x402, Rights::WRITE)?;
    let mapped = kit.kernel.vms[0].mapped;
    for _ in 0..2 {
        kit.kernel.ask(&Question::Over(1)).context(told)?;
        kit.models[1] = crate::model::Model::default();
        let left = kit.kernel.vms[1].leaves(0, kit.kernel.vms[1].frames(), &kit.kernel.ledger).len();
        ensure!(left == 0, "{told}, and has {left} pages mapped still");
        ensure!(kit.kernel.vms[0].mapped == mapped, "{told}: and what VM 0 has mapped has changed");
        kit.check().context(told)?;
    }
    (0..64).try_for_each(|n| kit.read(GUEST, 0x100 + n)).context(told)
}

/// No kernel has a reason for these; a later one may have its own.
fn passed_on(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    (0..64).try_for_each(|n| kit.write(GUEST, 0x100 + n, 0, n + 1))?;
    let requests = [
        delete(1),
        SlotRequest::Move(Space::Normal, SlotId(1), Gfn(0x1000)),
        super::set_flags(1, SlotFlags::READONLY),
        SlotRequest::Track(Space::Normal, Gfn(0x110), Tracking::On),
    ];
    let reasons =
        [Refused::Unreachable, Refused::BadCount, Refused::UnknownToken, Refused::Unanswered, Refused::BadState];
    for (request, why) in requests.iter().zip(reasons).chain([(&requests[0], Refused::BadState)]) {
        kit.kernel.refuses = Some(why);
        let reply = kit.request(0, request).context("P50")?;
        kit.kernel.refuses = None;
        let told = SlotReply::Refused(SlotRefused::Kernel(why));
        ensure!(reply == told, "P50: the kernel refuses everything with {why:?}, and {request:?} is {reply:?}");
        for n in 0..64 {
            kit.read(GUEST, 0x100 + n).context("P50: what is refused has changed nothing")?;
            kit.write(GUEST, 0x100 + n, 8, n + 1).context("P50: what is refused has changed nothing")?;
        }
    }
    done(kit, 0, &delete(1)).context("P50: the kernel refuses nothing any more")
}
