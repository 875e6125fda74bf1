//! Guest-physical addresses that are no RAM: the local APIC's page, and nothing else. What nobody has reads all ones.

use crate::alu::mask;
use crate::lapic::Lapic;
use crate::memory::GuestMemory;
use crate::tally::Tally;

/// The devices behind memory addresses.
#[derive(Clone, Debug, Default)]
pub struct Mmio {
    lapic: Lapic,
    /// Pages that nobody has, by their address.
    pub unknown: Tally,
}

impl Mmio {
    /// The devices after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { lapic: Lapic::new(), unknown: Tally::new() }
    }

    /// Reads `size` bytes (at most 8, within one page), from memory where it is memory.
    pub fn load(&mut self, memory: &impl GuestMemory, gpa: u64, size: u8) -> u64 {
        let mut bytes = [0; 8];
        let value = if memory.read(gpa, &mut bytes[..usize::from(size.min(8))]).is_ok() {
            u64::from_le_bytes(bytes)
        } else {
            self.lapic.read(gpa).unwrap_or_else(|| {
                self.miss(gpa);
                u64::MAX
            })
        };
        value & mask(size)
    }

    /// Writes `size` bytes (at most 8, within one page), to memory where it is memory. A write to read-only memory is
    /// ignored.
    pub fn store(&mut self, memory: &mut impl GuestMemory, gpa: u64, size: u8, value: u64) {
        let bytes = &value.to_le_bytes()[..usize::from(size.min(8))];
        if memory.write(gpa, bytes).is_err() && self.lapic.write(gpa, value & mask(size)).is_none() {
            self.miss(gpa);
        }
    }

    fn miss(&mut self, gpa: u64) {
        if self.unknown.count(gpa & !0xfff) {
            log::debug!("nobody has memory at {gpa:#x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mmio;
    use crate::memory::GuestMemory;
    use crate::testing::Memory;

    #[test]
    fn a_hole_reads_all_ones_and_is_counted_by_page() {
        let (mut mmio, mut memory) = (Mmio::new(), Memory::new(4 << 20));
        assert_eq!(mmio.load(&memory, 0xb_8000, 2), 0xffff);
        mmio.store(&mut memory, 0xb_8002, 2, 0x0720);
        assert_eq!(mmio.load(&memory, 0xd000_0000, 4), 0xffff_ffff);
        assert_eq!(mmio.unknown.iter().collect::<std::vec::Vec<_>>(), [(0xb_8000, 2), (0xd000_0000, 1)]);
    }

    #[test]
    fn memory_stays_memory_and_the_bios_area_cannot_be_written() {
        let (mut mmio, mut memory) = (Mmio::new(), Memory::new(4 << 20));
        mmio.store(&mut memory, 0x1000, 4, 0x1122_3344);
        assert_eq!(mmio.load(&memory, 0x1001, 2), 0x2233);
        mmio.store(&mut memory, 0xe_0000, 4, 0x1122_3344);
        let mut bytes = [1; 4];
        memory.read(0xe_0000, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn the_local_apic_has_its_page() {
        let (mut mmio, mut memory) = (Mmio::new(), Memory::new(4 << 20));
        mmio.store(&mut memory, 0xfee0_0080, 4, 0x20);
        assert_eq!(mmio.load(&memory, 0xfee0_0080, 4), 0x20);
        assert_eq!(mmio.unknown.total(), 0);
    }
}
