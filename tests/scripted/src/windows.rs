//! What the VM's server sees of its memory.

use crate::desk::{Access, Desk, PAGE, same, with};
use ipc_proto::fault::{FaultReply, Origin, Qualification};
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;

const GPA: u64 = PAGE << 12;

/// Tries them.
pub fn try_all(desk: &mut Desk) {
    desk.case("window::a_first_access_is_asked", |desk| {
        rt::frame(desk.free).set_word(2, 0x5566_7788);
        desk.let_window(GPA + 8, Access::Read);
        let fault = desk.fault()?;
        same((fault.origin, fault.vcpu, fault.gpa.0), (Origin::Window, 0, GPA + 8))?;
        same(fault.qualification & Qualification::READ.union(Qualification::WRITE), Qualification::READ)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.1[0], 0x5566_7788)
    });
    desk.case("window::what_is_granted_is_shown_unasked", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.let_window(GPA, Access::Read);
        same(desk.called()?.0, 0)?;
        desk.let_window(GPA, Access::Write(0xabcd));
        same(desk.called()?.0, 0)?;
        same(rt::frame(desk.free).word(0), 0xabcd)
    });
    desk.case("window::a_write_needs_the_granted_right", |desk| {
        same(desk.map(0, with(desk.claim(), 12, 3, 1)).is_ok(), true)?;
        desk.let_window(GPA, Access::Read);
        same(desk.called()?.0, 0)?;
        desk.let_window(GPA, Access::Write(1));
        let fault = desk.fault()?;
        same((fault.origin, fault.qualification.contains(Qualification::WRITE)), (Origin::Window, true))?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
    desk.case("window::unmap_hides", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.let_window(GPA, Access::Read);
        same(desk.called()?.0, 0)?;
        same(desk.op(MemOp::Unmap, PAGE, 1, 0).map(|words| words[0]), Ok(1))?;
        desk.let_window(GPA, Access::Read);
        same(desk.fault()?.origin, Origin::Window)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
    desk.case("window::protect_takes_the_right", |desk| {
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.let_window(GPA, Access::Write(5));
        same(desk.called()?.0, 0)?;
        same(desk.op(MemOp::Protect, PAGE, 1, 1).map(|words| words[0]), Ok(1))?;
        desk.let_window(GPA, Access::Write(6));
        same(desk.fault()?.origin, Origin::Window)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
    desk.case("window::a_page_of_the_guest_alone_is_not_shown", |desk| {
        rt::frame(desk.free).set_word(0, 0x5ec2_e700);
        same(desk.map(0, with(desk.claim(), 18, 1, 1)).map(|words| words[0]), Ok(1))?;
        desk.touch(GPA, Access::Read);
        same(desk.exit()?.1 & 0xffff_ffff, 0x5ec2_e700)?;
        desk.let_window(GPA, Access::Read);
        same(desk.fault()?.origin, Origin::Window)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.1[0], 0x5ec2_e700)?;
        // It is shown now, and is not when it is the guest's alone again.
        same(desk.map(0, with(desk.claim(), 18, 1, 1)).map(|words| words[0]), Ok(0))?;
        desk.let_window(GPA, Access::Read);
        same(desk.fault()?.origin, Origin::Window)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
    desk.case("window::what_a_grant_replaces_is_hidden", |desk| {
        rt::frame(desk.free).set_word(0, 1);
        rt::frame(desk.free + 1).set_word(0, 2);
        same(desk.map(0, desk.claim()).is_ok(), true)?;
        desk.let_window(GPA, Access::Write(7));
        same(desk.called()?.0, 0)?;
        let other = ClaimedGrant { pfn: desk.free + 1, ..with(desk.claim(), 12, 3, 1) };
        same(desk.map(0, other).map(|words| words[0]), Ok(0))?;
        desk.let_window(GPA, Access::Read);
        same(desk.called()?.1[0], 2)?;
        desk.let_window(GPA, Access::Write(8));
        same(desk.fault()?.origin, Origin::Window)?;
        same((rt::frame(desk.free).word(0), rt::frame(desk.free + 1).word(0)), (7, 2))?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
    desk.case("window::pending_is_refused", |desk| {
        desk.let_window(GPA, Access::Read);
        desk.fault()?;
        desk.answer(&FaultReply::Pending(1));
        same(desk.refusal()?.1, Refused::UnknownVariant)?;
        desk.answer_claim(desk.claim(), 0, Default::default());
        same(desk.called()?.0, 0)
    });
}
