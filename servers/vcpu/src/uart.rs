//! The 16550A serial port as the guest sees it, with interrupts both ways.
//!
//! What the guest sends is taken at once: the transmitter is always empty, and says so by its interrupt. What was
//! sent waits in [`Uart::sent`] until the server has put it out.

use heapless::Deque;

/// Bytes in the receiver's FIFO.
const FIFO: usize = 16;
/// Most bytes that wait to be put out: the guest is held up beyond that.
pub const SENT: usize = 2048;
/// Room that is kept in the queue: more bytes than one exit can add.
pub const KEPT_ROOM: usize = 64;

/// The registers, by their distance from the first port.
mod offset {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    /// Read: interrupt identification; written: FIFO control.
    pub const INTERRUPT_ID: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
    pub const MODEM_STATUS: u16 = 6;
    pub const SCRATCH: u16 = 7;
}

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMIT: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;

const IIR_NONE: u8 = 1;
const IIR_MODEM: u8 = 0;
const IIR_TRANSMIT: u8 = 2;
const IIR_RECEIVED: u8 = 4;
const IIR_LINE: u8 = 6;
const IIR_TIMEOUT: u8 = 0xc;
const IIR_FIFO: u8 = 0xc0;

const FCR_ENABLE: u8 = 1;
const FCR_CLEAR_RECEIVER: u8 = 2;

const LCR_DIVISOR: u8 = 0x80;

const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;

const LSR_READY: u8 = 1;
const LSR_OVERRUN: u8 = 2;
const LSR_TRANSMITTER_EMPTY: u8 = 0x60;

/// CTS, DSR and DCD: somebody is there.
const MSR_CONNECTED: u8 = 0xb0;

/// The chip.
#[derive(Clone, Debug)]
pub struct Uart {
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    modem_delta: u8,
    scratch: u8,
    divisor: u16,
    overrun: bool,
    /// The transmitter has become empty and the guest has not been told.
    empty_untold: bool,
    /// The interrupt line: worked out when something changes, looked at with every access.
    high: bool,
    received: Deque<u8, FIFO>,
    sent: Deque<u8, SENT>,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

/// What a write did to the interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is what [`Uart::interrupts`] says.
    Level,
    /// It went low for a moment: the next rise is a new edge.
    Pulse,
}

