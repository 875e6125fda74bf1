//! Page tables of every kind: one forward walk for every level, for EPT and for tasks alike.
//!
//! The walk knows neither the bits of an entry ([`Format`]) nor where tables lie ([`TableMemory`]), so the host
//! tests it over tables of their own.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use ipc_proto::grant::{MemType, Pfn, Rights, SeenBy};

/// One table: 512 entries.
pub type Table = [AtomicU64; 512];

/// The bits of one kind of table.
pub trait Format {
    /// An entry that refers to the table in `pfn`.
    fn table(pfn: Pfn) -> u64;
    /// An entry that maps a page of `level` at `pfn`.
    fn leaf(pfn: Pfn, level: u8, rights: Rights, mem_type: MemType) -> u64;
    /// What an entry of a table of `level` says.
    fn decode(entry: u64, level: u8) -> Entry;
    /// The table that an entry of a table above level 1 refers to: what [`Format::decode`] says of tables, for the walk.
    fn next(entry: u64) -> Option<Pfn>;
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is there.
    Empty,
    /// A table of the level below.
    Table(Pfn),
    /// A page.
    Leaf(Leaf),
}

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its first frame.
    pub pfn: Pfn,
    /// What was granted.
    pub rights: Rights,
    /// What of it the CPU allows.
    pub allowed: Rights,
    /// How it is cached.
    pub mem_type: MemType,
    /// Whether it was used since the bit was cleared.
    pub accessed: bool,
    /// Whether it was written since the bit was cleared.
    pub dirty: bool,
    /// Whether windows show it.
    pub seen_by: SeenBy,
}

/// Where tables lie.
pub trait TableMemory {
    /// The table in frame `pfn`.
    fn table(&self, pfn: Pfn) -> &Table;
}

/// The level of the root table.
pub const TOP: u8 = 4;

/// How many 4 KiB pages an entry of `level` covers.
#[must_use]
pub const fn pages(level: u8) -> u64 {
    1 << (9 * (level as u32 - 1))
}

/// The index of `page` in a table of `level`.
const fn index(page: u64, level: u8) -> usize {
    ((page >> (9 * (level as u32 - 1))) & 511) as usize
}

/// A tree of tables.
pub struct Tree<'m, F, M> {
    root: Pfn,
    memory: &'m M,
    format: PhantomData<F>,
}

/// Where a walk ended: an entry and what was in it.
#[derive(Clone, Copy)]
pub struct Place<'m> {
    /// The table.
    pub table: &'m Table,
    /// Which entry.
    pub index: usize,
    /// The table's level.
    pub level: u8,
    /// The entry when the walk read it.
    pub entry: u64,
}

impl<'m, F: Format, M: TableMemory> Tree<'m, F, M> {
    /// The tree that begins with the table in `root`.
    #[must_use]
    pub const fn new(root: Pfn, memory: &'m M) -> Self {
        Self { root, memory, format: PhantomData }
    }

    /// Walks towards the entry of `page` in a table of `level`, as far as there are tables.
    #[must_use]
    pub fn find(&self, page: u64, level: u8) -> Place<'m> {
        self.walk(page, level)
    }

    /// [`Tree::find`] as a part of its caller: for the fault path, where the level is known when it is compiled.
    #[inline(always)]
    #[must_use]
    pub fn walk(&self, page: u64, level: u8) -> Place<'m> {
        let mut at = TOP;
        let mut table = self.memory.table(self.root);
        loop {
            let index = index(page, at);
            let entry = table[index].load(Ordering::Relaxed);
            if at == level {
                return Place { table, index, level: at, entry };
            }
            let Some(next) = F::next(entry) else { return Place { table, index, level: at, entry } };
            table = self.memory.table(next);
            at -= 1;
        }
    }

    /// Goes on from an empty place down to `level`, with tables from `supply`: one for each level.
    /// Returns nothing when there are too few; those that were linked by then stay.
    pub fn extend(
        &self,
        mut place: Place<'m>,
        page: u64,
        level: u8,
        mut supply: impl FnMut() -> Option<Pfn>,
    ) -> Option<Place<'m>> {
        while place.level > level {
            let pfn = supply()?;
            place.table[place.index].store(F::table(pfn), Ordering::Release);
            let below = place.level - 1;
            let table = self.memory.table(pfn);
            place = Place { table, index: index(page, below), level: below, entry: 0 };
        }
        Some(place)
    }

    /// The entries on the way to `page`, from the root's down, and in word 4 how many there are.
    #[must_use]
    pub fn path(&self, page: u64) -> [u64; 6] {
        let mut path = [0; 6];
        for (n, level) in (1..=TOP).rev().enumerate() {
            let place = self.find(page, level);
            if place.level == level {
                path[n] = place.entry;
                path[4] += 1;
            }
        }
        path
    }

    /// The page that maps `page`, and its level.
    #[must_use]
    pub fn leaf(&self, page: u64) -> Option<(Leaf, u8)> {
        let place = self.find(page, 1);
        match F::decode(place.entry, place.level) {
            Entry::Leaf(leaf) => Some((leaf, place.level)),
            Entry::Empty | Entry::Table(_) => None,
        }
    }

    /// Visits the entries that cover `first..end`, in order, as far as they lie beside each other and refer to no table:
    /// the first page of the first, its place, and how many. `visit` says whether to go on. It walks from the root once
    /// for each table, not for each page.
    #[inline(always)]
    pub fn runs(&self, first: u64, end: u64, mut visit: impl FnMut(u64, Place<'m>, usize) -> bool) {
        let mut page = first;
        while page < end {
            let place = self.find(page, 1);
            let size = pages(place.level);
            let start = page & !(size - 1);
            let mut count = (end - start).div_ceil(size).min(512 - place.index as u64) as usize;
            if place.level > 1 {
                let rest = &place.table[place.index + 1..place.index + count];
                let table = rest.iter().position(|entry| F::next(entry.load(Ordering::Relaxed)).is_some());
                count = table.map_or(count, |at| at + 1);
            }
            if !visit(start, place, count) {
                return;
            }
            let Some(next) = start.checked_add(count as u64 * size) else { return };
            page = next;
        }
    }

    /// Visits every leaf that covers a page of `first..end`, in order; `visit` says whether to go on.
    pub fn leaves(&self, first: u64, end: u64, mut visit: impl FnMut(u64, Place<'m>, Leaf) -> bool) {
        self.runs(first, end, |start, Place { table, index, level, .. }, count| {
            (0..count).all(|n| {
                let entry = table[index + n].load(Ordering::Relaxed);
                let page = start + n as u64 * pages(level);
                match F::decode(entry, level) {
                    Entry::Leaf(leaf) => visit(page, Place { table, index: index + n, level, entry }, leaf),
                    Entry::Empty | Entry::Table(_) => true,
                }
            })
        });
    }

    /// Visits every table below the root: its level, and the first page it covers.
    pub fn tables(&self, visit: &mut impl FnMut(Pfn, u8, u64)) {
        self.tables_below(self.root, TOP, 0, visit);
    }

    fn tables_below(&self, table: Pfn, level: u8, first: u64, visit: &mut impl FnMut(Pfn, u8, u64)) {
        for (index, entry) in self.memory.table(table).iter().enumerate() {
            if let Entry::Table(next) = F::decode(entry.load(Ordering::Relaxed), level) {
                let first = first + index as u64 * pages(level);
                visit(next, level - 1, first);
                if level > 2 {
                    self.tables_below(next, level - 1, first, visit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
