//! The guest's memory as its server sees it: where RAM is, and how bytes of it are reached.

use heapless::Vec;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, Space};

/// End of conventional memory; from here to [`BIOS`] is the hole of the video memory.
pub const CONVENTIONAL_END: u64 = 0xa_0000;
/// The BIOS area: the guest only reads it.
pub const BIOS: u64 = 0xc_0000;
/// Where memory goes on above the BIOS area.
pub const HIGH: u64 = 0x10_0000;
/// RAM ends here at the latest, and goes on at [`ABOVE_4G`].
pub const LOW_END: u64 = 3 << 30;
/// The RAM that found no place below [`LOW_END`].
pub const ABOVE_4G: u64 = 4 << 30;
/// The least RAM that a machine can have.
pub const LEAST: u64 = 2 << 20;
/// The slot of the BIOS area.
pub const BIOS_SLOT: SlotId = SlotId(1);

/// An address that is no RAM, or no memory that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam;

/// Bytes of the guest's physical memory.
pub trait GuestMemory {
    /// Fills `bytes` from guest-physical `gpa` on.
    ///
    /// # Errors
    /// [`NotRam`] when not all of it is memory.
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), NotRam>;

    /// `N` bytes from guest-physical `gpa` on.
    ///
    /// # Errors
    /// [`NotRam`] when not all of it is memory.
    #[inline(always)]
    fn array<const N: usize>(&self, gpa: u64) -> Result<[u8; N], NotRam>
    where
        Self: Sized,
    {
        let mut bytes = [0; N];
        self.read(gpa, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes `bytes` to guest-physical `gpa` on.
    ///
    /// # Errors
    /// [`NotRam`] when not all of it is memory that can be written; nothing has been written then.
    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam>;
}

/// The extended BIOS data area, of which nothing is used, begins here.
const EBDA: u64 = 0x9_fc00;

/// What a range of the firmware's memory map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Free memory.
    Ram,
    /// The firmware's.
    Reserved,
}

/// One entry of the firmware's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// What it is.
    pub kind: RangeKind,
}

/// Where the RAM of a machine lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamMap {
    bytes: u64,
}

impl RamMap {
    /// The map of a machine of `bytes` of RAM, at least [`LEAST`].
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self { bytes: if bytes < LEAST { LEAST } else { bytes } }
    }

    /// How much RAM there is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Where RAM below 4 GiB ends.
    #[must_use]
    pub const fn low_end(self) -> u64 {
        if self.bytes < LOW_END { self.bytes } else { LOW_END }
    }

    /// Where RAM ends altogether.
    #[must_use]
    pub const fn end(self) -> u64 {
        if self.bytes <= LOW_END { self.bytes } else { ABOVE_4G + self.bytes - LOW_END }
    }

    /// The slots that make this RAM, to be created in this order. The BIOS area is made read-only when it is filled.
    #[must_use]
    pub fn slots(self) -> Vec<Slot, 4> {
        let ranges =
            [(0, CONVENTIONAL_END), (BIOS, HIGH), (HIGH, self.low_end()), (ABOVE_4G, self.end().max(ABOVE_4G))];
        let slot = |(number, (base, end)): (usize, (u64, u64))| Slot {
            id: SlotId(number as u16),
            space: Space::Normal,
            base: Gfn(base >> 12),
            pages: (end - base) >> 12,
            flags: SlotFlags::empty(),
        };
        ranges.into_iter().enumerate().map(slot).filter(|slot| slot.pages > 0).collect()
    }

    /// The map that firmware would give to a guest: INT 15h, function E820h.
    #[must_use]
    pub fn firmware_map(self) -> Vec<Range, 5> {
        let ranges = [
            (0, EBDA, RangeKind::Ram),
            (EBDA, CONVENTIONAL_END, RangeKind::Reserved),
            (BIOS, HIGH, RangeKind::Reserved),
            (HIGH, self.low_end(), RangeKind::Ram),
            (ABOVE_4G, self.end(), RangeKind::Ram),
        ];
        ranges
            .into_iter()
            .map(|(start, end, kind)| Range { start, end, kind })
            .filter(|range| range.start < range.end)
            .collect()
    }

    /// Whether all of `len` bytes from `gpa` on can be read.
    #[inline]
    #[must_use]
    pub const fn holds(self, gpa: u64, len: u64) -> bool {
        let Some(end) = gpa.checked_add(len) else { return false };
        end <= CONVENTIONAL_END || (gpa >= BIOS && end <= self.low_end()) || (gpa >= ABOVE_4G && end <= self.end())
    }

    /// Whether all of `len` bytes from `gpa` on can be written: all that can be read, without the BIOS area.
    #[must_use]
    pub const fn writable(self, gpa: u64, len: u64) -> bool {
        self.holds(gpa, len) && (gpa + len <= CONVENTIONAL_END || gpa >= HIGH)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
