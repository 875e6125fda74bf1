//! Which device a port belongs to.

use crate::{fw_cfg, keyboard, pic, pit, power, rtc, test_device};

/// The first port of COM1.
pub const COM1: u16 = 0x3f8;
/// Its last.
pub const COM1_LAST: u16 = COM1 + 7;

/// The devices behind ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the modules of these names say it")]
pub enum Device {
    Com1,
    Pic,
    Pit,
    Rtc,
    Keyboard,
    Power,
    FwCfg,
    TestDevice,
    /// Written to for the time that it takes.
    Delay,
    /// A device that a guest looks for and that this machine is known not to have: COM2 to COM4 and PCI.
    Absent,
    /// Nobody has it.
    Nobody,
}

/// Whose port it is.
#[inline]
#[must_use]
pub const fn of(port: u16) -> Device {
    match port {
        COM1..=COM1_LAST => Device::Com1,
        pic::port::MASTER_COMMAND
        | pic::port::MASTER_DATA
        | pic::port::SLAVE_COMMAND
        | pic::port::SLAVE_DATA
        | pic::port::MASTER_ELCR
        | pic::port::SLAVE_ELCR => Device::Pic,
        pit::port::CHANNEL0..=pit::port::COMMAND | pit::port::SPEAKER => Device::Pit,
        rtc::port::INDEX | rtc::port::DATA => Device::Rtc,
        keyboard::port::DATA | keyboard::port::COMMAND => Device::Keyboard,
        power::port::PM1A_EVENT..=power::port::PM_TIMER_LAST | power::port::RESET | power::port::FAST_RESET => {
            Device::Power
        }
        fw_cfg::port::SELECTOR | fw_cfg::port::DATA => Device::FwCfg,
        test_device::port::KEPT..=test_device::port::KEPT_LAST
        | test_device::port::LINES..=test_device::port::LINES_LAST => Device::TestDevice,
        0x80 | 0xed => Device::Delay,
        0x2f8..=0x2ff | 0x3e8..=0x3ef | 0x2e8..=0x2ef | 0xcf8 | 0xcfa..=0xcff => Device::Absent,
        _ => Device::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, of};

    #[test]
    fn every_port_of_a_device_is_its_own_and_its_neighbours_are_not() {
        for (ports, device) in [
            (0x20..=0x21, Device::Pic),
            (0xa0..=0xa1, Device::Pic),
            (0x4d0..=0x4d1, Device::Pic),
            (0x40..=0x43, Device::Pit),
            (0x61..=0x61, Device::Pit),
            (0x70..=0x71, Device::Rtc),
            (0x60..=0x60, Device::Keyboard),
            (0x64..=0x64, Device::Keyboard),
            (0x3f8..=0x3ff, Device::Com1),
            (0x600..=0x60b, Device::Power),
            (0x92..=0x92, Device::Power),
            (0xcf9..=0xcf9, Device::Power),
            (0x510..=0x511, Device::FwCfg),
            (0xe0..=0xe3, Device::TestDevice),
            (0x2000..=0x200f, Device::TestDevice),
        ] {
            assert!(ports.clone().all(|port| of(port) == device), "{ports:x?}");
            assert_ne!(of(ports.start() - 1), device);
            assert_ne!(of(ports.end() + 1), device);
        }
    }
}
