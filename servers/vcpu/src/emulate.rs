//! Emulating the one instruction that touched a device: fetched through the guest's own page tables, decoded, done.
//!
//! The effective address is not worked out again: the exit names the guest-physical address. Nor is it asked what the CPU
//! says of the access: an access that the kernel remembers to be a device's comes without that. String instructions have
//! two places, and are in `string`. Segment limits are not checked.

use crate::alu::{Alu, flag, mask, sign_extend};
use crate::bus::Bus;
use crate::clock::Tsc;
use crate::control;
use crate::decoded::{Code, Decoded, FETCHED};
use crate::ending::Ending;
use crate::instruction::{Extend, Instruction, LONGEST, Operation, Register, Source};
use crate::machine::Answer;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::translate::{Access, NoTranslation, Width, translate, width};
use ipc_proto::exit::{Event, ResumeFlags};
use ipc_proto::fault::Qualification;
use ipc_proto::state::{StateMask, VcpuState};

const PAGE: u64 = 0x1000;
const PAGE_FAULT: u8 = 14;
/// Blocking by STI or MOV SS, which ends with the next instruction.
const SHADOW: u64 = 3;

/// Everything that an instruction can reach.
pub struct Emulator<'a, M> {
    /// The vCPU.
    pub state: &'a mut VcpuState,
    /// RAM.
    pub memory: &'a mut M,
    /// What is at addresses that are no RAM.
    pub mmio: &'a mut Mmio,
    /// What is behind the ports.
    pub bus: &'a mut Bus,
    /// Instructions that were decoded before.
    pub decoded: &'a mut Decoded,
    /// State that the kernel is asked for, with the same exit again.
    pub asked_for: &'a mut StateMask,
    /// The time.
    pub now: Tsc,
    /// State that is in the state page.
    pub here: StateMask,
    /// State that has been changed so far.
    pub changed: StateMask,
}

/// Why an instruction does not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest gets a #PF: address, error code.
    PageFault(u64, u32),
    /// It cannot be emulated: why not.
    Cannot(&'static str),
    /// It ended the VM.
    Ended(Ending),
}

impl From<NoTranslation> for Stop {
    fn from(none: NoTranslation) -> Self {
        match none {
            NoTranslation::PageFault(address, code) => Self::PageFault(address, code),
            NoTranslation::TableOutsideRam => Self::Cannot("its page tables lie outside of RAM"),
        }
    }
}

/// Whether the CPU executes the instruction again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is done.
    Complete,
    /// A repeated string instruction has iterations left.
    Repeats,
}

