//! The pattern: a linear congruential sequence in each page, begun from the page's number and the pass.

const PAGE_WORDS: usize = 512;
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

fn seed(page: usize, pass: u64) -> u64 {
    ((page as u64) << 8 | pass).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const fn next(word: u64) -> u64 {
    word.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)
}

/// Fills every page, and gives the sum of what was written.
pub fn fill(words: &mut [u64], pass: u64) -> u64 {
    let mut sum = 0u64;
    for (number, page) in words.chunks_exact_mut(PAGE_WORDS).enumerate() {
        let mut value = seed(number, pass);
        for word in page {
            *word = value;
            sum = sum.wrapping_add(value);
            value = next(value);
        }
    }
    // What follows reads memory, not what the compiler remembers of it.
    core::hint::black_box(words);
    sum
}

/// Compares every word, and gives the sum of what was read.
///
/// # Errors
/// The first page that holds something else.
pub fn verify(words: &[u64], pass: u64) -> Result<u64, usize> {
    let mut sum = 0u64;
    for (number, page) in words.chunks_exact(PAGE_WORDS).enumerate() {
        let mut value = seed(number, pass);
        let mut differences = 0;
        for word in page {
            differences |= *word ^ value;
            sum = sum.wrapping_add(*word);
            value = next(value);
        }
        if differences != 0 {
            return Err(number);
        }
    }
    Ok(sum)
}
