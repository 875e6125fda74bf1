//! The words of a frame, two by two: many are looked at in little time.

use core::cell::Cell;

/// A frame's words.
type Pairs = [Cell<u64>; 512];

/// What is added to two neighbouring numbers in a pair for the next two.
pub const NEXT: u64 = 2 | 2 << 32;
/// Pairs that are looked at together.
const TOGETHER: usize = 8;

/// Word `place`, if the frame has it.
#[inline(always)]
fn word(pairs: &Pairs, place: usize) -> Option<u32> {
    let pair = pairs.get(place / 2)?.get();
    Some(if place.is_multiple_of(2) { pair as u32 } else { (pair >> 32) as u32 })
}

/// How many words from `index` on are all 0, of at most `most`. What would lie behind the frame is left out.
#[inline]
pub fn zeros(pairs: &Pairs, index: usize, most: usize) -> usize {
    let behind = (index + most).min(2 * pairs.len());
    let mut place = index;
    if place % 2 == 1 && place < behind && word(pairs, place) == Some(0) {
        place += 1;
    }
    if place.is_multiple_of(2) {
        let all = pairs.get(place / 2..behind / 2).unwrap_or_default();
        let is_zero = |group: &&[Cell<u64>; TOGETHER]| group.iter().fold(0, |seen, pair| seen | pair.get()) == 0;
        place += 2 * TOGETHER * all.as_chunks().0.iter().take_while(is_zero).count();
        while place < behind && word(pairs, place) == Some(0) {
            place += 1;
        }
    }
    place - index
}

/// How many words from `index` on are `value` and the numbers behind it, of at most `most`. What would lie behind the frame is
/// left out.
#[inline]
pub fn row(pairs: &Pairs, index: usize, most: usize, value: u32) -> usize {
    let behind = (index + most).min(2 * pairs.len());
    let number = |place: usize| value.wrapping_add((place - index) as u32);
    let goes_on = |place: usize| place < behind && word(pairs, place) == Some(number(place));
    let mut place = index + usize::from(index % 2 == 1 && goes_on(index));
    if place.is_multiple_of(2) {
        let mut both = u64::from(number(place)) | u64::from(number(place + 1)) << 32;
        for pair in pairs.get(place / 2..behind / 2).unwrap_or_default() {
            if pair.get() != both {
                break;
            }
            place += 2;
            both = both.wrapping_add(NEXT);
        }
        place += usize::from(goes_on(place));
    }
    place - index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of these words, zeros behind them.
    fn frame(words: impl Fn(usize) -> u32) -> Pairs {
        core::array::from_fn(|pair| Cell::new(u64::from(words(2 * pair)) | u64::from(words(2 * pair + 1)) << 32))
    }

    /// The same one by one.
    fn one_by_one(index: usize, most: usize, right: impl Fn(usize) -> bool) -> usize {
        (index..(index + most).min(1024)).take_while(|place| right(*place)).count()
    }

    #[test]
    fn zeros_are_counted_as_one_by_one() {
        for end in (0..80).chain([1000, 1022, 1023, 1024]) {
            let words = |place: usize| u32::from(place == end || place + 40 == end);
            let pairs = frame(words);
            for index in (0..90).chain(960..=1024) {
                for most in [0, 1, 2, 3, 15, 16, 17, 18, 33, 64, 1024] {
                    let wanted = one_by_one(index, most, |place| words(place) == 0);
                    assert_eq!(zeros(&pairs, index, most), wanted, "{index} {most} {end}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_counted_as_one_by_one() {
        for (begin, end) in [(0, 1024), (0, 1), (3, 4), (3, 40), (4, 40), (4, 41), (1000, 1024), (1001, 1023)] {
            let words = |place: usize| if (begin..end).contains(&place) { 7 + place as u32 } else { 0 };
            let pairs = frame(words);
            for index in (0..60).chain(980..=1024) {
                for most in [0, 1, 2, 3, 16, 17, 1024] {
                    for value in [7 + index as u32, 8 + index as u32, 0] {
                        let goes_on = |place: usize| words(place) == value + (place - index) as u32;
                        let wanted = one_by_one(index, most, goes_on);
                        assert_eq!(row(&pairs, index, most, value), wanted, "{begin}..{end}: {index} {most} {value}");
                    }
                }
            }
        }
    }
}
