//! The control messages: what a VM's server asks about its slots.
//!
//! A slot that is changed under a running guest goes through the steps that KVM's `kvm_set_memory_region` has:
//! checked, marked invalid, unmapped or protected in the kernel (which advances `mmu_seq`, so that no reply on its way
//! can map the old frame), changed, and only then are frames used again.

use crate::dirty;
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots, State, check_flags, rights};
use crate::policy::Populate;
use crate::pool::Pool;
use crate::serve::{Greeted, Pager, VmMemory};
use crate::stats::report;
use crate::store::{Note, Tree};
use crate::tdp::Mmu;
use crate::why;
use ipc_proto::grant::{Gfn, Level, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotRefused, SlotReply, SlotRequest, Space, Tracking};
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;

/// The longest request, in bytes of postcard.
pub const MESSAGE: usize = 64;
/// The longest reply, in bytes of postcard.
pub const REPLY: usize = 256;

impl Pager {
    /// Answers the request in `bytes`, of VM `vm`'s server: writes the reply there and says how long it is.
    pub fn request<M: Memory + Kernel>(
        &mut self,
        vm: usize,
        request: &[u8],
        reply: &mut [u8; REPLY],
        machine: &mut M,
    ) -> usize {
        let answer = match wire::decode(request) {
            Ok(request) => self.control(vm, request, machine),
            Err(_) => SlotReply::Refused(SlotRefused::Malformed),
        };
        if let SlotReply::Refused(why) = answer {
            log::warn!("vm {vm}: a slot request is refused: {why:?}");
        }
        // Every reply is shorter than `REPLY`; a test encodes the longest. An empty one is malformed.
        wire::encode(&answer, reply).unwrap_or(0)
    }

    /// Does what the request asks.
    pub fn control<M: Memory + Kernel>(&mut self, vm: usize, request: SlotRequest, machine: &mut M) -> SlotReply {
        let Some(memory) = self.vms.get_mut(vm) else {
            return SlotReply::Refused(SlotRefused::NoHello);
        };
        if let SlotRequest::Hello(hello) = request {
            return greet(memory, hello);
        }
        if memory.greeted == Greeted::No {
            return SlotReply::Refused(SlotRefused::NoHello);
        }
        let done = self.perform(vm, request, machine);
        let Some(memory) = self.vms.get_mut(vm) else { return SlotReply::Done };
        match done {
            Ok(reply) => {
                memory.stats.slot_requests += 1;
                reply
            }
            Err(why) => {
                memory.stats.slot_refusals += 1;
                SlotReply::Refused(why)
            }
        }
    }

    fn perform<M: Memory + Kernel>(
        &mut self,
        vm: usize,
        request: SlotRequest,
        machine: &mut M,
    ) -> Result<SlotReply, SlotRefused> {
        let Self { pool, vms, policy, first_pfn } = self;
        let memory = vms.get_mut(vm).ok_or(SlotRefused::NoHello)?;
        let VmMemory { slots, stats: counts, mtrrs, history, vcpus, .. } = memory;
        match request {
            SlotRequest::Hello(_) => {}
            SlotRequest::Create(slot) => {
                create(slots, pool, &slot)?;
                if policy.populate(&slot) == Populate::All && slot.space == Space::Normal {
                    let slot = slots.slot_mut(slot.space, slot.id)?;
                    Mmu { vm, pool, first_pfn: *first_pfn, mtrrs, counts, machine }.populate(slot);
                }
            }
            SlotRequest::Delete(space, id) => delete(vm, slots, (space, id), pool, machine)?,
            SlotRequest::Move(space, id, base) => relocate(vm, slots, (space, id), base, machine)?,
            SlotRequest::SetFlags(space, id, flags) => {
                counts.collapses += set_flags(vm, slots, (space, id), flags, (pool, machine))?;
            }
            SlotRequest::Stats => report(vm, vcpus, counts, pool.left(), machine),
            SlotRequest::DirtyLog(space, id, from) => {
                let slot = slots.slot_mut(space, id)?;
                if let Some(pages) = dirty::get_and_clear(vm, space, slot, from, machine)? {
                    counts.dirty_pages += pages.bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                    return Ok(SlotReply::Dirty(pages));
                }
            }
            SlotRequest::Track(space, gfn, tracking) => track(vm, slots, (space, gfn), tracking, (pool, machine))?,
            SlotRequest::Why(gpa) => why::explain(vm, slots, history, (gpa, *first_pfn), machine),
            SlotRequest::MemoryType(register, value) => {
                mtrrs.write(register, value).map_err(|_| SlotRefused::UnknownRegister)?;
                if counts.large_pages > 0 {
                    // What is mapped large may have become mixed: it is faulted back as it must be.
                    zap_all(vm, slots, machine)?;
                }
            }
        }
        Ok(SlotReply::Done)
    }
}

