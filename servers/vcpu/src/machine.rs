//! One VM's machine: every exit comes here and leaves as what the kernel is to do, or as the end of the VM.
//!
//! Nothing here waits or touches the host: time comes in as `now`, memory as [`GuestMemory`].

use crate::bus::Bus;
use crate::clock::{Clock, Tsc};
use crate::control::{Control, Done};
use crate::cpuid::Cpuid;
use crate::decoded::Decoded;
use crate::emulate::Emulator;
use crate::ending::Ending;
use crate::memory::{GuestMemory, RamMap};
use crate::mmio::Mmio;
use crate::msr::{FastStrings, GeneralProtection, Msrs};
use crate::power::PowerEvent;
use ipc_proto::exit::{Direction, Event, Exit, PortAccess, ResumeFlags};
use ipc_proto::state::{StateMask, VcpuState};

const RFLAGS_IF: u64 = 1 << 9;

/// What a machine is made of.
#[derive(Clone, Copy)]
pub struct Config {
    /// Where its RAM is.
    pub ram: RamMap,
    /// What CPUID answers.
    pub cpuid: Cpuid,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: u64,
    /// Whether the CPU has fast strings.
    pub strings: FastStrings,
    /// The date at which it is switched on, in seconds since 1970.
    pub epoch: u64,
}

/// What the kernel is to do with a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to do before the entry.
    pub flags: ResumeFlags,
    /// Which state to take from the state page.
    pub write: StateMask,
    /// The event to deliver.
    pub event: Option<Event>,
}

impl Answer {
    const fn step() -> Self {
        Self { flags: ResumeFlags::ADVANCE, write: StateMask::empty(), event: None }
    }

    /// Nothing changes: the guest goes on where it is.
    #[must_use]
    pub const fn again() -> Self {
        Self { flags: ResumeFlags::empty(), write: StateMask::empty(), event: None }
    }

    const fn inject(event: Event) -> Self {
        Self { flags: ResumeFlags::empty(), write: StateMask::empty(), event: Some(event) }
    }

    const fn done(done: Done) -> Self {
        let (flags, write, event) = done.parts();
        Self { flags, write, event }
    }
}

/// What the machine counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Exits answered.
    pub exits: u64,
    /// Interrupts delivered.
    pub interrupts: u64,
}

/// One VM's machine.
pub struct Machine {
    /// The devices behind the ports.
    pub bus: Bus,
    /// The MSRs.
    pub msrs: Msrs,
    cpuid: Cpuid,
    control: Control,
    /// The devices behind memory addresses.
    pub mmio: Mmio,
    decoded: Decoded,
    /// State that comes with the same exit again, because it was asked for.
    asked_for: StateMask,
    halted: bool,
    figures: Figures,
}

impl Machine {
    /// The machine, switched on at tick `now`.
    #[must_use]
    pub fn new(config: &Config, now: Tsc) -> Self {
        Self {
            bus: Bus::new(Clock::new(config.tsc_hz), config.epoch, now, config.ram.bytes()),
            msrs: Msrs::new(config.tsc_hz, config.strings),
            cpuid: config.cpuid,
            control: Control::default(),
            mmio: Mmio::new(),
            decoded: Decoded::new(),
            asked_for: StateMask::empty(),
            halted: false,
            figures: Figures::default(),
        }
    }

