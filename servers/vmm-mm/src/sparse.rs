//! A number for each of many keys, in frames of the pager's own: 0 for all that were never set.

use crate::machine::{Memory, WORDS};
use crate::pool::{Frame, Pool};
use crate::store::OutOfFrames;

/// log2 of the numbers in a frame.
const SHIFT: u32 = WORDS.trailing_zeros();
/// Keys are below this.
pub const KEYS: u32 = 1 << (3 * SHIFT);

/// The root of three levels of frames with 1024 entries each; those above the last name a frame by its index plus one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sparse(u32);

impl Sparse {
    /// All 0.
    pub const EMPTY: Self = Self(0);

    /// The number of `key`.
    #[must_use]
    pub fn get(&self, key: u32, memory: &impl Memory) -> u32 {
        let mut entry = self.0;
        for shift in [2 * SHIFT, SHIFT, 0] {
            let Some(frame) = entry.checked_sub(1) else { return 0 };
            entry = memory.word(frame, index(key, shift));
        }
        entry
    }

    /// Sets the number of `key`.
    ///
    /// # Errors
    /// [`OutOfFrames`]; the number is as before then.
    pub fn set(&mut self, key: u32, value: u32, pool: &mut Pool, memory: &mut impl Memory) -> Result<(), OutOfFrames> {
        let mut frame = match self.0.checked_sub(1) {
            Some(root) => root,
            None => {
                let root = new(pool, memory)?;
                self.0 = root + 1;
                root
            }
        };
        for shift in [2 * SHIFT, SHIFT] {
            frame = match memory.word(frame, index(key, shift)).checked_sub(1) {
                Some(below) => below,
                None => {
                    let below = new(pool, memory)?;
                    memory.set_word(frame, index(key, shift), below + 1);
                    below
                }
            };
        }
        memory.set_word(frame, index(key, 0), value);
        Ok(())
    }

    /// Sets every number to 0 and gives the frames back.
    pub fn clear(&mut self, pool: &mut Pool, memory: &mut impl Memory) {
        drain(core::mem::take(&mut self.0), 2, pool, memory);
    }
}

fn new(pool: &mut Pool, memory: &mut impl Memory) -> Result<u32, OutOfFrames> {
    pool.take_spare(memory).map(Frame::into_index).ok_or(OutOfFrames)
}

/// Gives a frame and the `levels` below it back.
fn drain(entry: u32, levels: u32, pool: &mut Pool, memory: &mut impl Memory) {
    let Some(frame) = entry.checked_sub(1) else { return };
    if let Some(below) = levels.checked_sub(1) {
        (0..WORDS).for_each(|place| drain(memory.word(frame, place), below, pool, memory));
    }
    pool.release_spare(Frame::from_index(frame), memory);
}

const fn index(key: u32, shift: u32) -> usize {
    (key >> shift) as usize % WORDS
}

#[cfg(test)]
mod tests {
    use super::{KEYS, Sparse};
    use crate::pool::Pool;
    use crate::store::OutOfFrames;
    use crate::testing::FakeMachine;

    #[test]
    fn a_number_stays_and_its_frames_come_back() {
        let (mut pool, mut machine, mut sparse) = (Pool::empty(), FakeMachine::default(), Sparse::EMPTY);
        pool.open(0, 0, 6, &mut machine);
        let keys = [0, 1023, 1024, KEYS - 1];
        for (value, key) in (7..).zip(keys) {
            assert_eq!(sparse.get(key, &machine), 0);
            sparse.set(key, value, &mut pool, &mut machine).expect("frames");
        }
        assert_eq!(keys.map(|key| sparse.get(key, &machine)), [7, 8, 9, 10]);
        assert_eq!((pool.left(), sparse.set(1 << 15, 1, &mut pool, &mut machine)), (0, Err(OutOfFrames)));
        assert_eq!(sparse.get(1 << 15, &machine), 0);
        sparse.clear(&mut pool, &mut machine);
        assert_eq!((pool.left(), sparse), (6, Sparse::EMPTY));
    }
}
