//! Where flaws show: in what the pager is told, and in what it says.

use super::flaw::Flaw;
use super::machine::Machine;
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Gpa};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{DirtyPages, SlotRefused, SlotReply, SlotRequest, Space};
use ipc_proto::text::Text;
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;
use ipc_proto::words::Words;
use std::time::Duration;
use vmm_mm::machine::{Kernel, Memory};
use vmm_mm::serve::INTERNAL;

const VARIANT: u32 = 56;
const MAP: u64 = 1;
const MMIO: u64 = 2;
const RETRY: u64 = 3;
const PENDING: u64 = 4;
const DENY: u64 = 5;
/// The variant of a request.
const POLICY: u8 = 11;
/// After so many answers the flaws that need time show.
const SOON: u64 = 6;
/// After so many one that needs longer.
const LATE: u64 = 9000;
/// From here on are the generations of later incarnations.
pub const LATER: u64 = 1 << 20;
/// So many deleted slots use up what a pager that leaks has.
const LEAKY: u64 = 1000;

const fn denied(reason: DenyReason) -> u64 {
    DENY << VARIANT | (reason as u64) << 32
}

/// For ever, as far as anybody waits.
pub fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

impl Machine {
    /// Before the message after `answered` answers is answered.
    pub fn flawed_by_count(&mut self, answered: u64) -> anyhow::Result<()> {
        match self.flaw {
            Some(Flaw::Silent) if answered == SOON => sleep(),
            Some(Flaw::Dies) if answered == SOON => std::process::exit(3),
            Some(Flaw::Tires) if answered == LATE => std::process::exit(3),
            Some(Flaw::DiesMidFrame) if answered == SOON => {
                self.blurt(&[10, 0, 0, 0, 0, 0])?;
                std::process::exit(0)
            }
            Some(Flaw::StraysHandles) => {
                // What it is refused with does not interest it.
                let _ = self.mem_op(6, MemOp::Info, [0; 4]);
            }
            _ => {}
        }
        Ok(())
    }

    /// The fault that the words spell; one that guesses reads what it does not know as a violation.
    pub fn read_fault(&self, words: &Words) -> Option<Fault> {
        let guesses = self.flaw == Some(Flaw::GuessesKinds);
        let known = [words[0] & 0x0001_ffff_ffff_ffff, words[1], words[2], words[3], 0, 0];
        Fault::from_words(if guesses { &known } else { words }).ok()
    }

    /// Whether a notice is answered.
    pub fn answers_notices(&self) -> bool {
        self.flaw == Some(Flaw::AnswersNotices)
    }

    /// The answer to a fault that `answer` works out.
    pub fn flawed_reply(&mut self, fault: &Fault, answer: impl FnOnce(&Fault, &mut Self) -> Words) -> Words {
        let Some(flaw) = self.flaw else { return answer(fault, self) };
        let told = match flaw {
            Flaw::ShowsPrivate => Fault { origin: Origin::Vcpu, ..*fault },
            Flaw::MixesVms => Fault { vm: 0, ..*fault },
            Flaw::ServesStrangers => Fault { vm: fault.vm % 2, ..*fault },
            Flaw::CutsAddresses => Fault { gpa: Gpa(fault.gpa.0 & 0xff_ffff_ffff), ..*fault },
            Flaw::LooksAtQualifications if fault.kind == FaultKind::Misconfiguration => {
                Fault { kind: FaultKind::Violation, ..*fault }
            }
            Flaw::IgnoresTheLog if fault.kind == FaultKind::LogFull => return INTERNAL,
            _ => *fault,
        };
        let mut words = answer(&told, self);
        match words[0] >> VARIANT {
            MAP => self.flawed_map(flaw, &mut words),
            MMIO => self.flawed_mmio(flaw, fault, &mut words),
            PENDING if flaw == Flaw::RunsOn => words[0] = RETRY << VARIANT,
            DENY if flaw == Flaw::PromisesWindows && fault.origin == Origin::Window => {
                words[..2].copy_from_slice(&[PENDING << VARIANT, 1]);
            }
            _ if flaw == Flaw::HidesExhaustion && words[0] == denied(DenyReason::OutOfMemory) => {
                words[0] = RETRY << VARIANT
            }
            _ => {}
        }
        if flaw == Flaw::WindowsBringNone && fault.origin == Origin::Window {
            words[4] = 0;
        }
        self.flawed_tables(flaw, &mut words);
        words
    }

