//! What a policy sees of a VM's pages, and what it may answer.

use ipc_proto::grant::Gfn;

/// One bit for each of up to 512 pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits([u64; 8]);

impl Bits {
    /// None is set.
    pub const NONE: Self = Self([0; 8]);

    /// From words with bit 0 of the first for the first page.
    #[must_use]
    pub const fn from_words(words: [u64; 8]) -> Self {
        Self(words)
    }

    /// Whether bit `n` is set; none is beyond 511.
    #[must_use]
    pub fn has(&self, n: usize) -> bool {
        self.0.get(n / 64).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }

    /// Sets bit `n`; beyond 511 there is none.
    pub fn set(&mut self, n: usize) {
        if let Some(word) = self.0.get_mut(n / 64) {
            *word |= 1 << (n % 64);
        }
    }

    /// Up to 32 bits from bit `n` on; beyond 511 none is set.
    #[must_use]
    pub fn row(&self, n: usize, count: u32) -> u32 {
        let word = |number| u128::from(self.0.get(number).copied().unwrap_or(0));
        let bits = (word(n / 64) | word(n / 64 + 1) << 64) >> (n % 64);
        bits as u32 & u32::MAX.checked_shr(32 - count).unwrap_or(0)
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those that are set here and not there.
    #[must_use]
    pub fn without(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    /// Those that are set in both.
    #[must_use]
    pub fn both(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }
}

/// Some neighbouring pages of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The VM's place in the manifest.
    pub vm: usize,
    /// The first page.
    pub gfn: Gfn,
    /// How many there are: 512 at most.
    pub pages: u16,
    /// Which have a frame of their own.
    pub resident: Bits,
    /// Which were used since this was last asked; `None` when nobody asked for it, or the machine does not tell.
    pub accessed: Option<Bits>,
    /// Why it is shown.
    pub purpose: Purpose,
}

/// Why pages are shown to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames are needed: a fault waits. So many rounds through all pages have found none.
    Frames {
        /// 0 for the first.
        round: u8,
    },
    /// It is time, as [`Duties::period`] asks.
    Time {
        /// Whether these are the first pages of a round.
        begins: Begins,
    },
}

/// Whether pages are the first of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// They are.
    Round,
    /// They are not.
    Nothing,
}

/// What shall be done with the pages of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// These give their frames up; their content is kept.
    pub evict: Bits,
    /// These are compared with others, and have one frame with those that are equal.
    pub merge: Bits,
}

impl Verdict {
    /// Nothing.
    pub const KEEP: Self = Self { evict: Bits::NONE, merge: Bits::NONE };
}

/// What a policy does beside answering faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Whether slots may be larger than the frames there are.
    pub overcommit: Overcommit,
    /// One of so many frames is kept free, where frames are taken back; with 0 nothing is taken back before a fault waits for it.
    pub free: u32,
    /// Ticks between two views that are shown without need; `None` for never.
    pub period: Option<u64>,
    /// What is asked of the machine for such a view.
    pub looks: Looks,
}

/// Whether slots may be larger than the frames there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overcommit {
    /// A slot is refused for which frames could lack.
    No,
    /// When frames lack, some are taken back.
    Yes,
}

/// What a policy wants to know of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Which were used.
    Accessed,
    /// Only which there are.
    Resident,
}

/// What a page gets that is read before it was ever written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPages {
    /// A frame of its own.
    Own,
    /// The VM's shared frame of zeros, until it is written.
    Shared,
}

impl Duties {
    /// None.
    pub const NONE: Self = Self { overcommit: Overcommit::No, free: 32, period: None, looks: Looks::Resident };
}
