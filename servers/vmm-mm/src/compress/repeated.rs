//! A page in which one word is most of it: that word, a bit for each word that is another, and those.
//!
//! Much of what guests leave lying about is so: a word repeated, mostly zeros, with something between. Finding matches as LZ4
//! does costs ten times of that, and needs more bytes for it.

use crate::machine::{FRAME, Memory, PageBytes};

/// Words of 8 bytes in a page.
const WORDS: usize = FRAME / 8;
/// Other words that a page may have: more are for LZ4.
const OTHERS: usize = WORDS / 2;
/// Words in front of the others: the repeated one, and the bits.
const HEAD: usize = 1 + WORDS / 64;
/// Bytes that a page can need.
pub const MOST: usize = (HEAD + OTHERS) * 8;

/// One of the page's words that is likely to be most of it: the vote of some.
fn candidate(words: &[[u8; 8]]) -> u64 {
    let (mut leader, mut lead) = (0, 0u32);
    // At distances that no structure of the page's has.
    for word in words.iter().step_by(17) {
        let word = u64::from_le_bytes(*word);
        if lead == 0 {
            (leader, lead) = (word, 1);
        } else if word == leader {
            lead += 1;
        } else {
            lead -= 1;
        }
    }
    leader
}

/// Packs `page` into `bytes`, which have room for [`MOST`]; says how many it needs, or `None` when no word is most of it. 0 is
/// said of a page of zeros.
pub fn pack(page: &PageBytes, bytes: &mut [u8]) -> Option<usize> {
    let (words, _) = page.as_chunks::<8>();
    let (out, _) = bytes.as_chunks_mut::<8>();
    let (head, others) = out.split_at_mut_checked(HEAD)?;
    let others = others.get_mut(..OTHERS)?;
    let base = candidate(words);
    let mut count = 0;
    head[0] = base.to_le_bytes();
    for (row, bits) in words.as_chunks::<64>().0.iter().zip(&mut head[1..]) {
        let mut differ = 0u64;
        // Eight at a time: what is usual, a word like the last, is two instructions then.
        for (n, eight) in row.as_chunks::<8>().0.iter().enumerate() {
            for (m, word) in eight.iter().enumerate() {
                if u64::from_le_bytes(*word) != base {
                    *others.get_mut(count)? = *word;
                    count += 1;
                    differ |= 1 << (n * 8 + m);
                }
            }
        }
        *bits = differ.to_le_bytes();
    }
    if base == 0 && count == 0 { Some(0) } else { Some((HEAD + count) * 8) }
}

/// Unpacks `bytes` into `frame`; false when they are not those of a page, and nothing is written then.
#[must_use]
pub fn unpack(bytes: &[u8], frame: u32, memory: &mut impl Memory) -> bool {
    let (stored, rest) = bytes.as_chunks::<8>();
    let Some((head, others)) = stored.split_at_checked(HEAD).filter(|_| rest.is_empty()) else { return false };
    let bits = head[1..].iter().map(|bits| u64::from_le_bytes(*bits));
    if bits.clone().map(u64::count_ones).sum::<u32>() as usize != others.len() {
        return false;
    }
    memory.fill(frame, u64::from_le_bytes(head[0]));
    let mut others = others.iter();
    for (row, mut differ) in bits.enumerate() {
        while differ != 0 {
            // There are as many as there are bits.
            let Some(word) = others.next() else { return false };
            memory.set_pair(frame, row * 64 + differ.trailing_zeros() as usize, u64::from_le_bytes(*word));
            differ &= differ - 1;
        }
    }
    true
}
