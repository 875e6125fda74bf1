//! The pattern: words of a linear congruential sequence in each page, begun from the page's number and the pass.
//!
//! Between two of them the page's first word is repeated, so that a page becomes a quarter of its size when it is
//! compressed (LZ4: 12 bytes for six words); or there is nothing between them, and it does not become smaller.

const PAGE_WORDS: usize = 512;

/// How much of a page is the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Every sixth word.
    Quarter,
    /// Every word.
    Noise,
}

impl Fill {
    /// By the kernel's command line: `fill=noise`, or nothing of the kind.
    #[must_use]
    pub fn from_command_line(line: &[u8]) -> Self {
        let noise = line.split(u8::is_ascii_whitespace).any(|word| word == b"fill=noise");
        if noise { Self::Noise } else { Self::Quarter }
    }

    /// So many words from one of the sequence to the next.
    const fn distance(self) -> usize {
        match self {
            Self::Quarter => 6,
            Self::Noise => 1,
        }
    }
}

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

fn seed(page: usize, pass: u64) -> u64 {
    ((page as u64) << 8 | pass).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const fn next(word: u64) -> u64 {
    word.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)
}

/// Fills every page, and gives the sum of what was written.
pub fn fill(words: &mut [u64], pass: u64, fill: Fill) -> u64 {
    let mut sum = 0u64;
    for (number, page) in words.chunks_exact_mut(PAGE_WORDS).enumerate() {
        let first = seed(number, pass);
        let mut value = first;
        for group in page.chunks_mut(fill.distance()) {
            value = next(value);
            let repeated = group.len() as u64 - 1;
            sum = sum.wrapping_add(value).wrapping_add(first.wrapping_mul(repeated));
            group.fill(first);
            group[0] = value;
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
pub fn verify(words: &[u64], pass: u64, fill: Fill) -> Result<u64, usize> {
    let mut sum = 0u64;
    for (number, page) in words.chunks_exact(PAGE_WORDS).enumerate() {
        let first = seed(number, pass);
        let mut value = first;
        let mut differences = 0;
        for group in page.chunks(fill.distance()) {
            value = next(value);
            differences |= group[0] ^ value;
            sum = sum.wrapping_add(group[0]);
            for word in &group[1..] {
                differences |= *word ^ first;
                sum = sum.wrapping_add(*word);
            }
        }
        if differences != 0 {
            return Err(number);
        }
    }
    Ok(sum)
}
