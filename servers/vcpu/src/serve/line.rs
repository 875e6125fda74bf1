//! The host's second serial port, a byte or a line at a time. What is written waits in a queue, so that nobody waits for the
//! line; only when the queue is full does the writer.

use core::fmt;
use heapless::{Deque, String};
use rt::{Task, port};
use vcpu::console::LONGEST;

const COM2: u16 = 0x2f8;
const INTERRUPT_ENABLE: u16 = COM2 + 1;
const FIFO_CONTROL: u16 = COM2 + 2;
const LINE_CONTROL: u16 = COM2 + 3;
const MODEM_CONTROL: u16 = COM2 + 4;
const LINE_STATUS: u16 = COM2 + 5;
const SCRATCH: u16 = COM2 + 7;
/// Any number but all ones.
const PROBE: u8 = 0x5a;
/// FIFOs on and empty.
const FIFO_ENABLE: u8 = 7;
/// 8 data bits, 1 stop bit, no parity; with the highest bit, ports 0 and 1 are the divisor.
const EIGHT_BITS: u8 = 3;
const DIVISOR: u8 = 0x80;
/// DTR and RTS: somebody is there.
const READY: u8 = 3;
const DATA_READY: u8 = 1;
const FIFO_EMPTY: u8 = 0x20;
/// Bytes in the port's FIFO, each way.
pub const FIFO: usize = 16;
const QUEUE: usize = 4096;

/// The port, the line that is being received, and what is still to be sent.
pub struct Line {
    received: String<LONGEST>,
    /// The line is longer than a request: it is dropped up to its end.
    overlong: bool,
    queue: Deque<u8, QUEUE>,
}

/// A line that was received.
#[derive(Debug)]
pub enum Input {
    /// It is complete.
    Line(String<LONGEST>),
    /// It was too long.
    Overlong,
}

impl Line {
    /// The port, if the manifest gives it and the machine has it.
    pub fn of(task: &Task) -> Option<Self> {
        task.entry().ports.iter().find(|ports| ports.first <= COM2 && ports.last >= COM2 + 7)?;
        // Where no chip is, every register reads all ones: bytes without end that nobody sent.
        port::write(SCRATCH, PROBE);
        if port::read(SCRATCH) != PROBE {
            log::warn!("the machine has no COM2: there is no control console");
            return None;
        }
        port::write(INTERRUPT_ENABLE, 0);
        port::write(LINE_CONTROL, DIVISOR | EIGHT_BITS);
        // 115200 baud.
        port::write(COM2, 1);
        port::write(INTERRUPT_ENABLE, 0);
        port::write(LINE_CONTROL, EIGHT_BITS);
        port::write(FIFO_CONTROL, FIFO_ENABLE);
        port::write(MODEM_CONTROL, READY);
        Some(Self { received: String::new(), overlong: false, queue: Deque::new() })
    }

    /// Reads what has come in, echoes it, and gives the line that it ends. Nothing behind the line's end is read.
    pub fn input(&mut self) -> Option<Input> {
        while self.queue.len() < QUEUE && port::read(LINE_STATUS) & DATA_READY != 0 {
            let byte = port::read(COM2);
            self.put(byte);
            if byte == b'\n' || byte == b'\r' {
                let line = core::mem::take(&mut self.received);
                let overlong = core::mem::take(&mut self.overlong);
                return Some(if overlong { Input::Overlong } else { Input::Line(line) });
            }
            // Anything but ASCII makes no word of a request.
            let letter = if byte.is_ascii() { char::from(byte) } else { '?' };
            self.overlong |= self.received.push(letter).is_err();
        }
        None
    }

    /// Sends as much as the port takes now.
    pub fn send(&mut self) {
        if self.queue.is_empty() || port::read(LINE_STATUS) & FIFO_EMPTY == 0 {
            return;
        }
        for _ in 0..FIFO {
            let Some(byte) = self.queue.pop_front() else { return };
            port::write(COM2, byte);
        }
    }

    /// Sends everything.
    pub fn flush(&mut self) {
        while !self.queue.is_empty() {
            self.send();
        }
    }

    /// Whether a line has begun, or something is still to be sent.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.received.is_empty()
    }

    fn put(&mut self, byte: u8) {
        while self.queue.push_back(byte).is_err() {
            self.send();
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}