impl<M: GuestMemory> Emulator<'_, M> {
    /// The instruction that touched device memory at `gpa`.
    ///
    /// # Errors
    /// The [`Ending`] of the VM when the instruction cannot be emulated.
    pub fn memory_access(mut self, gpa: u64, qualification: u64) -> Result<Answer, Ending> {
        let qualification = Qualification::from_bits_retain(qualification as u32);
        if qualification.contains(Qualification::FETCH) {
            return Err(self.cannot(&[], "it was fetched from an address that is no memory"));
        }
        if qualification.contains(Qualification::GVA_VALID) && !qualification.contains(Qualification::GVA_TRANSLATED) {
            return Err(self.cannot(&[], "the CPU found no memory behind its page tables"));
        }
        self.emulate(|emulator, instruction| match instruction.operation {
            Operation::StoreString | Operation::LoadString | Operation::MoveString => {
                emulator.memory_string(instruction)
            }
            Operation::PortToString | Operation::StringToPort => emulator.port_string(instruction),
            operation => emulator.operate(operation, gpa, instruction.size).map(|()| Completion::Complete),
        })
    }

    /// The string instruction that moves data to or from a port.
    ///
    /// # Errors
    /// The [`Ending`] of the VM when the instruction cannot be emulated, or ended it.
    pub fn port_access(self) -> Result<Answer, Ending> {
        self.emulate(Self::port_string)
    }

    fn emulate(
        mut self,
        execute: impl FnOnce(&mut Self, &Instruction) -> Result<Completion, Stop>,
    ) -> Result<Answer, Ending> {
        let code = self.fetch();
        let instruction = match self.decoded.decode(self.state.rip, &code, width(self.state)) {
            Ok(instruction) => instruction,
            Err(why) => return Err(self.cannot(code.bytes(), why)),
        };
        let missing = instruction.needs() - self.here;
        if !missing.is_empty() {
            *self.asked_for = missing;
            return Ok(Answer { flags: ResumeFlags::MORE, write: missing, event: None });
        }
        let event = match execute(&mut self, &instruction) {
            Ok(Completion::Complete) => {
                self.step_over(instruction.length);
                None
            }
            Ok(Completion::Repeats) => None,
            Err(Stop::PageFault(address, code)) => {
                self.state.cr2 = address;
                self.changed |= StateMask::CR2;
                Some(Event::ExceptionWithCode(PAGE_FAULT, code))
            }
            Err(Stop::Cannot(why)) => return Err(self.cannot(code.bytes(), why)),
            Err(Stop::Ended(ending)) => return Err(ending),
        };
        Ok(Answer { flags: ResumeFlags::empty(), write: self.changed, event })
    }

    fn cannot(&mut self, bytes: &[u8], why: &'static str) -> Ending {
        Ending::CannotEmulate(bytes.iter().copied().collect(), why)
    }

    /// The bytes at the guest's instruction pointer, as many as can be had.
    fn fetch(&mut self) -> Code {
        let linear = self.code_address(0);
        if let Ok(gpa) = translate(self.state, self.memory, linear, Access::Fetch)
            && gpa % PAGE <= PAGE - FETCHED as u64
            && let Ok(bytes) = self.memory.array(gpa)
        {
            return Code::whole(bytes);
        }
        self.fetch_bytes()
    }

    /// Across two pages, or at the end of RAM: each byte has its own translation.
    #[cold]
    fn fetch_bytes(&mut self) -> Code {
        let mut code = Code::default();
        for offset in 0..LONGEST as u64 {
            let linear = self.code_address(offset);
            let Ok(gpa) = translate(self.state, self.memory, linear, Access::Fetch) else { break };
            let Ok([byte]) = self.memory.array(gpa) else { break };
            code.push(byte);
        }
        code
    }

    /// The linear address of a byte behind the instruction pointer.
    const fn code_address(&self, offset: u64) -> u64 {
        let pointer = self.state.rip.wrapping_add(offset);
        match width(self.state) {
            Width::Bits64 => pointer,
            Width::Bits32 | Width::Bits16 => self.state.cs.base.wrapping_add(pointer),
        }
    }

    /// The CPU's own length of the instruction is not defined for an EPT violation: RIP is moved here.
    fn step_over(&mut self, length: u8) {
        let next = self.state.rip.wrapping_add(u64::from(length));
        self.state.rip = match width(self.state) {
            Width::Bits64 => next,
            Width::Bits32 | Width::Bits16 => next & mask(4),
        };
        self.changed |= StateMask::RIP;
        if self.state.interruptibility & SHADOW != 0 {
            self.state.interruptibility &= !SHADOW;
            self.changed |= StateMask::ACTIVITY;
        }
    }

    /// An instruction with one memory operand, at `gpa`.
    fn operate(&mut self, operation: Operation, gpa: u64, size: u8) -> Result<(), Stop> {
        if gpa % PAGE + u64::from(size) > PAGE {
            return Err(Stop::Cannot("its operand crosses a page boundary"));
        }
        match operation {
            Operation::Load(to, extend) => {
                let value = self.mmio.load(self.memory, gpa, size);
                let value = match extend {
                    Extend::Zero => value,
                    Extend::Sign => sign_extend(value, size),
                };
                self.write_register(to, value);
            }
            Operation::Store(source) => {
                let value = self.value_of(source);
                self.mmio.store(self.memory, gpa, size, value);
            }
            Operation::Compute(alu, to) => {
                let (left, right) = (self.read_register(to), self.mmio.load(self.memory, gpa, size));
                let result = self.compute(alu, left, right, size);
                if alu.stores() {
                    self.write_register(to, result);
                }
            }
            Operation::Modify(alu, source) => {
                let (left, right) = (self.mmio.load(self.memory, gpa, size), self.value_of(source));
                let result = self.compute(alu, left, right, size);
                if alu.stores() {
                    self.mmio.store(self.memory, gpa, size, result);
                }
            }
            Operation::Step(alu) => {
                let carry = self.state.rflags & flag::CF;
                let value = self.mmio.load(self.memory, gpa, size);
                let result = self.compute(alu, value, 1, size);
                self.state.rflags = self.state.rflags & !flag::CF | carry;
                self.mmio.store(self.memory, gpa, size, result);
            }
            Operation::Negate => {
                let value = self.mmio.load(self.memory, gpa, size);
                let result = self.compute(Alu::Sub, 0, value, size);
                self.mmio.store(self.memory, gpa, size, result);
            }
            Operation::Invert => {
                let value = self.mmio.load(self.memory, gpa, size);
                self.mmio.store(self.memory, gpa, size, !value);
            }
            Operation::Exchange(register) => {
                let value = self.mmio.load(self.memory, gpa, size);
                let register_value = self.read_register(register);
                self.mmio.store(self.memory, gpa, size, register_value);
                self.write_register(register, value);
            }
            Operation::StoreString
            | Operation::LoadString
            | Operation::MoveString
            | Operation::PortToString
            | Operation::StringToPort => return Err(Stop::Cannot("a string has no single place")),
        }
        Ok(())
    }

    fn compute(&mut self, alu: Alu, left: u64, right: u64, size: u8) -> u64 {
        let (result, rflags) = alu.compute(left, right, size, self.state.rflags);
        self.state.rflags = rflags;
        self.changed |= StateMask::RFLAGS;
        result
    }

    const fn value_of(&self, source: Source) -> u64 {
        match source {
            Source::Register(register) => self.read_register(register),
            Source::Immediate(value) => value,
        }
    }

    /// What a register, or a part of one, holds.
    #[must_use]
    pub const fn read_register(&self, register: Register) -> u64 {
        let value = control::register(self.state, register.number as u64);
        let value = if register.high_byte { value >> 8 } else { value };
        value & mask(register.size)
    }

    /// Sets a register or a part of one: four bytes clear the rest, one and two leave it.
    pub const fn write_register(&mut self, register: Register, value: u64) {
        let number = register.number as u64;
        let old = control::register(self.state, number);
        let new = match (register.size, register.high_byte) {
            (1, true) => old & !0xff00 | (value & 0xff) << 8,
            (1 | 2, _) => old & !mask(register.size) | value & mask(register.size),
            (size, _) => value & mask(size),
        };
        self.changed = self.changed.union(control::set_register(self.state, number, new));
    }
}

#[cfg(test)]
#[path = "emulate_tests.rs"]
mod tests;