    /// Whether the vCPU waits in HLT.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.halted
    }

    /// What it counted.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Answers an exit that needs neither the time nor memory, leaves every deadline what it was and nothing for the
    /// console to do: what most are. The guest goes on behind its instruction, with these flags and nothing else. For any
    /// other exit, `None`, and nothing has happened yet: it goes to [`Machine::exit`].
    #[inline(always)]
    pub fn exit_at_once(&mut self, exit: &Exit, state: &mut VcpuState) -> Option<ResumeFlags> {
        match *exit {
            Exit::Port(access) if !access.string() && access.size() == 1 => self.port_at_once(access, state)?,
            Exit::Cpuid => self.cpuid(state),
            Exit::Port(_)
            | Exit::InterruptWindow
            | Exit::Hlt
            | Exit::ReadMsr
            | Exit::WriteMsr
            | Exit::ControlRegister(_)
            | Exit::DebugRegister(_)
            | Exit::Mmio(..)
            | Exit::TripleFault
            | Exit::Xsetbv
            | Exit::Hypercall
            | Exit::CacheControl
            | Exit::Exception(..)
            | Exit::Denied(..)
            | Exit::NoPager(..)
            | Exit::Stuck(..)
            | Exit::EntryFailed(..)
            | Exit::Other(..) => return None,
        }
        self.figures.exits += 1;
        Some(if self.bus.pic.pending() {
            ResumeFlags::ADVANCE.union(ResumeFlags::WINDOW)
        } else {
            ResumeFlags::ADVANCE
        })
    }

    /// IN and OUT of a byte.
    #[inline(always)]
    fn port_at_once(&mut self, access: PortAccess, state: &mut VcpuState) -> Option<()> {
        let rax = state.gprs.rax;
        match access.direction() {
            Direction::In => state.gprs.rax = rax & !0xff | u64::from(self.bus.input_at_once(access.port())?),
            Direction::Out => self.bus.output_at_once(access.port(), rax as u8)?,
        }
        Some(())
    }

    /// Answers an exit. The state page holds what [`Exit::travels`] says, and is changed where the answer says so.
    ///
    /// # Errors
    /// The [`Ending`], when the VM is over.
    pub fn exit(
        &mut self,
        exit: &Exit,
        state: &mut VcpuState,
        memory: &mut impl GuestMemory,
        now: Tsc,
    ) -> Result<Answer, Ending> {
        self.figures.exits += 1;
        self.bus.advance(now);
        let answer = self.route(exit, state, memory, now)?;
        Ok(self.with_window(answer))
    }

    /// Answers [`Exit::Mmio`], as [`Machine::exit`] does; but device memory knows no time, and leaves every deadline what it
    /// was and nothing for the console to do.
    ///
    /// # Errors
    /// The [`Ending`], when the VM is over.
    pub fn memory_exit(
        &mut self,
        exit: &Exit,
        gpa: u64,
        qualification: u64,
        state: &mut VcpuState,
        memory: &mut impl GuestMemory,
        now: Tsc,
    ) -> Result<Answer, Ending> {
        self.figures.exits += 1;
        let answer = self.emulator(exit, state, memory, now).memory_access(gpa, qualification)?;
        Ok(self.with_window(answer))
    }

    fn route(
        &mut self,
        exit: &Exit,
        state: &mut VcpuState,
        memory: &mut impl GuestMemory,
        now: Tsc,
    ) -> Result<Answer, Ending> {
        match *exit {
            Exit::Cpuid => {
                self.cpuid(state);
                Ok(Answer::step())
            }
            Exit::Hlt => self.halt(state),
            Exit::Port(access) => self.port(access, state, memory, now),
            Exit::ReadMsr => Ok(self.read_msr(state, now)),
            Exit::WriteMsr => Ok(self.write_msr(state)),
            Exit::ControlRegister(qualification) => Ok(Answer::done(self.control.access(qualification, state))),
            Exit::DebugRegister(qualification) => Ok(Answer::done(self.control.debug_access(qualification, state))),
            Exit::Mmio(gpa, qualification) => self.emulator(exit, state, memory, now).memory_access(gpa, qualification),
            Exit::InterruptWindow => Ok(self.deliver(Answer::again())),
            // The CPU raises #UD for XSETBV by itself while CR4.OSXSAVE is clear; nobody serves hypercalls.
            Exit::Xsetbv | Exit::Hypercall => Ok(Answer::inject(Event::INVALID_OPCODE)),
            // Caches are the host's: guest memory is write-back and coherent.
            Exit::CacheControl => Ok(Answer::step()),
            Exit::Exception(information, code) => reflect(information, code),
            Exit::TripleFault => Err(Ending::TripleFault),
            Exit::Denied(gpa, reason) => Err(Ending::Denied(gpa, reason)),
            Exit::NoPager(gpa, qualification) => Err(Ending::NoPager(gpa, qualification)),
            Exit::Stuck(gpa, qualification) => Err(Ending::Stuck(gpa, qualification)),
            Exit::EntryFailed(reason, qualification) => Err(Ending::EntryFailed(reason, qualification)),
            Exit::Other(reason, qualification) => other(reason, qualification),
        }
    }

    /// Devices have caught up with `now`: what a vCPU is to be told that runs or is halted, if anything.
    pub fn tick(&mut self, now: Tsc) -> Option<Answer> {
        self.bus.advance(now);
        if !self.bus.pic.pending() {
            return None;
        }
        if core::mem::take(&mut self.halted) {
            return Some(self.deliver(Answer::step()));
        }
        Some(self.with_window(Answer::again()))
    }

    /// Asks to come back as soon as the guest can take the interrupt that waits.
    fn with_window(&self, answer: Answer) -> Answer {
        let flags = if self.bus.pic.pending() { answer.flags | ResumeFlags::WINDOW } else { answer.flags };
        Answer { flags, ..answer }
    }

    /// The guest can take an interrupt now: delivers the one that waits.
    fn deliver(&mut self, answer: Answer) -> Answer {
        if !self.bus.pic.pending() {
            return answer;
        }
        self.figures.interrupts += 1;
        let event = Some(Event::Interrupt(self.bus.acknowledge()));
        self.with_window(Answer { event, ..answer })
    }

    #[inline(always)]
    fn cpuid(&mut self, state: &mut VcpuState) {
        let gprs = &mut state.gprs;
        let answer = self.cpuid.answer_again(gprs.rax as u32, gprs.rcx as u32);
        gprs.rax = u64::from(answer.eax);
        gprs.rbx = u64::from(answer.ebx);
        gprs.rcx = u64::from(answer.ecx);
        gprs.rdx = u64::from(answer.edx);
    }

    /// HLT ends the blocking by STI, so whoever has interrupts on can take one right behind it.
    fn halt(&mut self, state: &VcpuState) -> Result<Answer, Ending> {
        if state.rflags & RFLAGS_IF == 0 {
            return Err(Ending::Halted);
        }
        if self.bus.pic.pending() {
            return Ok(self.deliver(Answer::step()));
        }
        self.halted = true;
        Ok(Answer { flags: ResumeFlags::PARK, ..Answer::again() })
    }

    fn port(
        &mut self,
        access: PortAccess,
        state: &mut VcpuState,
        memory: &mut impl GuestMemory,
        now: Tsc,
    ) -> Result<Answer, Ending> {
        if access.string() {
            return self.emulator(&Exit::Port(access), state, memory, now).port_access();
        }
        let low = u64::from(u32::MAX >> (32 - 8 * u32::from(access.size().min(4))));
        match access.direction() {
            Direction::In => {
                let value = u64::from(self.bus.input(access.port(), access.size(), now));
                // A double word clears the upper half of the register, the others leave it.
                let kept = if access.size() == 4 { 0 } else { state.gprs.rax & !low };
                state.gprs.rax = kept | value & low;
            }
            Direction::Out => {
                let value = (state.gprs.rax & low) as u32;
                if let Some(event) = self.bus.output(access.port(), access.size(), value, now) {
                    return Err(ending_of(event));
                }
            }
        }
        Ok(Answer::step())
    }

    fn read_msr(&mut self, state: &mut VcpuState, now: Tsc) -> Answer {
        match self.msrs.read(state.gprs.rcx as u32, state, now) {
            Ok(value) => {
                state.gprs.rax = value & 0xffff_ffff;
                state.gprs.rdx = value >> 32;
                Answer::step()
            }
            Err(GeneralProtection) => Answer::inject(Event::GENERAL_PROTECTION),
        }
    }

    fn write_msr(&mut self, state: &mut VcpuState) -> Answer {
        let value = state.gprs.rax & 0xffff_ffff | state.gprs.rdx << 32;
        match self.msrs.write(state.gprs.rcx as u32, value, state) {
            Ok(write) => Answer { write, ..Answer::step() },
            Err(GeneralProtection) => Answer::inject(Event::GENERAL_PROTECTION),
        }
    }

    /// The emulator, with the state that came with `exit` and what was asked for beside.
    fn emulator<'a, M: GuestMemory>(
        &'a mut self,
        exit: &Exit,
        state: &'a mut VcpuState,
        memory: &'a mut M,
        now: Tsc,
    ) -> Emulator<'a, M> {
        let here = exit.travels() | core::mem::take(&mut self.asked_for);
        let Self { mmio, bus, decoded, asked_for, .. } = self;
        Emulator { state, memory, mmio, bus, decoded, asked_for, now, here, changed: StateMask::empty() }
    }
}