    fn flawed_map(&mut self, flaw: Flaw, words: &mut Words) {
        let (first_pfn, first_seq) = *self.first.get_or_insert((words[2], words[3]));
        match flaw {
            Flaw::RetriesForEver => *words = [RETRY << VARIANT, 0, 0, 0, words[4], 0],
            Flaw::MapsItsNeighbour => words[1] ^= 1,
            Flaw::RunsOverTheEdge => words[0] += 1,
            Flaw::MapsUncached => words[0] &= !(7 << 15),
            Flaw::LeavesItSeen => words[0] &= !(1 << 18),
            Flaw::WritableRom => words[0] |= 1 << 13,
            Flaw::UnclearedPages => self.set_word(self.index(words[2]), 5, 0xdead_beef),
            Flaw::SharesAFrame => words[2] = first_pfn,
            Flaw::GrantsOthers => words[2] = crate::ledger::FOREIGN,
            Flaw::CrossesTables => words[0] = words[0] & !0x3ff | 512,
            Flaw::StaysStale => words[3] = first_seq,
            _ => {}
        }
    }

    fn flawed_mmio(&mut self, flaw: Flaw, fault: &Fault, words: &mut Words) {
        match flaw {
            Flaw::DeniesMmio => words[0] = denied(DenyReason::NoSlot),
            Flaw::DeniesRomWrites if fault.qualification.contains(Qualification::WRITE) => {
                words[0] = denied(DenyReason::Policy);
            }
            Flaw::RemembersForEver => {
                // Said again each time, and never another.
                let _ = self.mem_op(usize::from(fault.vm), MemOp::Generation, [7, 0, 0, 0]);
                words[1] = 7;
            }
            Flaw::SaysOldGenerations => words[1] &= LATER - 1,
            _ => {}
        }
    }

    fn flawed_tables(&mut self, flaw: Flaw, words: &mut Words) {
        match flaw {
            Flaw::NoTopUp => words[4] = 0,
            Flaw::WritesTables if words[4] != 0 && self.first_tables == 0 => {
                self.first_tables = words[4] & ((1 << 52) - 1)
            }
            // The kernel has taken them by now.
            Flaw::WritesTables if self.first_tables != 0 => self.set_word(self.index(self.first_tables), 0, 1),
            _ => {}
        }
    }

    /// The answer to a fault whose answer was refused.
    pub fn flawed_refusal(&mut self, refused: Refused, answer: impl FnOnce(&mut Self) -> Words) -> Words {
        let mut words = answer(self);
        if self.flaw == Some(Flaw::StaysStale) && refused == Refused::Stale {
            // Any grant of that old number will do.
            words = [0x7401 | MAP << VARIANT, 0x100, self.first.map_or(0, |(pfn, _)| pfn), 0, 0, 0];
        }
        if let Some(flaw) = self.flaw {
            self.flawed_tables(flaw, &mut words);
        }
        words
    }

    /// The request as the pager reads it.
    pub fn flawed_request(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(flaw) = self.flaw else { return bytes.to_vec() };
        let decoded = wire::decode(bytes);
        let other = match (flaw, decoded) {
            (Flaw::ReadsPrefixes, Err(_)) => {
                let whole = |len: &usize| wire::decode::<SlotRequest>(&bytes[..*len]).is_ok();
                let len = (1..bytes.len()).rev().find(whole).unwrap_or(bytes.len());
                return bytes[..len].to_vec();
            }
            (Flaw::AnyText, Err(_)) if bytes.first() == Some(&POLICY) => SlotRequest::Policy(Text::cut("?")),
            (Flaw::CutsNumbers, Ok(SlotRequest::Create(mut slot))) => {
                slot.base.0 &= u64::from(u32::MAX);
                SlotRequest::Create(slot)
            }
            (Flaw::IgnoresFixedRanges, Ok(SlotRequest::MemoryType(..))) => SlotRequest::Why(Gpa(0)),
            (Flaw::Leaks, Ok(SlotRequest::Delete(..))) => {
                self.deleted += 1;
                return bytes.to_vec();
            }
            (Flaw::AnyMajor, Ok(SlotRequest::Hello(hello))) => SlotRequest::Hello(Hello { version: PROTOCOL, ..hello }),
            (Flaw::MovesNothing, Ok(SlotRequest::Move(..))) => SlotRequest::Why(Gpa(0)),
            (Flaw::TracksNothing, Ok(SlotRequest::Track(..))) => SlotRequest::Why(Gpa(0)),
            (Flaw::OneSpace, Ok(SlotRequest::Create(mut slot))) => {
                slot.space = Space::Normal;
                SlotRequest::Create(slot)
            }
            (_, Ok(_) | Err(_)) => return bytes.to_vec(),
        };
        encoded(&other)
    }

