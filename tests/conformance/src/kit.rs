//! What a case works with: a guest that touches memory, a VM's server that asks, and the model that both are held to.

use crate::kernel::{Answer, Kernel, Question, Reply};
use crate::model::{Expected, Model};
use crate::refusal::is_excused;
use crate::setup::Setup;
use crate::vm::{Asked, Log, Remembered};
use anyhow::{Context, bail, ensure};
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gpa, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::memop::LOG;
use ipc_proto::refused::{DenyReason, Refused};
use ipc_proto::slot::{SlotReply, SlotRequest};
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;

/// The most answers for one access.
const ANSWERS: usize = 16;
/// The longest reply to a request.
const REPLY: usize = 256;

/// Whose access it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The VM.
    pub vm: u8,
    /// The vCPU; 0 for a window.
    pub vcpu: u16,
    /// The guest's or the window's.
    pub origin: Origin,
}

/// vCPU 0 of VM 0.
pub const GUEST: Who = Who { vm: 0, vcpu: 0, origin: Origin::Vcpu };
/// The window on VM 0.
pub const WINDOW: Who = Who { vm: 0, vcpu: 0, origin: Origin::Window };

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Allowed,
    /// The VM's server emulates it.
    Mmio,
    /// The VM's server is told that it is forbidden.
    Denied(DenyReason),
}

/// A system under test.
pub struct Kit {
    /// The kernel, with its pager.
    pub kernel: Kernel,
    /// What each VM's memory must be.
    pub models: Vec<Model>,
    /// What the pager said that it can do.
    pub features: Features,
    /// An invalidation comes between the next question and its answer.
    pub overtake: bool,
    /// The setup.
    pub setup: Setup,
    command: String,
    refusals: Vec<Refused>,
    /// How many answers were stale.
    pub stale: u64,
}

impl Kit {
    /// Boots a system with the pager that `command` starts.
    ///
    /// # Errors
    /// Whatever it does instead of receiving.
    pub fn boot(setup: &Setup, command: &str) -> anyhow::Result<Self> {
        let kernel = Kernel::boot(setup, command)?;
        let models = kernel.vms.iter().map(|_| Model::default()).collect();
        Ok(Self {
            kernel,
            models,
            features: Features::empty(),
            overtake: false,
            setup: setup.clone(),
            command: command.to_owned(),
            refusals: Vec::new(),
            stale: 0,
        })
    }

    /// Boots another system, with another setup.
    ///
    /// # Errors
    /// As for [`Self::boot`].
    pub fn reboot(&mut self, setup: &Setup) -> anyhow::Result<()> {
        self.finish()?;
        *self = Self::boot(setup, &self.command.clone())?;
        Ok(())
    }

    /// Boots another system after the pager of this one has ended by itself.
    ///
    /// # Errors
    /// As for [`Self::boot`].
    pub fn reboot_after_death(&mut self, setup: &Setup) -> anyhow::Result<()> {
        *self = Self::boot(setup, &self.command.clone())?;
        Ok(())
    }

    /// The pager dies, and is started again.
    ///
    /// # Errors
    /// What the next incarnation does instead of receiving.
    pub fn restart(&mut self, incarnation: u32) -> anyhow::Result<()> {
        self.kernel.restart(&self.command.clone(), incarnation)
    }

    /// `Hello` for a VM, which must be accepted.
    ///
    /// # Errors
    /// It is not.
    pub fn hello(&mut self, vm: u8) -> anyhow::Result<Hello> {
        let hello = Hello { version: PROTOCOL, features: Features::all() };
        match self.request(vm, &SlotRequest::Hello(hello))? {
            SlotReply::Hello(hello) => {
                ensure!(
                    hello.version.major == PROTOCOL.major,
                    "P22: it greets with version {}.{}",
                    hello.version.major,
                    hello.version.minor
                );
                self.features = hello.features;
                Ok(hello)
            }
            other => bail!("P22: Hello of version {}.{}: {other:?}", PROTOCOL.major, PROTOCOL.minor),
        }
    }

