//! What was set at run time: the policy, and the guests' memory types. They are in the head.
//!
//! The policy's words lie there twice, each time with a number and a checksum: while one is written, the other holds. A
//! register of memory types is written at once.

use super::{Keeper, settled, sum};
use crate::machine::{Memory, WORDS};
use crate::mtrr::REGISTERS;
use ipc_proto::manifest::MAX_VMS;
use ipc_proto::text::Text;

/// The two copies: the first word of each is its checksum, then come its number and the text.
const COPIES: [usize; 2] = [640, 704];
/// Words of a text, which is padded with zeroes.
const TEXT: usize = Text::LONGEST.div_ceil(4);
/// The first pair of words that is a register; each VM has as many as there are.
const PAIRS: usize = 64;
const _: () = assert!(2 * (PAIRS + MAX_VMS * REGISTERS.len()) <= COPIES[0] && COPIES[1] + 2 + TEXT <= WORDS);

impl Keeper {
    /// The policy is the one that the words name.
    pub fn set_policy(&self, words: &Text, memory: &mut impl Memory) {
        let Some(head) = self.head.checked_sub(1) else { return };
        let [first, second] = COPIES.map(|copy| number_of(head, copy, memory));
        let (copy, last) = if first > second { (COPIES[1], first) } else { (COPIES[0], second) };
        let number = last.unwrap_or(0) + 1;
        memory.set_word(head, copy, 0);
        settled();
        memory.set_word(head, copy + 1, number);
        for (place, bytes) in padded(words).as_chunks::<4>().0.iter().enumerate() {
            memory.set_word(head, copy + 2 + place, u32::from_le_bytes(*bytes));
        }
        settled();
        memory.set_word(head, copy, sum((1..TEXT + 2).map(|place| memory.word(head, copy + place))));
    }

    /// The words of the policy that was chosen last, if one was.
    #[must_use]
    pub fn policy(&self, memory: &impl Memory) -> Option<Text> {
        let head = self.head.checked_sub(1)?;
        let [first, second] = COPIES.map(|copy| number_of(head, copy, memory));
        let copy = COPIES[usize::from(second > first)];
        first.or(second)?;
        let mut bytes = [0; TEXT * 4];
        memory.read_at(head, copy + 2, &mut bytes);
        let text = core::str::from_utf8(&bytes).ok()?;
        Some(Text::cut(text.trim_end_matches('\0')))
    }

    /// The guest of the VM has written a register of memory types.
    pub fn set_memory_type(&self, vm: usize, register: u32, value: u64, memory: &mut impl Memory) {
        let place = REGISTERS.iter().position(|known| *known == register);
        if let (Some(head), Some(place)) = (self.head.checked_sub(1), place) {
            memory.set_pair(head, PAIRS + vm * REGISTERS.len() + place, value);
        }
    }

    /// The registers of the VM that are not as after a reset, and their values.
    pub fn memory_types(&self, vm: usize, memory: &impl Memory) -> impl Iterator<Item = (u32, u64)> {
        let value = move |place: usize| {
            let at = 2 * (PAIRS + vm * REGISTERS.len() + place);
            let head = self.head.checked_sub(1)?;
            Some(u64::from(memory.word(head, at)) | u64::from(memory.word(head, at + 1)) << 32)
        };
        REGISTERS
            .iter()
            .enumerate()
            .filter_map(move |(place, register)| Some((*register, value(place).filter(|value| *value != 0)?)))
    }
}

/// The number of a copy that is whole.
fn number_of(head: u32, copy: usize, memory: &impl Memory) -> Option<u32> {
    // A checksum is never 0.
    let there = memory.word(head, copy) != 0;
    let right = there && memory.word(head, copy) == sum((1..TEXT + 2).map(|place| memory.word(head, copy + place)));
    right.then(|| memory.word(head, copy + 1))
}

fn padded(words: &Text) -> [u8; TEXT * 4] {
    let mut bytes = [0; TEXT * 4];
    bytes.iter_mut().zip(words.as_str().bytes()).for_each(|(to, from)| *to = from);
    bytes
}