    /// The reply as it is said.
    pub fn flawed_answer(&mut self, reply: &[u8]) -> Vec<u8> {
        let Some(flaw) = self.flaw else { return reply.to_vec() };
        let Ok(decoded) = wire::decode::<SlotReply>(reply) else { return reply.to_vec() };
        let done = |why: SlotRefused| match flaw {
            Flaw::NeedsNoHello => why == SlotRefused::NoHello,
            Flaw::AcceptsOverlaps => matches!(why, SlotRefused::Overlap(_)),
            Flaw::LogsAlways => why == SlotRefused::NotLogged,
            Flaw::AnyPolicy => why == SlotRefused::UnknownPolicy,
            Flaw::HidesRefusals => matches!(why, SlotRefused::Kernel(_)),
            Flaw::TakesAny => why == SlotRefused::NoHandOver,
            Flaw::AnyRegister => why == SlotRefused::UnknownRegister,
            _ => false,
        };
        match (flaw, decoded) {
            (_, SlotReply::Refused(why)) if done(why) => encoded(&SlotReply::Done),
            (Flaw::LargeInSecret, SlotReply::Hello(mut hello)) => {
                hello.features.remove(Features::LARGE_PAGES);
                encoded(&SlotReply::Hello(hello))
            }
            (Flaw::MissesWrites, SlotReply::Dirty(DirtyPages { first, mut bits })) => {
                if let Some(word) = bits.iter_mut().find(|word| **word != 0) {
                    *word &= *word - 1;
                }
                encoded(&SlotReply::Dirty(DirtyPages { first, bits }))
            }
            (Flaw::ForgetsTheFar, SlotReply::Dirty(pages)) if pages.first >= 16_000 => encoded(&SlotReply::Done),
            (Flaw::TellsTooMuch, SlotReply::Dirty(DirtyPages { first, mut bits })) => {
                if let Some(word) = bits.iter_mut().find(|word| **word != 0) {
                    *word |= *word << 1;
                }
                encoded(&SlotReply::Dirty(DirtyPages { first, bits }))
            }
            (Flaw::MissesNeighbours, SlotReply::Dirty(DirtyPages { first, bits })) => {
                let told = first + (0..1024).find(|n| bits[n / 64] >> (n % 64) & 1 == 1).unwrap_or(0) as u64;
                let missed = self.told.replace(told).is_some_and(|before| before + 1 == told);
                if missed { encoded(&SlotReply::Done) } else { reply.to_vec() }
            }
            (Flaw::SkipsATable, SlotReply::Dirty(pages)) if (512..1024).contains(&pages.first) => {
                encoded(&SlotReply::Done)
            }
            (Flaw::BeginsClean, SlotReply::Dirty(_)) if self.incarnation != 0 => encoded(&SlotReply::Done),
            (Flaw::PrefaultsNothing, SlotReply::Left(_)) => encoded(&SlotReply::Left(0)),
            (Flaw::Leaks, SlotReply::Done) if self.deleted > LEAKY => {
                encoded(&SlotReply::Refused(SlotRefused::OutOfMemory))
            }
            (Flaw::HandsOverUnsaid, SlotReply::Hello(mut hello)) => {
                hello.features.remove(Features::HAND_OVER);
                encoded(&SlotReply::Hello(hello))
            }
            (Flaw::HidesASlot, SlotReply::Slot(_)) => encoded(&SlotReply::Done),
            (Flaw::LongReplies, _) => [reply, &[0; 4]].concat(),
            _ => reply.to_vec(),
        }
    }

    /// Whether an `Unmap` is left out; a flaw may also spoil what is unmapped.
    pub fn flawed_unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> bool {
        if self.flaw == Some(Flaw::LosesContent) {
            let mut at = first;
            while let Some(leaf) = self.next_mapped(vm, at).filter(|leaf| leaf.gfn.0 < first.0 + pages) {
                self.clear(self.index(leaf.pfn.0));
                at = Gfn(leaf.gfn.0 + leaf.level.frames());
            }
        }
        self.flaw == Some(Flaw::KeepsDeleted)
    }
}

fn encoded<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = [0; 512];
    // Every message is shorter.
    let len = wire::encode(message, &mut bytes).unwrap_or(0);
    bytes[..len].to_vec()
}