impl Uart {
    /// The chip after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            modem_delta: 0,
            scratch: 0,
            divisor: 12,
            overrun: false,
            empty_untold: false,
            high: false,
            received: Deque::new(),
            sent: Deque::new(),
        }
    }

    /// What the guest has sent and nobody has put out yet.
    pub fn sent(&mut self) -> &mut Deque<u8, SENT> {
        &mut self.sent
    }

    /// Whether one byte more in [`Uart::sent`] is nothing new: others wait there already, and there is room.
    #[inline]
    #[must_use]
    pub fn goes_on_sending(&self) -> bool {
        !self.sent.is_empty() && SENT - self.sent.len() > KEPT_ROOM
    }

    /// A byte from the other end; lost, as the guest is told, when there is no room.
    pub fn receive(&mut self, byte: u8) {
        let room = if self.fifo_control & FCR_ENABLE != 0 { FIFO } else { 1 };
        if self.received.len() >= room || self.received.push_back(byte).is_err() {
            self.overrun = true;
        }
        self.settle();
    }

    /// Whether a byte from the other end would be kept now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let looped = self.modem_control & MCR_LOOP != 0;
        !looped && self.received.len() < if self.fifo_control & FCR_ENABLE != 0 { FIFO } else { 1 }
    }

    /// Whether the interrupt line is high.
    #[inline]
    #[must_use]
    pub const fn interrupts(&self) -> bool {
        self.high
    }

    /// Something has changed that may be a cause of an interrupt, or may gate it: a PC does that with OUT2.
    fn settle(&mut self) {
        let gated = self.modem_control & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        self.high = gated && self.cause() != IIR_NONE;
    }

    fn cause(&self) -> u8 {
        let enabled = self.interrupt_enable;
        if enabled & IER_LINE != 0 && self.overrun {
            IIR_LINE
        } else if enabled & IER_RECEIVED != 0 && !self.received.is_empty() {
            if self.received.len() >= self.trigger() { IIR_RECEIVED } else { IIR_TIMEOUT }
        } else if enabled & IER_TRANSMIT != 0 && self.empty_untold {
            IIR_TRANSMIT
        } else if enabled & IER_MODEM != 0 && self.modem_delta != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    const fn trigger(&self) -> usize {
        match (self.fifo_control & FCR_ENABLE, self.fifo_control >> 6) {
            (0, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            (_, _) => 14,
        }
    }

    const fn divides(&self) -> bool {
        self.line_control & LCR_DIVISOR != 0
    }

    /// A read of register `offset` (0 to 7).
    pub fn read(&mut self, offset: u16) -> u8 {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match offset {
            offset::DATA if self.divides() => divisor_low,
            offset::INTERRUPT_ENABLE if self.divides() => divisor_high,
            offset::DATA => self.take_received(),
            offset::INTERRUPT_ENABLE => self.interrupt_enable,
            offset::INTERRUPT_ID => self.identify(),
            offset::LINE_CONTROL => self.line_control,
            offset::MODEM_CONTROL => self.modem_control,
            offset::LINE_STATUS => self.line_status(),
            offset::MODEM_STATUS => self.take_modem_status(),
            offset::SCRATCH => self.scratch,
            _ => 0xff,
        }
    }

    fn take_received(&mut self) -> u8 {
        let byte = self.received.pop_front().unwrap_or(0);
        self.settle();
        byte
    }

    fn take_modem_status(&mut self) -> u8 {
        let status = self.modem_status() | core::mem::take(&mut self.modem_delta);
        self.settle();
        status
    }

    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == IIR_TRANSMIT {
            self.empty_untold = false;
            self.settle();
        }
        let fifo = if self.fifo_control & FCR_ENABLE != 0 { IIR_FIFO } else { 0 };
        cause | fifo
    }

    fn line_status(&mut self) -> u8 {
        let ready = if self.received.is_empty() { 0 } else { LSR_READY };
        if core::mem::take(&mut self.overrun) {
            self.settle();
            return LSR_TRANSMITTER_EMPTY | ready | LSR_OVERRUN;
        }
        LSR_TRANSMITTER_EMPTY | ready
    }

    /// In loopback the outputs DTR, RTS, OUT1, OUT2 are the inputs DSR, CTS, RI, DCD.
    const fn modem_status(&self) -> u8 {
        let control = self.modem_control;
        if control & MCR_LOOP == 0 {
            return MSR_CONNECTED;
        }
        (control & 1) << 5 | (control & 2) << 3 | (control & 4) << 4 | (control & 8) << 4
    }

    /// A write to register `offset` (0 to 7).
    pub fn write(&mut self, offset: u16, value: u8) -> Line {
        match offset {
            offset::DATA if self.divides() => self.divisor = self.divisor & 0xff00 | u16::from(value),
            offset::INTERRUPT_ENABLE if self.divides() => {
                self.divisor = self.divisor & 0xff | u16::from(value) << 8;
            }
            offset::DATA => {
                self.transmit(value);
                return Line::Pulse;
            }
            offset::INTERRUPT_ENABLE => {
                // Switched on while the transmitter is empty, its interrupt comes at once.
                if value & !self.interrupt_enable & IER_TRANSMIT != 0 {
                    self.empty_untold = true;
                }
                self.interrupt_enable = value & 0xf;
                self.settle();
            }
            offset::INTERRUPT_ID => self.control_fifo(value),
            offset::LINE_CONTROL => self.line_control = value,
            offset::MODEM_CONTROL => self.control_modem(value),
            offset::SCRATCH => self.scratch = value,
            // Line status and modem status are written in factory tests only.
            _ => {}
        }
        Line::Level
    }

    fn transmit(&mut self, byte: u8) {
        self.empty_untold = true;
        if self.modem_control & MCR_LOOP != 0 {
            self.receive(byte);
        } else {
            // The server empties the queue before it is full; a byte beyond that would be lost on a real line too.
            let _ = self.sent.push_back(byte);
            self.settle();
        }
    }

    fn control_fifo(&mut self, value: u8) {
        // Switching the FIFOs on or off empties them.
        if value & FCR_CLEAR_RECEIVER != 0 || (value ^ self.fifo_control) & FCR_ENABLE != 0 {
            self.received.clear();
        }
        self.fifo_control = value & !(FCR_CLEAR_RECEIVER | 4);
        self.settle();
    }

    fn control_modem(&mut self, value: u8) {
        let before = self.modem_status();
        self.modem_control = value & 0x1f;
        let after = self.modem_status();
        let changed = (before ^ after) >> 4;
        // RI counts when it falls only.
        let ring_ended = before & !after & 0x40 != 0;
        self.modem_delta |= changed & 0xb | u8::from(ring_ended) << 2;
        self.settle();
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