/// How the VM ends when the guest ends its machine.
pub(crate) const fn ending_of(event: PowerEvent) -> Ending {
    match event {
        PowerEvent::PowerOff => Ending::PowerOff,
        PowerEvent::Reset => Ending::Reset,
        PowerEvent::TestExit(value) => Ending::TestExit(value),
    }
}

/// An exception that the kernel intercepts and that is the guest's own.
fn reflect(information: u64, code: u64) -> Result<Answer, Ending> {
    const HAS_CODE: u64 = 1 << 11;
    let vector = information as u8;
    if vector >= 32 {
        return Err(Ending::UnknownExit(0, information));
    }
    let event = if information & HAS_CODE != 0 {
        Event::ExceptionWithCode(vector, code as u32)
    } else {
        Event::Exception(vector)
    };
    Ok(Answer::inject(event))
}

/// Exits by instructions that this machine does not have raise #UD. Numbers as in SDM vol. 3D, appendix C.
fn other(reason: u64, qualification: u64) -> Result<Answer, Ending> {
    match reason {
        // GETSEC; the VMX instructions; MWAIT and MONITOR; INVEPT, RDTSCP, INVVPID; INVPCID; XSAVES, XRSTORS.
        11 | 19..=27 | 36 | 39 | 50 | 51 | 53 | 58 | 63 | 64 => Ok(Answer::inject(Event::INVALID_OPCODE)),
        // RDPMC: there are no counters.
        15 => Ok(Answer::inject(Event::GENERAL_PROTECTION)),
        _ => Err(Ending::UnknownExit(reason, qualification)),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