    /// Asks a request in bytes.
    ///
    /// # Errors
    /// An answer that is no reply.
    pub fn ask_bytes(&mut self, vm: u8, bytes: &[u8]) -> anyhow::Result<SlotReply> {
        let Answer { words, message } = self.kernel.ask(&Question::Call(vm, bytes.to_vec()))?;
        let len = words[0] as usize;
        ensure!(len <= REPLY, "P39: a reply of {len} bytes, {REPLY} at most");
        let mut reply = message;
        reply.resize(len, 0);
        let reply = wire::decode(&reply).map_err(|error| anyhow::anyhow!("P39: no reply, {error:?}: {reply:02x?}"))?;
        self.check()?;
        Ok(reply)
    }

    /// Asks a request; the model changes with what is done.
    ///
    /// # Errors
    /// An answer that is no reply, or memory that is not as the model has it.
    pub fn request(&mut self, vm: u8, request: &SlotRequest) -> anyhow::Result<SlotReply> {
        self.kernel.keep_time()?;
        let mut bytes = [0; 512];
        let len = wire::encode(request, &mut bytes).map_err(|error| anyhow::anyhow!("a request of ours: {error:?}"))?;
        let Answer { words, message } = self.kernel.ask(&Question::Call(vm, bytes[..len].to_vec()))?;
        let reply_len = words[0] as usize;
        ensure!(reply_len <= REPLY, "P39: a reply of {reply_len} bytes, {REPLY} at most");
        let mut reply = message;
        reply.resize(reply_len, 0);
        let reply = wire::decode(&reply).map_err(|error| anyhow::anyhow!("P39: no reply, {error:?}: {reply:02x?}"))?;
        if reply == SlotReply::Done {
            self.models[usize::from(vm)].done(request);
        }
        self.check().with_context(|| format!("after {request:?}, {reply:?}"))?;
        Ok(reply)
    }

    /// Asks a fault, as often as answers are refused, and says what the accepted one says.
    ///
    /// # Errors
    /// A refusal that the pager should not have run into; more refusals than patience.
    pub fn fault(&mut self, fault: &Fault) -> anyhow::Result<Reply> {
        self.refusals.clear();
        let mut question = Question::Fault(fault.to_words());
        for _ in 0..=ANSWERS {
            let answer = self.kernel.ask(&question)?;
            let vm = usize::from(fault.vm).min(self.kernel.vms.len() - 1);
            if std::mem::take(&mut self.overtake) {
                self.kernel.vms[vm].mmu_seq += 1;
            }
            let refused = match self.kernel.answered(vm as u8, fault.origin == Origin::Window, &answer) {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            };
            self.refusals.push(refused);
            self.stale += u64::from(refused == Refused::Stale);
            is_excused(refused).with_context(|| format!("{answer:x?} to {fault:x?}"))?;
            let again = Fault {
                mmu_seq: self.kernel.vms[vm].mmu_seq,
                tables_left: self.kernel.vms[vm].tables_left(),
                ..*fault
            };
            let mut words = again.to_words();
            words[5] = refused as u64;
            question = Question::RefusedReply(words);
        }
        let stale = self.refusals.iter().all(|refused| *refused == Refused::Stale);
        let obligation = if stale { "P15" } else { "P14" };
        bail!("{obligation}: more than {ANSWERS} answers in a row are refused: {:?}", self.refusals)
    }

