//! The control messages: what a VM's server asks about its slots.
//!
//! A slot that is changed under a running guest goes through the steps that KVM's `kvm_set_memory_region` has:
//! checked, marked invalid, unmapped or protected in the kernel (which advances `mmu_seq`, so that no reply on its way
//! can map the old frame), changed, and only then are frames used again.

use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots, State, check_flags, rights};
use crate::pool::Pool;
use crate::serve::{Greeted, Pager, VmMemory};
use crate::stats::report;
use crate::store::Tree;
use ipc_proto::grant::Gfn;
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space};
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;

/// The longest request and the longest reply, in bytes of postcard.
pub const MESSAGE: usize = 64;

impl Pager {
    /// Answers the request in `bytes`, of VM `vm`'s server: writes the reply there and says how long it is.
    pub fn request<M: Memory + Kernel>(
        &mut self,
        vm: usize,
        request: &[u8],
        reply: &mut [u8; MESSAGE],
        machine: &mut M,
    ) -> usize {
        let answer = match wire::decode(request) {
            Ok(request) => self.control(vm, request, machine),
            Err(_) => SlotReply::Refused(SlotRefused::Malformed),
        };
        if let SlotReply::Refused(why) = answer {
            log::warn!("vm {vm}: a slot request is refused: {why:?}");
        }
        // Every reply is shorter than `MESSAGE`; a test encodes the longest. An empty one is malformed.
        wire::encode(&answer, reply).unwrap_or(0)
    }

    /// Does what the request asks.
    pub fn control<M: Memory + Kernel>(&mut self, vm: usize, request: SlotRequest, machine: &mut M) -> SlotReply {
        let Self { pool, vms, .. } = self;
        let Some(memory) = vms.get_mut(vm) else {
            return SlotReply::Refused(SlotRefused::NoHello);
        };
        let done = match request {
            SlotRequest::Hello(hello) => return greet(memory, hello),
            _ if memory.greeted == Greeted::No => Err(SlotRefused::NoHello),
            SlotRequest::Create(slot) => create(&mut memory.slots, pool, &slot),
            SlotRequest::Delete(space, id) => delete(vm, &mut memory.slots, (space, id), pool, machine),
            SlotRequest::Move(space, id, base) => relocate(vm, &mut memory.slots, (space, id), base, machine),
            SlotRequest::SetFlags(space, id, flags) => set_flags(vm, &mut memory.slots, (space, id), flags, machine),
            SlotRequest::Stats => {
                report(vm, &memory.vcpus, &memory.stats, pool.left(), machine);
                Ok(())
            }
        };
        match done {
            Ok(()) => {
                memory.stats.slot_requests += 1;
                SlotReply::Done
            }
            Err(why) => {
                memory.stats.slot_refusals += 1;
                SlotReply::Refused(why)
            }
        }
    }
}

fn greet(memory: &mut VmMemory, hello: Hello) -> SlotReply {
    if !PROTOCOL.understands(hello.version) {
        return SlotReply::Refused(SlotRefused::Version);
    }
    memory.greeted = Greeted::Yes;
    SlotReply::Hello(Hello { version: PROTOCOL, features: Features::empty() })
}

fn create(slots: &mut MemSlots, pool: &mut Pool, slot: &Slot) -> Result<(), SlotRefused> {
    slots.check_create(slot)?;
    let frames = Tree::frames_for(slot.pages);
    if !pool.promise(frames) {
        return Err(SlotRefused::OutOfMemory);
    }
    slots.create(slot).inspect_err(|_| pool.unpromise(frames))
}

fn delete<M: Memory + Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    pool: &mut Pool,
    machine: &mut M,
) -> Result<(), SlotRefused> {
    zap(vm, slots, (space, id), machine)?;
    let mut slot = slots.remove(space, id)?;
    slot.tree.clear(pool, machine);
    pool.unpromise(Tree::frames_for(slot.pages()));
    Ok(())
}

fn relocate<M: Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    base: Gfn,
    kernel: &mut M,
) -> Result<(), SlotRefused> {
    slots.check_move(space, id, base)?;
    zap(vm, slots, (space, id), kernel)?;
    slots.relocate(space, id, base)?;
    slots.set_state(space, id, State::Valid)
}

/// Fewer rights are taken away at once; more come with the next fault of each page.
fn set_flags<M: Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    flags: SlotFlags,
    kernel: &mut M,
) -> Result<(), SlotRefused> {
    check_flags(flags)?;
    let gained = flags.difference(slots.slot_mut(space, id)?.flags());
    if gained.contains(SlotFlags::PRIVATE) {
        // The window must lose it: the guest faults it back.
        zap(vm, slots, (space, id), kernel)?;
    } else if gained.contains(SlotFlags::READONLY) {
        change_mapped(vm, slots, (space, id), |vm, slot| kernel.protect(vm, slot.base(), slot.pages(), rights(flags)))?;
    }
    slots.set_flags(space, id, flags)?;
    slots.set_state(space, id, State::Valid)
}

/// Nothing of the slot is mapped any more; it is left invalid.
fn zap<M: Kernel>(vm: usize, slots: &mut MemSlots, slot: (Space, SlotId), kernel: &mut M) -> Result<(), SlotRefused> {
    change_mapped(vm, slots, slot, |vm, slot| kernel.unmap(vm, slot.base(), slot.pages()))
}

/// Marks the slot invalid and changes what the kernel has mapped of it. When the kernel refuses, the slot is as before.
/// A slot of the SMM space is never mapped: no fault asks for it.
fn change_mapped(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    change: impl FnOnce(usize, &MemSlot) -> Result<u64, Refused>,
) -> Result<(), SlotRefused> {
    slots.set_state(space, id, State::Invalid)?;
    let changed = match space {
        Space::Normal => change(vm, slots.slot_mut(space, id)?),
        Space::Smm => Ok(0),
    };
    match changed {
        Ok(_) => Ok(()),
        Err(refused) => {
            slots.set_state(space, id, State::Valid)?;
            Err(SlotRefused::Kernel(refused))
        }
    }
}

#[cfg(test)]
mod tests;
