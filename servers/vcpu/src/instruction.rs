//! Decoding one instruction that touches device memory or a string port, with `yaxpeax-x86`, down to what has to be
//! done.

use crate::alu::Alu;
use crate::translate::Width;
use ipc_proto::state::StateMask;
use yaxpeax_arch::LengthedInstruction;
use yaxpeax_x86::{long_mode, protected_mode, real_mode};

/// Longest instruction, in bytes.
pub const LONGEST: usize = 15;

/// A general register, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number in an instruction's encoding.
    pub number: u8,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// AH, CH, DH or BH: the second byte of the register of this number.
    pub high_byte: bool,
}

/// What goes into memory, or into an operation with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A register.
    Register(Register),
    /// An immediate, its sign in all bits.
    Immediate(u64),
}

/// What fills the rest of a register that is loaded from a smaller operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// Zeros.
    Zero,
    /// The operand's sign.
    Sign,
}

/// What an instruction does with its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `register = memory`.
    Load(Register, Extend),
    /// `memory = source`.
    Store(Source),
    /// `register = register op memory`.
    Compute(Alu, Register),
    /// `memory = memory op source`.
    Modify(Alu, Source),
    /// `memory = memory op 1` with the carry flag left alone: INC and DEC.
    Step(Alu),
    /// `memory = 0 - memory`.
    Negate,
    /// `memory = !memory`.
    Invert,
    /// Memory and register change places.
    Exchange(Register),
    /// STOS.
    StoreString,
    /// LODS.
    LoadString,
    /// MOVS.
    MoveString,
    /// INS.
    PortToString,
    /// OUTS.
    StringToPort,
}

/// The segment registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the CPU's")]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its length in bytes.
    pub length: u8,
    /// What it does.
    pub operation: Operation,
    /// Bytes of its memory operand: 1, 2, 4 or 8.
    pub size: u8,
    /// Whether a string instruction repeats.
    pub repeats: bool,
    /// Bytes of the addresses, and of the count, that a string instruction uses.
    pub address_size: u8,
    /// The segment of a string instruction's source.
    pub source_segment: Segment,
}

impl Instruction {
    /// State that it needs beside the general registers, RFLAGS, and what says how code is fetched.
    #[inline]
    #[must_use]
    pub const fn needs(&self) -> StateMask {
        let register = match self.operation {
            Operation::Load(register, _)
            | Operation::Store(Source::Register(register))
            | Operation::Compute(_, register)
            | Operation::Modify(_, Source::Register(register))
            | Operation::Exchange(register) => register,
            Operation::Store(Source::Immediate(_))
            | Operation::Modify(_, Source::Immediate(_))
            | Operation::Step(_)
            | Operation::Negate
            | Operation::Invert => return StateMask::empty(),
            Operation::StoreString
            | Operation::LoadString
            | Operation::MoveString
            | Operation::PortToString
            | Operation::StringToPort => return StateMask::SEGMENTS,
        };
        if register.number == RSP { StateMask::RSP } else { StateMask::empty() }
    }
}

/// RSP's number: the decoder gives a high byte the number of its whole register.
const RSP: u8 = 4;

/// The bytes are no instruction, or one that is not known here: what was wanted of it.
pub type Undecoded = &'static str;

const NO_INSTRUCTION: Undecoded = "the bytes are no instruction";
const OTHER: Undecoded = "an operation that is not emulated";
const OPERANDS: Undecoded = "operands that are not emulated";

/// Decodes the instruction at the beginning of `bytes`.
///
/// # Errors
/// [`Undecoded`].
pub fn decode(bytes: &[u8], width: Width) -> Result<Instruction, Undecoded> {
    match width {
        Width::Bits64 => long(bytes),
        Width::Bits32 => protected(bytes),
        Width::Bits16 => real(bytes),
    }
}

