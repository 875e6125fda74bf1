//! "Why did this address fault?": everything that the pager and the kernel's ledger know of it, as lines.

use crate::history::{Answered, History, Seen, Touched};
use crate::machine::{Kernel, Memory};
use crate::memslot::{MemSlot, MemSlots};
use crate::store::Note;
use crate::tell::Listener;
use ipc_proto::grant::{Gfn, Gpa, Pfn};
use ipc_proto::slot::Space;

/// Tells what is known of `gpa` in VM `vm`; the answers about its page are marked.
pub fn explain<M: Memory + Kernel>(
    vm: usize,
    slots: &mut MemSlots,
    history: &History,
    (gpa, first_pfn): (Gpa, u64),
    machine: &mut M,
    listener: &mut impl Listener,
) {
    let gfn = gpa.gfn();
    let generation = slots.generation();
    listener.say(format_args!("vm {vm}: gpa {:#x}, gfn {:#x}, generation {generation} of the slots", gpa.0, gfn.0));
    for space in [Space::Normal, Space::Smm] {
        match slots.lookup(space, gfn) {
            Some(slot) => explain_slot(space, slot, (gpa, first_pfn), machine, listener),
            None => listener.say(format_args!("  {space:?}: no slot holds it")),
        }
    }
    match machine.mapped(vm, gfn) {
        Some(leaf) => listener.say(format_args!(
            "  ledger: gfn {:#x} -> pfn {:#x}, {:?}, {:?}, {:?}",
            leaf.gfn.0, leaf.pfn.0, leaf.level, leaf.rights, leaf.mem_type
        )),
        None => listener.say(format_args!("  ledger: nothing is mapped there")),
    }
    match machine.walk(vm, gfn) {
        Some(walk) => walk.entries().for_each(|entry| listener.say(format_args!("  EPT {entry}"))),
        None => listener.say(format_args!("  EPT: the address is beyond what it maps")),
    }
    listener.say(format_args!("  mmu_seq: {:?}", machine.mmu_seq(vm)));
    explain_history(history, gfn, listener);
}

/// The last answers, and the last first touches; those at `gfn` are marked.
fn explain_history(history: &History, gfn: Gfn, listener: &mut impl Listener) {
    let mark = |gpa: Gpa| if gpa.gfn() == gfn { '*' } else { ' ' };
    for (number, Answered { to, slot, result }) in history.answers() {
        let Seen { gpa, rip, mmu_seq, qualification, vcpu, origin } = to;
        let slot = slot.map(|id| id.0);
        listener.say(format_args!(
            " {}answer {number}: {origin:?} {vcpu} gpa {:#x} rip {rip:#x} seq {mmu_seq} {qualification}, slot {slot:?}: \
             {result:?}",
            mark(*gpa),
            gpa.0
        ));
    }
    for (number, Touched { gpa, rip, mmu_seq, qualification }) in history.touches() {
        listener.say(format_args!(
            " {}first touch {number}: gpa {:#x} rip {rip:#x} seq {mmu_seq} {qualification}",
            mark(*gpa),
            gpa.0
        ));
    }
}

fn explain_slot(
    space: Space,
    slot: &MemSlot,
    (gpa, first_pfn): (Gpa, u64),
    memory: &impl Memory,
    listener: &mut impl Listener,
) {
    let page = slot.tree.page(slot.offset(gpa.gfn()), memory);
    listener.say(format_args!(
        "  {space:?}: slot {} of {} pages from gfn {:#x}, {:?}, {:?}",
        slot.id().0,
        slot.pages(),
        slot.base().0,
        slot.flags(),
        slot.state()
    ));
    let frame = page.frame().map(|index| Pfn(first_pfn + u64::from(index)).0);
    let notes = [Note::Dirty, Note::Tracked].map(|note| page.has(note).then_some(note));
    listener.say(format_args!("  its page: pfn {frame:x?}, part of a large one: {}, notes {notes:?}", page.is_large()));
}
