//! The port bus: which device answers which port. A port that nobody has reads all ones.

use crate::clock::{Clock, Tsc, earliest};
use crate::device::{self, COM1, Device};
use crate::fw_cfg::{self, FwCfg};
use crate::keyboard::Keyboard;
use crate::pic::{self, Pic};
use crate::pit::Pit;
use crate::power::{self, Power, PowerEvent};
use crate::rtc::Rtc;
use crate::tally::Tally;
use crate::test_device::{self, Asked, TestDevice};
use crate::uart::{Line, Uart};

/// The interrupt lines.
pub mod irq {
    #![expect(missing_docs, reason = "the names say it")]
    pub const TIMER: u8 = 0;
    pub const COM1: u8 = 4;
    pub const CLOCK: u8 = 8;
}

/// Every device behind a port.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The interrupt controllers.
    pub pic: Pic,
    /// The interval timer.
    pub pit: Pit,
    /// COM1.
    pub uart: Uart,
    rtc: Rtc,
    keyboard: Keyboard,
    power: Power,
    fw_cfg: FwCfg,
    test_device: TestDevice,
    /// Timer ticks that are still to be delivered.
    owed_ticks: u64,
    /// Ports that nobody has.
    pub unknown: Tally,
}

impl Bus {
    /// The devices of a machine of `ram` bytes, switched on at tick `now` when it was `epoch` (seconds since 1970).
    #[must_use]
    pub fn new(clock: Clock, epoch: u64, now: Tsc, ram: u64) -> Self {
        Self {
            pic: Pic::new(),
            pit: Pit::new(clock),
            uart: Uart::new(),
            rtc: Rtc::new(clock, epoch, now, ram),
            keyboard: Keyboard::new(),
            power: Power::new(clock),
            fw_cfg: FwCfg::new(ram),
            test_device: TestDevice::new(),
            owed_ticks: 0,
            unknown: Tally::new(),
        }
    }

    /// Brings the devices to tick `now`.
    pub fn advance(&mut self, now: Tsc) {
        let edges = self.pit.take_edges(now);
        if edges > 0 {
            // A masked line keeps one edge; ticks that the guest does not want are not owed.
            self.owed_ticks = if self.pic.masked(irq::TIMER) { 1 } else { self.owed_ticks + edges };
        }
        self.raise_owed();
        self.rtc.advance(now);
        self.drive_clock();
    }

