//! The control messages: what a VM's server asks about its slots.
//!
//! Here requests are told apart; what changes a slot is in [`crate::change`].

use crate::handover::Standstill;
use crate::machine::{Kernel, Memory};
use crate::policy::{Chosen, Overcommit};
use crate::serve::{Greeted, Pager, VmMemory};
use crate::stats::report;
use crate::tdp::Mmu;
use crate::tell::{self, Log, One};
use crate::why;
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::slot::{SlotRefused, SlotReply, SlotRequest, Space, Topic};
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;

/// The longest request, in bytes of postcard.
pub const MESSAGE: usize = 256;
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
        if !matches!(request, SlotRequest::HandOver(_)) && self.backing.standstill == Standstill::HandedOver {
            self.go_on(vm, machine);
        }
        let Some(memory) = self.vms.get_mut(vm) else {
            return SlotReply::Refused(SlotRefused::NoHello);
        };
        if let SlotRequest::Hello(hello) = request {
            let answer = greet(memory, hello, self.backing.keeper.is_on());
            if memory.greeted == Greeted::Yes {
                self.backing.keeper.greet(vm, machine);
            }
            return answer;
        }
        if memory.greeted == Greeted::No {
            return SlotReply::Refused(SlotRefused::NoHello);
        }
        let done = self.perform(vm, request, machine);
        let Some(memory) = self.vms.get_mut(vm) else { return SlotReply::Done };
        memory.watch.mmio.end();
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
        let Self { vms, policy, backing, first_pfn, .. } = self;
        let memory = vms.get_mut(vm).ok_or(SlotRefused::NoHello)?;
        let VmMemory { pool, slots, stats: counts, mtrrs, history, vcpus, watch, .. } = memory;
        let first_pfn = *first_pfn;
        let mut mmu = Mmu { vm, pool, first_pfn, mtrrs, counts, backing, watch, machine };
        match request {
            SlotRequest::Create(slot) => {
                mmu.create(slots, &slot, policy.duties().overcommit)?;
                if mmu.backing.standstill != Standstill::No {
                    mmu.take_slot(slots, &slot)?;
                } else if slot.space == Space::Normal {
                    mmu.furnish(slots.slot_mut(slot.space, slot.id)?, policy, &slot);
                }
            }
            SlotRequest::Delete(space, id) => mmu.delete(slots, (space, id))?,
            SlotRequest::Move(space, id, base) => mmu.relocate(slots, (space, id), base)?,
            SlotRequest::SetFlags(space, id, flags) => mmu.set_flags(slots, (space, id), flags)?,
            SlotRequest::DirtyLog(space, id, from) => {
                if let Some(pages) = mmu.dirty_log(slots, (space, id), from)? {
                    return Ok(SlotReply::Dirty(pages));
                }
            }
            SlotRequest::Idle(space, id, from) => {
                if let Some(pages) = mmu.idle_pages(slots, (space, id), from)? {
                    return Ok(SlotReply::Idle(pages));
                }
            }
            SlotRequest::Prefault(first, pages) => {
                let [stats, ..] = vcpus;
                let left = mmu.prefault(slots, (first, pages), policy, stats)?;
                if left != 0 {
                    return Ok(SlotReply::Left(left));
                }
            }
            SlotRequest::Track(space, gfn, tracking) => mmu.track(slots, space, gfn, tracking)?,
            SlotRequest::MemoryType(register, value) => {
                let mut types = *mmu.mtrrs;
                types.write(register, value).map_err(|_| SlotRefused::UnknownRegister)?;
                if mmu.counts.large_pages > 0 {
                    // What is mapped large may have become mixed: it is faulted back as it must be.
                    mmu.zap_all(slots)?;
                }
                *mtrrs = types;
                backing.keeper.set_memory_type(vm, register, value, machine);
            }
            SlotRequest::Hello(_) => {}
            SlotRequest::Stats => {
                report(vm, vcpus, counts, pool, machine);
                backing.report(vm, policy, machine);
                if let Some((own, in_kernel)) = machine.ticks() {
                    machine.stat(format_args!("ticks_pager"), own);
                    machine.stat(format_args!("ticks_memops"), in_kernel);
                }
            }
            SlotRequest::Why(gpa) => why::explain(vm, slots, history, (gpa, first_pfn), machine, &mut Log),
            SlotRequest::Tell(topic, line) => {
                let mut one = One::line(line);
                match topic {
                    Topic::Why(gpa) => why::explain(vm, slots, history, (gpa, first_pfn), machine, &mut one),
                    Topic::Stats => {
                        tell::stats(vm, (vcpus, counts), (pool, backing, policy), machine, &mut one);
                    }
                    Topic::Policy => tell::policies(policy, &mut one),
                    Topic::Slots => tell::slots(slots, &mut one),
                }
                if let Some(text) = one.kept() {
                    return Ok(SlotReply::Line(text));
                }
            }
            SlotRequest::HandOver(number) => return self.hand_over(vm, number, machine),
            SlotRequest::TakeOver => self.take_over_now(vm, machine)?,
            SlotRequest::Policy(text) => {
                let next = chosen(text.as_str())?;
                if next.duties().overcommit == Overcommit::No && !self.vms.iter().all(VmMemory::has_frames_enough) {
                    return Err(SlotRefused::OutOfMemory);
                }
                self.policy = next;
                self.backing.keeper.set_policy(&text, machine);
                self.policy_changed(machine);
            }
        }
        Ok(SlotReply::Done)
    }
}

/// The policy that the words name, with the options behind the name.
pub(crate) fn chosen(words: &str) -> Result<Chosen, SlotRefused> {
    let mut words = words.split_ascii_whitespace();
    let mut policy = words.next().and_then(Chosen::by_name).ok_or(SlotRefused::UnknownPolicy)?;
    for option in words {
        let (key, value) = option.split_once('=').ok_or(SlotRefused::BadOption)?;
        policy.set(key, value).map_err(|_| SlotRefused::BadOption)?;
    }
    Ok(policy)
}

/// What this pager can do beyond what every pager must; what it keeps is there when there are frames enough for that.
const FEATURES: Features = Features::DIRTY_LOG.union(Features::LARGE_PAGES).union(Features::HAND_OVER);

fn greet(memory: &mut VmMemory, hello: Hello, keeps: bool) -> SlotReply {
    if !PROTOCOL.understands(hello.version) {
        return SlotReply::Refused(SlotRefused::Version);
    }
    memory.greeted = Greeted::Yes;
    let mut features = FEATURES;
    features.set(Features::KEEPS, keeps);
    SlotReply::Hello(Hello { version: PROTOCOL, features })
}

#[cfg(test)]
mod tests;