/// The decoder has a module for each mode, with types of its own that are all alike.
macro_rules! decoder {
    ($name:ident, $mode:ident, default_address: $default:literal, other_address: $other:literal,
        byte_classes: $byte:path $(, $rex_byte:path)?) => {
        fn $name(bytes: &[u8]) -> Result<Instruction, Undecoded> {
            use $mode::{InstDecoder, Opcode, Operand, RegSpec};

            fn register(reg: RegSpec) -> Result<Register, Undecoded> {
                use $mode::register_class::{B, D, W};
                let class = reg.class();
                let size = match class {
                    _ if class == B => 1,
                    _ if class == W => 2,
                    _ if class == D => 4,
                    $(_ if class == $rex_byte => 1,
                    _ if class == $mode::register_class::Q => 8,)?
                    _ => return Err(OPERANDS),
                };
                let high_byte = class == $byte && reg.num() >= 4;
                Ok(Register { number: if high_byte { reg.num() - 4 } else { reg.num() }, size, high_byte })
            }

            fn source(operand: Operand) -> Result<Source, Undecoded> {
                Ok(match operand {
                    Operand::Register { reg } => Source::Register(register(reg)?),
                    other => Source::Immediate(decoder!(@immediate $mode other)?),
                })
            }

            fn to_register(operand: Operand) -> Result<Register, Undecoded> {
                match operand {
                    Operand::Register { reg } => register(reg),
                    _ => Err(OPERANDS),
                }
            }

            fn two_operands(alu: Alu, first: Operand, second: Operand) -> Result<Operation, Undecoded> {
                if first.is_memory() {
                    Ok(Operation::Modify(alu, source(second)?))
                } else {
                    Ok(Operation::Compute(alu, to_register(first)?))
                }
            }

            let decoded = InstDecoder::default().decode_slice(bytes).map_err(|_| NO_INSTRUCTION)?;
            let operand = |index| {
                if decoded.operand_present(index) { decoded.operand(index) } else { Operand::Nothing }
            };
            let (first, second) = (operand(0), operand(1));
            let operation = match decoded.opcode() {
                Opcode::MOV if first.is_memory() => Operation::Store(source(second)?),
                Opcode::MOV | Opcode::MOVZX => Operation::Load(to_register(first)?, Extend::Zero),
                Opcode::MOVSX | Opcode::MOVSXD => Operation::Load(to_register(first)?, Extend::Sign),
                Opcode::MOVNTI => Operation::Store(source(second)?),
                Opcode::ADD => two_operands(Alu::Add, first, second)?,
                Opcode::OR => two_operands(Alu::Or, first, second)?,
                Opcode::ADC => two_operands(Alu::Adc, first, second)?,
                Opcode::SBB => two_operands(Alu::Sbb, first, second)?,
                Opcode::AND => two_operands(Alu::And, first, second)?,
                Opcode::SUB => two_operands(Alu::Sub, first, second)?,
                Opcode::XOR => two_operands(Alu::Xor, first, second)?,
                Opcode::CMP => two_operands(Alu::Cmp, first, second)?,
                Opcode::TEST => two_operands(Alu::Test, first, second)?,
                Opcode::INC => Operation::Step(Alu::Add),
                Opcode::DEC => Operation::Step(Alu::Sub),
                Opcode::NEG => Operation::Negate,
                Opcode::NOT => Operation::Invert,
                Opcode::XCHG if first.is_memory() => Operation::Exchange(to_register(second)?),
                Opcode::XCHG => Operation::Exchange(to_register(first)?),
                Opcode::STOS => Operation::StoreString,
                Opcode::LODS => Operation::LoadString,
                Opcode::MOVS => Operation::MoveString,
                Opcode::INS => Operation::PortToString,
                Opcode::OUTS => Operation::StringToPort,
                _ => return Err(OTHER),
            };
            let prefixes = decoded.prefixes;
            let size = match decoded.mem_size().and_then(|size| size.bytes_size()) {
                Some(size @ (1 | 2 | 4 | 8)) => size,
                _ => return Err(OPERANDS),
            };
            Ok(Instruction {
                length: decoded.len().to_const() as u8,
                operation,
                size,
                repeats: prefixes.rep_any(),
                address_size: if prefixes.address_size() { $other } else { $default },
                source_segment: match prefixes.segment() {
                    $mode::Segment::ES => Segment::Es,
                    $mode::Segment::CS => Segment::Cs,
                    $mode::Segment::SS => Segment::Ss,
                    $mode::Segment::DS => Segment::Ds,
                    $mode::Segment::FS => Segment::Fs,
                    $mode::Segment::GS => Segment::Gs,
                },
            })
        }
    };
    (@immediate long_mode $operand:ident) => {
        match $operand {
            long_mode::Operand::ImmediateI64 { imm } => Ok(imm as u64),
            long_mode::Operand::ImmediateU64 { imm } => Ok(imm),
            other => decoder!(@short_immediate long_mode other),
        }
    };
    (@immediate $mode:ident $operand:ident) => { decoder!(@short_immediate $mode $operand) };
    (@short_immediate $mode:ident $operand:ident) => {
        match $operand {
            $mode::Operand::ImmediateI8 { imm } => Ok(i64::from(imm) as u64),
            $mode::Operand::ImmediateU8 { imm } => Ok(u64::from(imm)),
            $mode::Operand::ImmediateI16 { imm } => Ok(i64::from(imm) as u64),
            $mode::Operand::ImmediateU16 { imm } => Ok(u64::from(imm)),
            $mode::Operand::ImmediateI32 { imm } => Ok(i64::from(imm) as u64),
            $mode::Operand::ImmediateU32 { imm } => Ok(u64::from(imm)),
            _ => Err(OPERANDS),
        }
    };
}

decoder!(long, long_mode, default_address: 8, other_address: 4,
    byte_classes: long_mode::register_class::B, long_mode::register_class::RB);
decoder!(protected, protected_mode, default_address: 4, other_address: 2,
    byte_classes: protected_mode::register_class::B);
decoder!(real, real_mode, default_address: 2, other_address: 4,
    byte_classes: real_mode::register_class::B);

#[cfg(test)]
#[path = "instruction_tests.rs"]
mod tests;
