//! Receiving and answering.

use super::{ram, with};
use crate::case::Case;
use crate::kernel::{Question, Reply};
use crate::kit::{GUEST, Kit, WINDOW, Who};
use crate::setup::{VCPUS, VMS};
use anyhow::{Context, ensure};
use ipc_proto::call::notice;
use ipc_proto::fault::{FaultKind, FaultReply, TopUp};
use ipc_proto::grant::Rights;
use ipc_proto::refused::DenyReason;
use ipc_proto::words::Words;

pub const CASES: &[Case] = &[
    Case { name: "start::it_receives_before_it_answers", checks: &["P1"], run: starts },
    Case { name: "answer::each_message_is_answered_once", checks: &["P2"], run: answers },
    Case { name: "answer::a_notice_is_not_answered", checks: &["P3"], run: notices },
    Case { name: "answer::a_refusal_is_not_answered", checks: &["P3"], run: not_asked },
    Case { name: "answer::what_it_does_not_know_it_denies", checks: &["P4"], run: unknown },
    Case { name: "call::none_is_refused", checks: &["P38"], run: calls },
];

const READ: Rights = Rights::READ;

/// Booting has seen the first call; a second system shows that this was no luck.
fn starts(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = kit.setup.clone();
    kit.reboot(&setup)
}

fn answers(kit: &mut Kit) -> anyhow::Result<()> {
    let told = "P2: a message is answered, whatever was asked before";
    with(kit, &[ram(1, 0x100, 64)]).context(told)?;
    for n in 0..16 {
        kit.write(GUEST, 0x100 + n, 0, n + 1).context(told)?;
        kit.touch(GUEST, 0x1000 + n, READ).context(told)?;
        kit.request(0, &ipc_proto::slot::SlotRequest::Why(ipc_proto::grant::Gpa(n << 12))).context(told)?;
    }
    Ok(())
}

fn notices(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    for bits in [notice::TIMER, notice::TASK_STOPPED, 1 << 40, 0] {
        kit.kernel.ask(&Question::Notice(bits))?;
        kit.write(GUEST, 0x100, 8, bits)?;
    }
    Ok(())
}

/// What it says then was not asked for either: it would be told so for ever.
fn not_asked(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    for n in 0..3 {
        kit.kernel.ask(&Question::NotAsked).context("P3: NotAsked")?;
        kit.write(GUEST, 0x100, 8, n)?;
    }
    Ok(())
}

fn unknown(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0x100, 64)])?;
    let denied = FaultReply::Deny(DenyReason::Internal).to_words(TopUp { first: 0, count: 0 });
    let fault = kit.fault_at(GUEST, 0x100 << 12, READ, FaultKind::Violation);
    let head = |place: u32, value: u64, mask: u64| {
        let mut words: Words = fault.to_words();
        words[0] = words[0] & !(mask << place) | value << place;
        words
    };
    let strange = [
        ("kind 3", head(56, 3, 0xff)),
        ("kind 255", head(56, 255, 0xff)),
        ("origin 2", head(48, 2, 0xff)),
        ("origin 255", head(48, 255, 0xff)),
        ("vCPU 4", head(0, u64::from(VCPUS), 0xffff)),
        ("vCPU 65535", head(0, 65535, 0xffff)),
        ("VM 2", head(16, u64::from(VMS), 0xffff)),
        ("VM 7", head(16, 7, 0xffff)),
        ("VM 8", head(16, 8, 0xffff)),
        ("VM 65535", head(16, 65535, 0xffff)),
    ];
    let questions = strange.map(|(what, words)| (what, Question::Fault(words)));
    let statuses = [9, u64::MAX].map(|status| ("an unknown status", Question::Unknown(status)));
    for (what, question) in questions.iter().chain(&statuses) {
        let answer = kit.kernel.ask(question).with_context(|| format!("P4: {what}"))?;
        // Table frames may come with any answer.
        ensure!(answer.words[..4] == denied[..4], "P4: {what} must be answered by Deny(Internal): {:x?}", answer.words);
        let reply = kit.kernel.answered(0, false, &answer);
        ensure!(reply == Ok(Reply::Denied(DenyReason::Internal)), "P4: {what}: {reply:?}");
        kit.read(GUEST, 0x100).with_context(|| format!("P4: after {what}"))?;
    }
    Ok(())
}

/// All kinds of messages: what is wrong with the calls that they lead to ends the case at once.
fn calls(kit: &mut Kit) -> anyhow::Result<()> {
    with(kit, &[ram(1, 0, 700), ram(2, 0x1000, 16)])?;
    for n in 0..700 {
        kit.write(Who { vcpu: (n % 4) as u16, ..GUEST }, n, 16, n)?;
    }
    for n in 0..16 {
        kit.read(WINDOW, 0x1000 + n)?;
    }
    kit.request(0, &ipc_proto::slot::SlotRequest::Stats)?;
    kit.request(0, &super::delete(1))?;
    Ok(())
}
