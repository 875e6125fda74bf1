//! The pair of 8259A interrupt controllers, as a PC wires them: the slave on line 2 of the master.
//!
//! Initialisation words, masks, rotating priorities, automatic and specific end of interrupt, special mask mode,
//! polling, and the edge/level registers of an EISA board at 0x4d0 and 0x4d1. Intel data sheet 231468-003.

/// The line that the slave is wired to.
const CASCADE: u8 = 2;
/// What an 8259A answers when the request has gone before it was acknowledged.
const SPURIOUS: u8 = 7;

/// The ports of the pair.
pub mod port {
    #![expect(missing_docs, reason = "the names are the chips'")]
    pub const MASTER_COMMAND: u16 = 0x20;
    pub const MASTER_DATA: u16 = 0x21;
    pub const SLAVE_COMMAND: u16 = 0xa0;
    pub const SLAVE_DATA: u16 = 0xa1;
    pub const MASTER_ELCR: u16 = 0x4d0;
    pub const SLAVE_ELCR: u16 = 0x4d1;
}

/// Whether a write is OCW2, the end of an interrupt or another choice among priorities: initialisation and masks, which
/// decide what gets in at all, are none.
#[inline]
#[must_use]
pub const fn ends_interrupt(port: u16, value: u8) -> bool {
    matches!(port, port::MASTER_COMMAND | port::SLAVE_COMMAND) && value & 0x18 == 0
}

/// Both chips.
#[derive(Clone, Debug)]
pub struct Pic {
    master: Chip,
    slave: Chip,
    /// The master's INT output: worked out when something changes, looked at with every exit.
    asks: bool,
}

/// Which initialisation word a chip waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initialising {
    Done,
    Icw2,
    Icw3,
    Icw4,
}

/// What a read of the command port gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Requests,
    InService,
}

#[derive(Clone, Debug)]
struct Chip {
    /// Requests that wait.
    irr: u8,
    /// Interrupts in service.
    isr: u8,
    /// Lines that are masked.
    imr: u8,
    /// Lines that are high now.
    lines: u8,
    /// Lines that are level-triggered.
    elcr: u8,
    /// Lines that can be level-triggered at all.
    elcr_writable: u8,
    /// Vector of line 0.
    base: u8,
    /// The line of the lowest priority: the next one has the highest.
    lowest: u8,
    initialising: Initialising,
    expects_icw3: bool,
    expects_icw4: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    /// Special fully nested mode: the cascade line does not block itself.
    nested_cascade: bool,
    reads: Reads,
    poll: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// Both chips after reset: no vector base, nothing masked, nothing requested.
    #[must_use]
    pub const fn new() -> Self {
        Self { master: Chip::new(0xf8), slave: Chip::new(0xde), asks: false }
    }

    /// Drives line `irq` (0 to 15) high. A line that is high already stays as it is.
    #[inline]
    pub fn raise(&mut self, irq: u8) {
        let (chip, bit) = self.chip(irq);
        if chip.lines & bit == 0 {
            chip.raise(bit);
            self.cascade();
        }
    }

    /// Drives line `irq` (0 to 15) low. A line that is low already stays as it is.
    #[inline]
    pub fn lower(&mut self, irq: u8) {
        let (chip, bit) = self.chip(irq);
        if chip.lines & bit != 0 {
            chip.lower(bit);
            self.cascade();
        }
    }

    /// The chip that line `irq` goes to, and its bit there; none beyond 15.
    const fn chip(&mut self, irq: u8) -> (&mut Chip, u8) {
        match irq {
            0..8 => (&mut self.master, 1 << irq),
            8..16 => (&mut self.slave, 1 << (irq - 8)),
            _ => (&mut self.slave, 0),
        }
    }

    /// Whether the pair asks the CPU for an interrupt.
    #[inline]
    #[must_use]
    pub const fn pending(&self) -> bool {
        self.asks
    }

    /// Whether line `irq` waits to be acknowledged.
    #[must_use]
    pub const fn requested(&self, irq: u8) -> bool {
        match irq {
            0..8 => self.master.irr & 1 << irq != 0,
            8..16 => self.slave.irr & 1 << (irq - 8) != 0,
            _ => false,
        }
    }

    /// Whether line `irq` is masked.
    #[must_use]
    pub const fn masked(&self, irq: u8) -> bool {
        match irq {
            0..8 => self.master.imr & 1 << irq != 0,
            8..16 => self.slave.imr & 1 << (irq - 8) != 0 || self.master.imr & 1 << CASCADE != 0,
            _ => true,
        }
    }

    /// The CPU's two acknowledge cycles: the vector to deliver.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.acknowledge() {
            Some(CASCADE) => {
                let line = self.slave.acknowledge().unwrap_or(SPURIOUS);
                self.slave.base | line
            }
            Some(line) => self.master.base | line,
            None => self.master.base | SPURIOUS,
        };
        self.cascade();
        vector
    }

    /// A read of one of the ports in [`port`]; `None` for any other.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        let value = match port {
            port::MASTER_COMMAND => self.master.read_command(),
            port::MASTER_DATA => self.master.read_data(),
            port::SLAVE_COMMAND => self.slave.read_command(),
            port::SLAVE_DATA => self.slave.read_data(),
            port::MASTER_ELCR => self.master.elcr,
            port::SLAVE_ELCR => self.slave.elcr,
            _ => return None,
        };
        self.cascade();
        Some(value)
    }

    /// A write to one of the ports in [`port`]; `None` for any other.
    pub fn write(&mut self, port: u16, value: u8) -> Option<()> {
        match port {
            port::MASTER_COMMAND => self.master.write_command(value),
            port::MASTER_DATA => self.master.write_data(value),
            port::SLAVE_COMMAND => self.slave.write_command(value),
            port::SLAVE_DATA => self.slave.write_data(value),
            port::MASTER_ELCR => self.master.write_elcr(value),
            port::SLAVE_ELCR => self.slave.write_elcr(value),
            _ => return None,
        }
        self.cascade();
        Some(())
    }

    /// The slave's output is the master's line 2, and the master's is the pair's. A request that stays after an acknowledge makes a new edge there,
    /// as the chip's pulse on INT does.
    fn cascade(&mut self) {
        self.master.lower(1 << CASCADE);
        if self.slave.request().is_some() {
            self.master.raise(1 << CASCADE);
        }
        self.asks = self.master.request().is_some();
    }
}