fn greet(memory: &mut VmMemory, hello: Hello) -> SlotReply {
    if !PROTOCOL.understands(hello.version) {
        return SlotReply::Refused(SlotRefused::Version);
    }
    memory.greeted = Greeted::Yes;
    SlotReply::Hello(Hello { version: PROTOCOL, features: Features::DIRTY_LOG | Features::LARGE_PAGES })
}

fn create(slots: &mut MemSlots, pool: &mut Pool, slot: &Slot) -> Result<(), SlotRefused> {
    slots.check_create(slot)?;
    let frames = Tree::frames_for(slot.base.0, slot.pages);
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
    pool.unpromise(Tree::frames_for(slot.tree.skew(), slot.pages()));
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

/// Fewer rights are taken away at once; more come with the next fault of each page. Says how many large pages were made
/// of small ones.
fn set_flags<M: Memory + Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    flags: SlotFlags,
    (pool, machine): (&Pool, &mut M),
) -> Result<u64, SlotRefused> {
    check_flags(flags)?;
    let before = slots.slot_mut(space, id)?.flags();
    let (gained, lost) = (flags.difference(before), before.difference(flags));
    if gained.contains(SlotFlags::PRIVATE) {
        // The window must lose it: the guest faults it back.
        zap(vm, slots, (space, id), machine)?;
    } else if gained.intersects(SlotFlags::READONLY.union(SlotFlags::LOG_DIRTY_PAGES)) {
        let keep = rights(flags).difference(Rights::WRITE);
        change_mapped(vm, slots, (space, id), |vm, slot| machine.protect(vm, slot.base(), slot.pages(), keep))?;
    }
    slots.set_flags(space, id, flags)?;
    slots.set_state(space, id, State::Valid)?;
    if !lost.contains(SlotFlags::LOG_DIRTY_PAGES) {
        return Ok(0);
    }
    // So that the next log begins clean.
    slots.slot_mut(space, id)?.tree.forget(Note::Dirty, machine);
    collapse(vm, slots, (space, id), pool, machine)
}

/// Makes large pages again of what a dirty log made small, where the frames still lie so.
fn collapse<M: Memory + Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, id): (Space, SlotId),
    pool: &Pool,
    machine: &mut M,
) -> Result<u64, SlotRefused> {
    let slot = slots.slot_mut(space, id)?;
    if !slot.tree.has_split() {
        return Ok(0);
    }
    // Without the small pages gone first a large one cannot be mapped. When the kernel does not do that, they stay.
    if zap(vm, slots, (space, id), machine).is_err() {
        return Ok(0);
    }
    slots.set_state(space, id, State::Valid)?;
    Ok(slots.slot_mut(space, id)?.tree.collapse(machine, |frame| pool.is_aligned(frame)))
}

/// Writes to the page are the guest's own from now on, or are not.
fn track<M: Memory + Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    (space, gfn): (Space, Gfn),
    tracking: Tracking,
    (pool, machine): (&mut Pool, &mut M),
) -> Result<(), SlotRefused> {
    let slot = slots.lookup(space, gfn).ok_or(SlotRefused::NoSuchSlot)?;
    let offset = slot.offset(gfn);
    match tracking {
        Tracking::Off => slot.tree.unnote(offset, Note::Tracked, machine),
        Tracking::On if slot.tree.page(offset, machine).has(Note::Tracked) => {}
        Tracking::On => {
            // First, because it can fail; the right is taken before anybody can rely on the note.
            slot.tree.split(offset, machine);
            let noted = slot.tree.note(offset, Note::Tracked, pool, machine);
            noted.map_err(|_| SlotRefused::OutOfMemory)?;
            if space == Space::Normal
                && let Err(refused) = take_write(vm, gfn, machine)
            {
                slot.tree.unnote(offset, Note::Tracked, machine);
                return Err(SlotRefused::Kernel(refused));
            }
        }
    }
    Ok(())
}

/// The guest cannot write the page any more. A large page over it goes away whole.
fn take_write<M: Kernel>(vm: usize, gfn: Gfn, kernel: &mut M) -> Result<u64, Refused> {
    match kernel.mapped(vm, gfn) {
        Some(leaf) if leaf.level > Level::Page => kernel.unmap(vm, leaf.gfn, leaf.level.frames()),
        Some(_) => kernel.protect(vm, gfn, 1, Rights::READ | Rights::EXECUTE),
        None => Ok(0),
    }
}

/// Nothing of any slot is mapped any more.
fn zap_all<M: Kernel>(vm: usize, slots: &mut MemSlots, kernel: &mut M) -> Result<(), SlotRefused> {
    for slot in slots.iter(Space::Normal) {
        kernel.unmap(vm, slot.base(), slot.pages()).map_err(SlotRefused::Kernel)?;
    }
    Ok(())
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