    /// The vector of the interrupt that is delivered now. The next owed tick follows it.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = self.pic.acknowledge();
        self.raise_owed();
        vector
    }

    fn raise_owed(&mut self) {
        if self.owed_ticks > 0 && !self.pic.requested(irq::TIMER) {
            self.owed_ticks -= 1;
            self.pic.lower(irq::TIMER);
            self.pic.raise(irq::TIMER);
        }
    }

    /// The tick at which a device will want to raise an interrupt by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Tsc> {
        let timer = if self.pic.masked(irq::TIMER) { None } else { self.pit.deadline() };
        let clock = if self.pic.masked(irq::CLOCK) { None } else { self.rtc.deadline() };
        earliest(timer, clock)
    }

    /// A byte has come in for COM1.
    pub fn receive(&mut self, byte: u8) {
        self.uart.receive(byte);
        self.drive_com1();
    }

    #[inline]
    fn drive_com1(&mut self) {
        if self.uart.interrupts() {
            self.pic.raise(irq::COM1);
        } else {
            self.pic.lower(irq::COM1);
        }
    }

    fn drive_clock(&mut self) {
        if self.rtc.interrupts() {
            self.pic.raise(irq::CLOCK);
        } else {
            self.pic.lower(irq::CLOCK);
        }
    }

    /// A read of one byte that needs no time and sets no deadline: what most reads are, without the rest of the way.
    #[inline(always)]
    pub fn input_at_once(&mut self, port: u16) -> Option<u8> {
        match device::of(port) {
            Device::Com1 => Some(self.read_com1(port)),
            Device::Delay | Device::Absent => Some(0xff),
            Device::Pic
            | Device::Pit
            | Device::Rtc
            | Device::Keyboard
            | Device::Power
            | Device::FwCfg
            | Device::TestDevice
            | Device::Nobody => None,
        }
    }

    /// A write of one byte that needs no time, sets no deadline and ends no machine, likewise: a mask of the interrupt
    /// controllers decides what is a deadline, the end of an interrupt does not. Nor one that the console has to know of:
    /// the first byte that is sent, and one for which there may be no room.
    #[inline(always)]
    pub fn output_at_once(&mut self, port: u16, value: u8) -> Option<()> {
        match device::of(port) {
            Device::Com1 if port != COM1 || self.uart.goes_on_sending() => self.write_com1(port, value),
            Device::Delay | Device::Absent => {}
            Device::Pic if pic::ends_interrupt(port, value) => self.pic.write(port, value)?,
            Device::Com1
            | Device::Pic
            | Device::Pit
            | Device::Rtc
            | Device::Keyboard
            | Device::Power
            | Device::FwCfg
            | Device::TestDevice
            | Device::Nobody => return None,
        }
        Some(())
    }

    /// A read of `size` bytes.
    pub fn input(&mut self, port: u16, size: u8, now: Tsc) -> u32 {
        if matches!((port, size), (0xcf8..=0xcfb, 2 | 4)) {
            // The PCI configuration address, not the reset register in its second byte.
            return u32::MAX;
        }
        let mut value = 0;
        for byte in 0..size {
            let at = port.wrapping_add(u16::from(byte));
            let read = match self.read(at, now) {
                Some(read) => read,
                None => {
                    if byte == 0 {
                        self.miss(port);
                    }
                    0xff
                }
            };
            value |= u32::from(read) << (8 * byte);
        }
        value
    }

    fn miss(&mut self, port: u16) {
        if self.unknown.count(u64::from(port)) {
            log::debug!("nobody has port {port:#x}");
        }
    }

    fn read(&mut self, port: u16, now: Tsc) -> Option<u8> {
        match device::of(port) {
            Device::Com1 => Some(self.read_com1(port)),
            Device::FwCfg if port == fw_cfg::port::DATA => Some(self.fw_cfg.next_byte()),
            Device::Delay | Device::Absent | Device::FwCfg => Some(0xff),
            Device::Pic => self.pic.read(port),
            Device::Pit => self.pit.read(port, now),
            Device::Keyboard => self.keyboard.read(port),
            Device::Power => self.power.read(port, now),
            Device::Rtc => self.read_clock(port, now),
            Device::TestDevice => self.test_device.read(port),
            Device::Nobody => None,
        }
    }

    fn read_com1(&mut self, port: u16) -> u8 {
        let value = self.uart.read(port - COM1);
        self.drive_com1();
        value
    }

    /// A write of `size` bytes; says whether it ends the machine.
    pub fn output(&mut self, port: u16, size: u8, value: u32, now: Tsc) -> Option<PowerEvent> {
        match (port, size) {
            (power::port::TEST_EXIT, _) => return Some(PowerEvent::TestExit(value)),
            (fw_cfg::port::SELECTOR, _) => {
                self.fw_cfg.select(value as u16);
                return None;
            }
            // One line a port, whatever the size.
            (test_device::port::LINES..=test_device::port::LINES_LAST, 2 | 4) => {
                return self.output(port, 1, u32::from(value != 0), now);
            }
            // A word or double word there is meant for the PCI configuration address, not for the reset register.
            (0xcf8..=0xcfb, 2 | 4) => return None,
            _ => {}
        }
        let bytes = value.to_le_bytes();
        for byte in 0..size {
            let at = port.wrapping_add(u16::from(byte));
            match self.write(at, bytes[usize::from(byte & 3)], now) {
                Some(None) => {}
                Some(event) => return event,
                None if byte == 0 => self.miss(port),
                None => {}
            }
        }
        None
    }

    fn write(&mut self, port: u16, value: u8, now: Tsc) -> Option<Option<PowerEvent>> {
        match device::of(port) {
            Device::Com1 => {
                self.write_com1(port, value);
                Some(None)
            }
            Device::Delay | Device::Absent => Some(None),
            Device::Keyboard => self.keyboard.write(port, value),
            Device::Power => self.power.write(port, value),
            Device::Pic => self.pic.write(port, value).map(|()| None),
            Device::Pit => self.write_pit(port, value, now).map(|()| None),
            Device::Rtc => self.write_clock(port, value, now).map(|()| None),
            Device::TestDevice => self.write_test_device(port, value).map(|()| None),
            // The selector is a word: `output` has taken it.
            Device::FwCfg | Device::Nobody => None,
        }
    }

    fn write_com1(&mut self, port: u16, value: u8) {
        if self.uart.write(port - COM1, value) == Line::Pulse {
            self.pic.lower(irq::COM1);
        }
        self.drive_com1();
    }

    fn write_pit(&mut self, port: u16, value: u8, now: Tsc) -> Option<()> {
        if port == crate::pit::port::COMMAND && value >> 6 == 0 && value & 0x30 != 0 {
            // A new mode of channel 0 forgives the ticks of the old one.
            self.owed_ticks = 0;
        }
        self.pit.write(port, value, now)
    }

    fn write_test_device(&mut self, port: u16, value: u8) -> Option<()> {
        match self.test_device.write(port, value)? {
            Asked::Nothing => {}
            Asked::Raise(line) => self.pic.raise(line),
            Asked::Lower(line) => self.pic.lower(line),
        }
        Some(())
    }

    fn read_clock(&mut self, port: u16, now: Tsc) -> Option<u8> {
        let value = self.rtc.read(port, now)?;
        self.drive_clock();
        Some(value)
    }

    fn write_clock(&mut self, port: u16, value: u8, now: Tsc) -> Option<()> {
        self.rtc.write(port, value, now)?;
        self.drive_clock();
        Some(())
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