    /// A fault of `who` at `gpa`, as the kernel would ask it now.
    #[must_use]
    pub fn fault_at(&self, who: Who, gpa: u64, tried: Rights, kind: FaultKind) -> Fault {
        let vm = &self.kernel.vms[usize::from(who.vm)];
        let leaf = vm.leaf(gpa >> 12, &self.kernel.ledger);
        let allowed = leaf.map_or(0, |(leaf, _)| u32::from(leaf.allowed.bits()));
        let linear = match (who.origin, kind) {
            (Origin::Vcpu, FaultKind::Violation) => Qualification::GVA_VALID.union(Qualification::GVA_TRANSLATED),
            _ => Qualification::empty(),
        };
        // Without meaning but for a violation: there is something that must not be looked at.
        let tried = if kind == FaultKind::Violation { tried } else { Rights::all() };
        let tried = Qualification::from_bits_retain(u32::from(tried.bits()) | allowed << 3);
        Fault {
            vcpu: who.vcpu,
            vm: u16::from(who.vm),
            tables_left: vm.tables_left(),
            origin: who.origin,
            kind,
            gpa: Gpa(gpa),
            qualification: tried.union(linear),
            idt_vectoring: 0,
            mmu_seq: vm.mmu_seq,
            // Nothing is decided by it.
            rip: !gpa,
        }
    }

    /// An access to `gfn` as hardware and kernel make it: until it is allowed, or the pager says what else.
    ///
    /// # Errors
    /// No end, or a `Map` that maps something else.
    pub fn access(&mut self, who: Who, gfn: u64, tried: Rights) -> anyhow::Result<Outcome> {
        let mut asked = Asked::No;
        self.kernel.keep_time()?;
        for _ in 0..=ANSWERS {
            if self.allowed(who, gfn, tried, asked) {
                return Ok(Outcome::Allowed);
            }
            if who.origin == Origin::Vcpu && self.log_is_full(who.vm, gfn, tried) {
                self.log_full(who)?;
                continue;
            }
            let vm = &self.kernel.vms[usize::from(who.vm)];
            let kind = match vm.remembers(gfn, &self.kernel.ledger) {
                Some(Remembered::Now) => return Ok(Outcome::Mmio),
                Some(Remembered::Before) if who.origin == Origin::Vcpu => FaultKind::Misconfiguration,
                Some(Remembered::Before) | None => FaultKind::Violation,
            };
            let fault = self.fault_at(who, (gfn << 12) + 0x10, tried, kind);
            match self.fault(&fault)? {
                Reply::Mapped => {
                    let vm = &self.kernel.vms[usize::from(who.vm)];
                    let granted = vm.leaf(gfn, &self.kernel.ledger).map(|(leaf, _)| leaf.rights);
                    ensure!(
                        kind != FaultKind::Violation || granted.is_some_and(|rights| rights.contains(tried)),
                        "P6: Map is accepted, and gfn {gfn:#x} has {granted:?}: {tried:?} was tried"
                    );
                    asked = Asked::Yes;
                }
                Reply::Retry => {}
                Reply::Pending(token) => self.kernel.wait_for(token)?,
                Reply::Mmio(generation) => {
                    let Kernel { vms, ledger, .. } = &mut self.kernel;
                    vms[usize::from(who.vm)].remember(gfn, generation, ledger);
                    return Ok(Outcome::Mmio);
                }
                Reply::Denied(reason) => return Ok(Outcome::Denied(reason)),
            }
        }
        bail!("P5: {ANSWERS} answers, and {tried:?} of gfn {gfn:#x} is still not allowed")
    }

    fn allowed(&mut self, who: Who, gfn: u64, tried: Rights, asked: Asked) -> bool {
        if who.origin == Origin::Vcpu && self.log_is_full(who.vm, gfn, tried) {
            return false;
        }
        let Kernel { vms, ledger, .. } = &mut self.kernel;
        let vm = &mut vms[usize::from(who.vm)];
        match who.origin {
            Origin::Vcpu => vm.enters(gfn, tried, ledger),
            Origin::Window => vm.shows(gfn, tried, asked, ledger),
        }
    }

