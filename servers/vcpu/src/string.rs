//! String instructions: MOVS, STOS and LODS with a device at one end, INS and OUTS.
//!
//! A repeated one does a bounded number of iterations and is then executed again, as the CPU itself would go on after
//! an interrupt: the count and the indices say how far it has come.

use crate::alu::mask;
use crate::emulate::{Completion, Emulator, Stop};
use crate::instruction::{Instruction, Operation, Register, Segment};
use crate::machine::ending_of;
use crate::memory::GuestMemory;
use crate::translate::{Access, Width, translate, width};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RSI: u8 = 6;
const RDI: u8 = 7;
const DIRECTION: u64 = 1 << 10;
const PAGE: u64 = 0x1000;

/// Iterations at a time between memory and memory-mapped devices.
const MEMORY_ITERATIONS: u64 = 512;
/// Iterations at a time at a port: the serial port's queue has room for as many.
const PORT_ITERATIONS: u64 = 16;

impl<M: GuestMemory> Emulator<'_, M> {
    /// MOVS, STOS, LODS.
    pub(crate) fn memory_string(&mut self, instruction: &Instruction) -> Result<Completion, Stop> {
        self.repeat(instruction, MEMORY_ITERATIONS, |emulator| {
            let size = instruction.size;
            let accumulator = Register { number: RAX, size, high_byte: false };
            match instruction.operation {
                Operation::MoveString => {
                    let value = emulator.load_source(instruction)?;
                    emulator.store_destination(instruction, value)?;
                    emulator.advance(RSI, instruction);
                    emulator.advance(RDI, instruction);
                }
                Operation::StoreString => {
                    let value = emulator.read_register(accumulator);
                    emulator.store_destination(instruction, value)?;
                    emulator.advance(RDI, instruction);
                }
                _ => {
                    let value = emulator.load_source(instruction)?;
                    emulator.write_register(accumulator, value);
                    emulator.advance(RSI, instruction);
                }
            }
            Ok(())
        })
    }

    /// INS, OUTS.
    pub(crate) fn port_string(&mut self, instruction: &Instruction) -> Result<Completion, Stop> {
        self.bus.advance(self.now);
        self.repeat(instruction, PORT_ITERATIONS, |emulator| {
            let size = instruction.size;
            let port = emulator.read_register(Register { number: RDX, size: 2, high_byte: false }) as u16;
            match instruction.operation {
                Operation::PortToString => {
                    // The page is asked for first: a byte taken from a device cannot be put back.
                    let linear = emulator.destination(instruction);
                    translate(emulator.state, emulator.memory, linear, Access::Write)?;
                    let value = emulator.bus.input(port, size, emulator.now);
                    emulator.store_destination(instruction, u64::from(value))?;
                    emulator.advance(RDI, instruction);
                }
                Operation::StringToPort => {
                    let value = emulator.load_source(instruction)?;
                    emulator.advance(RSI, instruction);
                    if let Some(event) = emulator.bus.output(port, size, value as u32, emulator.now) {
                        return Err(Stop::Ended(ending_of(event)));
                    }
                }
                _ => return Err(Stop::Cannot("the exit was for a string at a port")),
            }
            Ok(())
        })
    }

    /// Counts down the count register of a repeated instruction.
    fn repeat(
        &mut self,
        instruction: &Instruction,
        most: u64,
        mut iteration: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<Completion, Stop> {
        if !instruction.repeats {
            return iteration(self).map(|()| Completion::Complete);
        }
        let counter = Register { number: RCX, size: instruction.address_size, high_byte: false };
        for _ in 0..most {
            let left = self.read_register(counter);
            if left == 0 {
                return Ok(Completion::Complete);
            }
            iteration(self)?;
            self.write_register(counter, left - 1);
        }
        let left = self.read_register(counter);
        Ok(if left == 0 { Completion::Complete } else { Completion::Repeats })
    }

    fn index(&self, register: u8, instruction: &Instruction) -> u64 {
        self.read_register(Register { number: register, size: instruction.address_size, high_byte: false })
    }

    fn advance(&mut self, register: u8, instruction: &Instruction) {
        let size = u64::from(instruction.size);
        let index = self.index(register, instruction);
        let next = if self.state.rflags & DIRECTION == 0 { index.wrapping_add(size) } else { index.wrapping_sub(size) };
        let register = Register { number: register, size: instruction.address_size, high_byte: false };
        self.write_register(register, next);
    }

    /// The linear address of an index: in 64-bit mode only FS and GS have a base.
    fn linear(&self, segment: Segment, index: u64) -> u64 {
        let state = &self.state;
        let base = match (segment, width(state)) {
            (Segment::Fs, _) => state.fs.base,
            (Segment::Gs, _) => state.gs.base,
            (_, Width::Bits64) => 0,
            (Segment::Es, _) => state.es.base,
            (Segment::Cs, _) => state.cs.base,
            (Segment::Ss, _) => state.ss.base,
            (Segment::Ds, _) => state.ds.base,
        };
        base.wrapping_add(index)
    }

    fn destination(&self, instruction: &Instruction) -> u64 {
        self.linear(Segment::Es, self.index(RDI, instruction))
    }

    fn load_source(&mut self, instruction: &Instruction) -> Result<u64, Stop> {
        let linear = self.linear(instruction.source_segment, self.index(RSI, instruction));
        self.load(linear, instruction.size)
    }

    fn store_destination(&mut self, instruction: &Instruction, value: u64) -> Result<(), Stop> {
        self.store(self.destination(instruction), instruction.size, value)
    }

    fn load(&mut self, linear: u64, size: u8) -> Result<u64, Stop> {
        if linear % PAGE + u64::from(size) <= PAGE {
            let gpa = translate(self.state, self.memory, linear, Access::Read)?;
            return Ok(self.mmio.load(self.memory, gpa, size));
        }
        let mut value = 0;
        for byte in 0..size {
            let gpa = translate(self.state, self.memory, linear.wrapping_add(u64::from(byte)), Access::Read)?;
            value |= self.mmio.load(self.memory, gpa, 1) << (8 * byte);
        }
        Ok(value)
    }

    fn store(&mut self, linear: u64, size: u8, value: u64) -> Result<(), Stop> {
        if linear % PAGE + u64::from(size) <= PAGE {
            let gpa = translate(self.state, self.memory, linear, Access::Write)?;
            self.mmio.store(self.memory, gpa, size, value & mask(size));
            return Ok(());
        }
        // Both pages are asked for before either is written.
        translate(self.state, self.memory, linear.wrapping_add(u64::from(size) - 1), Access::Write)?;
        for byte in 0..size {
            let gpa = translate(self.state, self.memory, linear.wrapping_add(u64::from(byte)), Access::Write)?;
            self.mmio.store(self.memory, gpa, 1, value >> (8 * byte) & 0xff);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "string_tests.rs"]
mod tests;
