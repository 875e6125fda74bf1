//! QEMU's firmware configuration device, as far as small test kernels ask it how many CPUs and how much memory there
//! are (QEMU, docs/specs/fw_cfg.rst): a selector at 0x510 and a byte stream at 0x511. No files, no DMA.

/// The ports.
pub mod port {
    #![expect(missing_docs, reason = "the names are the specification's")]
    pub const SELECTOR: u16 = 0x510;
    pub const DATA: u16 = 0x511;
}

mod key {
    pub const SIGNATURE: u16 = 0x00;
    pub const ID: u16 = 0x01;
    pub const RAM_SIZE: u16 = 0x03;
    pub const CPUS: u16 = 0x05;
    pub const MAX_CPUS: u16 = 0x0f;
}

/// The traditional interface, without DMA.
const ID_TRADITIONAL: u64 = 1;

/// The device.
#[derive(Clone, Debug)]
pub struct FwCfg {
    ram: u64,
    selector: u16,
    offset: u32,
}

impl FwCfg {
    /// The device of a machine of `ram` bytes and one CPU.
    #[must_use]
    pub const fn new(ram: u64) -> Self {
        Self { ram, selector: key::SIGNATURE, offset: 0 }
    }

    /// A write to the selector starts its item from the beginning.
    pub const fn select(&mut self, selector: u16) {
        self.selector = selector;
        self.offset = 0;
    }

    /// The next byte of the item; zeros behind its end, and for items that are not there.
    pub fn next_byte(&mut self) -> u8 {
        let item = match self.selector {
            key::SIGNATURE => u64::from(u32::from_le_bytes(*b"QEMU")),
            key::ID => ID_TRADITIONAL,
            key::RAM_SIZE => self.ram,
            key::CPUS | key::MAX_CPUS => 1,
            _ => 0,
        };
        let byte = item.to_le_bytes().get(self.offset as usize).copied().unwrap_or(0);
        self.offset = self.offset.saturating_add(1);
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::FwCfg;

    fn item(selector: u16) -> [u8; 10] {
        let mut device = FwCfg::new(512 << 20);
        device.select(selector);
        [(); 10].map(|()| device.next_byte())
    }

    #[test]
    fn there_is_one_cpu_and_the_machines_memory() {
        assert_eq!(item(0x05), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(item(0x03), [0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&item(0x00)[..4], b"QEMU");
    }

    #[test]
    fn an_item_that_is_not_there_reads_zeros() {
        assert_eq!((item(0x19), item(0x8002), item(0x11)), ([0; 10], [0; 10], [0; 10]));
    }

    #[test]
    fn selecting_starts_again() {
        let mut device = FwCfg::new(0);
        device.select(0);
        assert_eq!([device.next_byte(), device.next_byte()], *b"QE");
        device.select(0);
        assert_eq!(device.next_byte(), b'Q');
    }
}