    /// Whether a write would have to be logged for which the log has no room.
    fn log_is_full(&self, vm: u8, gfn: u64, tried: Rights) -> bool {
        let vm = &self.kernel.vms[usize::from(vm)];
        let Log::On(log) = &vm.log else { return false };
        let clean = vm.leaf(gfn, &self.kernel.ledger).is_some_and(|(leaf, _)| !leaf.dirty);
        log.len() >= LOG && tried.contains(Rights::WRITE) && clean
    }

    /// The CPU's log is full: the pager takes it.
    fn log_full(&mut self, who: Who) -> anyhow::Result<()> {
        let fault = Fault {
            qualification: Qualification::empty(),
            ..self.fault_at(who, 0, Rights::empty(), FaultKind::LogFull)
        };
        let reply = self.fault(&fault)?;
        ensure!(reply == Reply::Retry, "P19: LogFull is answered by {reply:?}");
        let full = matches!(&self.kernel.vms[usize::from(who.vm)].log, Log::On(log) if log.len() >= LOG);
        ensure!(!full, "P19: LogFull is answered, and the log has not been taken");
        Ok(())
    }

    /// An access to `gfn` that must lead to what the model says.
    ///
    /// # Errors
    /// It does not.
    pub fn touch(&mut self, who: Who, gfn: u64, tried: Rights) -> anyhow::Result<Expected> {
        let window = who.origin == Origin::Window;
        let expected = self.models[usize::from(who.vm)].expected(gfn, tried.contains(Rights::WRITE), window);
        let outcome = self.access(who, gfn, tried)?;
        let refused = matches!(outcome, Outcome::Mmio) || window && matches!(outcome, Outcome::Denied(_));
        let (kept, obligation) = match expected {
            Expected::Allowed => (outcome == Outcome::Allowed, "P5"),
            Expected::NoSlot => (refused, "P9"),
            Expected::Protected => (refused, "P10"),
            // What the guest sees of it already, the kernel shows without asking.
            Expected::Private => (refused || outcome == Outcome::Allowed, "P28"),
        };
        ensure!(kept, "{obligation}: {tried:?} of gfn {gfn:#x} by {who:?} must lead to {expected:?}: {outcome:?}");
        Ok(expected)
    }

    /// Writes `value` to byte `place` of `gfn`, where the model says that this is possible.
    ///
    /// # Errors
    /// It is not so.
    pub fn write(&mut self, who: Who, gfn: u64, place: usize, value: u64) -> anyhow::Result<()> {
        if self.touch(who, gfn, Rights::WRITE)? != Expected::Allowed {
            return Ok(());
        }
        let vm = usize::from(who.vm);
        let pfn = self.kernel.vms[vm].pfn(gfn, &self.kernel.ledger).context("it is mapped")?;
        self.kernel.ledger.bytes.write(pfn, place, value)?;
        self.models[vm].wrote(gfn, place, value);
        Ok(())
    }

    /// Reads `gfn`, which must be as the model has it.
    ///
    /// # Errors
    /// It is not.
    pub fn read(&mut self, who: Who, gfn: u64) -> anyhow::Result<()> {
        if self.touch(who, gfn, Rights::READ)? != Expected::Allowed {
            return Ok(());
        }
        let vm = usize::from(who.vm);
        let pfn = self.kernel.vms[vm].pfn(gfn, &self.kernel.ledger).context("it is mapped")?;
        let (found, wanted) = (self.kernel.ledger.bytes.read(pfn)?, self.models[vm].page(gfn));
        if let Some(place) = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted) {
            let fresh = wanted.iter().all(|byte| *byte == 0);
            let obligation = if fresh { "P11" } else { "P12" };
            bail!(
                "{obligation}: gfn {gfn:#x} has {:#x} at byte {place:#x}, and should have {:#x}",
                found[place],
                wanted[place]
            );
        }
        Ok(())
    }

    /// The end of the case: everything is as it must be, and the pager ends.
    ///
    /// # Errors
    /// It is not, or does not.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.kernel.finish()
    }
}