impl Chip {
    const fn new(elcr_writable: u8) -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0,
            lines: 0,
            elcr: 0,
            elcr_writable,
            base: 0,
            lowest: 7,
            initialising: Initialising::Done,
            expects_icw3: true,
            expects_icw4: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_mask: false,
            nested_cascade: false,
            reads: Reads::Requests,
            poll: false,
        }
    }

    fn raise(&mut self, bit: u8) {
        if self.elcr & bit != 0 || self.lines & bit == 0 {
            self.irr |= bit;
        }
        self.lines |= bit;
    }

    fn lower(&mut self, bit: u8) {
        self.lines &= !bit;
        if self.elcr & bit != 0 {
            self.irr &= !bit;
        }
    }

    /// How far the best line of `mask` is from the best one there is; 8 for none.
    const fn rank(&self, mask: u8) -> u32 {
        mask.rotate_right(self.lowest as u32 + 1).trailing_zeros()
    }

    const fn line(&self, rank: u32) -> u8 {
        ((rank + self.lowest as u32 + 1) & 7) as u8
    }

    /// The line to be served now, if one outranks what is in service.
    fn request(&self) -> Option<u8> {
        let wanted = self.rank(self.irr & !self.imr);
        let mut serving = self.isr;
        if self.special_mask {
            serving &= !self.imr;
        }
        if self.nested_cascade {
            serving &= !(1 << CASCADE);
        }
        (wanted < self.rank(serving)).then(|| self.line(wanted))
    }

    fn acknowledge(&mut self) -> Option<u8> {
        let line = self.request()?;
        let bit = 1 << line;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = line;
        }
        Some(line)
    }

    /// An armed poll turns the next read into an acknowledge.
    fn polled(&mut self) -> Option<u8> {
        if !core::mem::take(&mut self.poll) {
            return None;
        }
        Some(self.acknowledge().map_or(0, |line| 0x80 | line))
    }

    fn read_command(&mut self) -> u8 {
        self.polled().unwrap_or(match self.reads {
            Reads::Requests => self.irr,
            Reads::InService => self.isr,
        })
    }

    fn read_data(&mut self) -> u8 {
        self.polled().unwrap_or(self.imr)
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.start(value);
        } else if value & 0x08 != 0 {
            self.operate(value);
        } else {
            self.end_of_interrupt(value >> 5, value & 7);
        }
    }

    /// ICW1.
    fn start(&mut self, value: u8) {
        let level = self.elcr & self.lines;
        *self = Self {
            lines: self.lines,
            elcr: self.elcr,
            irr: level,
            base: self.base,
            initialising: Initialising::Icw2,
            expects_icw3: value & 0x02 == 0,
            expects_icw4: value & 0x01 != 0,
            ..Self::new(self.elcr_writable)
        };
    }

    /// OCW3.
    fn operate(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 0x04 != 0;
        match value & 3 {
            2 => self.reads = Reads::Requests,
            3 => self.reads = Reads::InService,
            _ => {}
        }
    }

    /// OCW2.
    fn end_of_interrupt(&mut self, command: u8, line: u8) {
        let best = self.rank(self.isr);
        match command {
            0 | 4 => self.rotate_on_auto_eoi = command == 4,
            1 | 5 if best < 8 => {
                let served = self.line(best);
                self.isr &= !(1 << served);
                if command == 5 {
                    self.lowest = served;
                }
            }
            3 => self.isr &= !(1 << line),
            6 => self.lowest = line,
            7 => {
                self.isr &= !(1 << line);
                self.lowest = line;
            }
            // 2 is no operation; 1 and 5 end nothing when nothing is in service.
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.initialising {
            Initialising::Done => self.imr = value,
            Initialising::Icw2 => {
                self.base = value & 0xf8;
                self.initialising = self.after_icw2();
            }
            Initialising::Icw3 => self.initialising = self.after_icw3(),
            Initialising::Icw4 => {
                self.nested_cascade = value & 0x10 != 0;
                self.auto_eoi = value & 0x02 != 0;
                self.initialising = Initialising::Done;
            }
        }
    }

    const fn after_icw2(&self) -> Initialising {
        if self.expects_icw3 { Initialising::Icw3 } else { self.after_icw3() }
    }

    const fn after_icw3(&self) -> Initialising {
        if self.expects_icw4 { Initialising::Icw4 } else { Initialising::Done }
    }

    fn write_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_writable;
        // A line that has become level-triggered asks as long as it is high.
        self.irr = (self.irr & !self.elcr) | (self.lines & self.elcr);
    }
}

#[cfg(test)]
#[path = "pic_tests.rs"]
mod tests;
