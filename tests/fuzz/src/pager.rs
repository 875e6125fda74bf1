//! Our pager: whatever it receives, from a kernel that may refuse anything, it answers with a message, and grants only
//! what it has.

use crate::machine::{FIRST_PFN, FRAMES, Machine};
use crate::take::Take;
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification, TopUp};
use ipc_proto::grant::{ClaimedGrant, Gpa};
use ipc_proto::refused::Refused;
use ipc_proto::slot::SlotReply;
use ipc_proto::wire::decode;
use ipc_proto::words::Words;
use vmm_mm::control::{MESSAGE, REPLY};
use vmm_mm::policy::Chosen;
use vmm_mm::serve::Pager;
use vmm_mm::shares::Shares;

/// The most messages of one input.
const MESSAGES: usize = 64;

/// What a step of an input is: its first byte, modulo [`STEPS`].
pub const REQUEST: u8 = 0;
/// A fault near the guest's beginning: VM, origin and kind, gfn (2 bytes), qualification, tables left.
pub const FAULT: u8 = 1;
/// A fault as six words.
pub const FAULT_WORDS: u8 = 2;
/// A reply was refused: the number, then a fault as of [`FAULT`].
pub const REFUSED: u8 = 3;
/// The kernel refuses the next operation with that number.
pub const REFUSE_NEXT: u8 = 4;
/// Nobody wants anything.
pub const LEISURE: u8 = 5;
const STEPS: u8 = 6;
/// The frames of each VM: two have some.
const SHARES: Shares = [FRAMES as u64 - 100, 100, 0, 0, 0, 0, 0, 0];

/// Gives the pager the messages that the bytes are; the first byte chooses its policy.
pub fn check(bytes: &[u8]) {
    let mut take = Take(bytes);
    let names = Chosen::NAMES;
    let name = names[usize::from(take.byte()) % names.len()];
    let Some(policy) = Chosen::by_name(name) else { return };
    let mut machine = Machine::new();
    let mut pager = Box::new(Pager::empty());
    pager.open(FIRST_PFN, &SHARES, 36, policy, &mut machine);
    for _ in 0..MESSAGES {
        if take.0.is_empty() {
            break;
        }
        step(&mut take, &mut pager, &mut machine);
    }
}

fn step(take: &mut Take<'_>, pager: &mut Pager, machine: &mut Machine) {
    match take.byte() % STEPS {
        REQUEST => {
            let vm = usize::from(take.byte());
            let length = usize::from(take.byte());
            let mut reply = [0; REPLY];
            let used = pager.request(vm, take.bytes(length.min(MESSAGE)), &mut reply, machine);
            let answer = decode::<SlotReply>(&reply[..used]);
            assert!(answer.is_ok(), "{:x?} is no reply: {answer:?}", &reply[..used]);
        }
        FAULT => answer(&fault(take), pager, machine),
        FAULT_WORDS => {
            if let Ok(fault) = Fault::from_words(&take.words()) {
                answer(&fault, pager, machine);
            }
        }
        REFUSED => {
            let refused = Refused::from_number(u64::from(take.byte()) % 32);
            let fault = fault(take);
            if let Some(refused) = refused {
                let words = pager.after_refusal(&fault, refused, machine);
                is_reply(&words, machine);
            }
        }
        REFUSE_NEXT => machine.refuse = Refused::from_number(u64::from(take.byte()) % 32),
        _ => pager.at_leisure(machine),
    }
}

fn fault(take: &mut Take<'_>) -> Fault {
    let (vm, how) = (u16::from(take.byte() % 10), take.byte());
    let gfn = take.number(2);
    let qualification = Qualification::from_bits_retain(u32::from(take.byte()));
    let origin = if how & 1 == 0 { Origin::Vcpu } else { Origin::Window };
    let kind = match how >> 1 & 3 {
        0 | 1 => FaultKind::Violation,
        2 => FaultKind::Misconfiguration,
        _ => FaultKind::LogFull,
    };
    let (vcpu, tables_left) = (u16::from(how >> 3), u16::from(take.byte()));
    let gpa = Gpa(gfn << 12);
    Fault { vcpu, vm, tables_left, origin, kind, gpa, qualification, idt_vectoring: 0, mmu_seq: 0, rip: gfn }
}

fn answer(fault: &Fault, pager: &mut Pager, machine: &mut Machine) {
    machine.further.clear();
    let words = pager.answer(fault, machine);
    is_reply(&words, machine);
}

/// The words are a reply, and every frame in it is the pager's.
fn is_reply(words: &Words, machine: &Machine) {
    let reply = ClaimedReply::from_words(words).expect("a reply");
    let top_up = TopUp::from_word(words[4]);
    assert!(top_up.count <= 512, "{} table frames", top_up.count);
    owned(top_up.first, u64::from(top_up.count));
    if let ClaimedReply::Map(claim, more) = reply {
        is_grant(claim);
        for place in 0..usize::from(more) {
            is_grant(*machine.further.get(&place).expect("a further grant"));
        }
    }
}

fn is_grant(claim: ClaimedGrant) {
    let grant = claim.typed().expect("a grant");
    owned(grant.pfn.0, u64::from(grant.count) * grant.level.frames());
}

fn owned(first: u64, count: u64) {
    let end = FIRST_PFN + u64::from(FRAMES);
    assert!(count == 0 || (first >= FIRST_PFN && first + count <= end), "{count} frames from {first:#x}");
}
