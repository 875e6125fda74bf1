//! Every case, and what cases share.

mod answering;
mod authors;
mod changes;
mod dirty;
mod faults;
mod grants;
mod greeting;
mod handover;
mod life;
mod limits;
mod memory;
mod more;
mod random;
mod requests;
mod slots;

use crate::case::Case;
use crate::kit::Kit;
use crate::setup::Setup;
use anyhow::ensure;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};

/// Every case, in the order in which they are run.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        answering::CASES,
        greeting::CASES,
        requests::CASES,
        slots::CASES,
        faults::CASES,
        memory::CASES,
        grants::CASES,
        changes::CASES,
        dirty::CASES,
        more::CASES,
        limits::CASES,
        life::CASES,
        handover::CASES,
        authors::CASES,
        random::CASES,
    ]
    .concat()
}

/// A slot of the normal space.
const fn slot(id: u16, base: u64, pages: u64, flags: SlotFlags) -> Slot {
    Slot { id: SlotId(id), space: Space::Normal, base: Gfn(base), pages, flags }
}

/// A slot without flags.
const fn ram(id: u16, base: u64, pages: u64) -> Slot {
    slot(id, base, pages, SlotFlags::empty())
}

/// Asks a request that must be done.
fn done(kit: &mut Kit, vm: u8, request: &SlotRequest) -> anyhow::Result<()> {
    let reply = kit.request(vm, request)?;
    ensure!(reply == SlotReply::Done, "{request:?} must be done: {reply:?}");
    Ok(())
}

/// Boots a system with twice the frames: most cases do with fewer, and each frame is filled for each of them.
fn with_more_frames(kit: &mut Kit) -> anyhow::Result<()> {
    let setup = Setup { frames: 2 * kit.setup.frames, ..kit.setup.clone() };
    kit.reboot(&setup)
}

/// Greets VM 0's pager and creates slots there.
fn with(kit: &mut Kit, slots: &[Slot]) -> anyhow::Result<()> {
    kit.hello(0)?;
    slots.iter().try_for_each(|slot| done(kit, 0, &SlotRequest::Create(*slot)))
}

/// Asks a request that must be refused so.
fn refused(kit: &mut Kit, vm: u8, request: &SlotRequest, why: SlotRefused) -> anyhow::Result<()> {
    let reply = kit.request(vm, request)?;
    ensure!(reply == SlotReply::Refused(why), "{request:?} must be refused with {why:?}: {reply:?}");
    Ok(())
}

/// Deletes a slot of VM 0.
const fn delete(id: u16) -> SlotRequest {
    SlotRequest::Delete(Space::Normal, SlotId(id))
}

/// Gives a slot of VM 0 other flags.
const fn set_flags(id: u16, flags: SlotFlags) -> SlotRequest {
    SlotRequest::SetFlags(Space::Normal, SlotId(id), flags)
}
