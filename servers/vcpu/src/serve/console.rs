//! The host's serial port: what the guest sends goes straight out, what is typed comes in.
//!
//! Nothing waits for the line as long as the guest's queue has room: sixteen bytes at a time go into the port's FIFO
//! whenever it is empty. A server that was not given the port, because another VM's guest is shown there, puts its guest's
//! lines into the log.

use heapless::{Deque, String};
use rt::{Task, port};
use vcpu::clock::earliest;
use vcpu::uart::KEPT_ROOM;

const COM1: u16 = 0x3f8;
const FIFO_CONTROL: u16 = COM1 + 2;
const LINE_STATUS: u16 = COM1 + 5;
const FIFO_ENABLE: u8 = 1;
const DATA_READY: u8 = 1;
const FIFO_EMPTY: u8 = 0x20;
const LINE_IDLE: u8 = 0x40;
const FIFO: usize = 16;
/// What the lines of kernel and servers begin with: no byte of the guest's may pass for one.
const SYSTEM_LINE: u8 = 0x1e;
/// Bytes a second at 115200 baud.
const BYTES_HZ: u64 = 11_520;
/// A longer line of the guest's becomes several of the log.
const LOGGED: usize = 200;

/// The host's serial port, if the manifest gives it.
pub struct Console {
    given: bool,
    /// What the guest's line in the log has so far, without the port.
    line: String<LOGGED>,
    /// Ticks that one byte takes on the line.
    byte: u64,
    /// When the FIFO is worth looking at again.
    look: u64,
    /// How often typed bytes are looked for, in ticks, and when next.
    poll: Option<(u64, u64)>,
    /// When a notice is wanted whatever is to be sent: for typed bytes, and for the control console.
    wake: Option<u64>,
}

impl Console {
    /// The port, with its FIFOs on.
    pub fn new(task: &Task) -> Self {
        let entry = task.entry();
        let given = entry.ports.iter().any(|ports| ports.first <= COM1 && ports.last >= COM1 + 7);
        if given {
            // Switching the FIFOs on empties them: not while the kernel's last line is still in them.
            while port::read(LINE_STATUS) & LINE_IDLE == 0 {}
            port::write(FIFO_CONTROL, FIFO_ENABLE);
        } else {
            log::info!("the manifest gives no COM1: what the guest prints is shown here");
        }
        let poll_ms = entry.option("console.poll_ms").and_then(|text| text.parse::<u64>().ok());
        let poll = poll_ms.filter(|ms| given && *ms > 0).map(|ms| {
            let ticks = ms.saturating_mul(task.info.tsc_hz) / 1_000;
            (ticks.max(1), rt::tsc())
        });
        let wake = poll.map(|(_, next)| next);
        Self { given, line: String::new(), byte: (task.info.tsc_hz / BYTES_HZ).max(1), look: 0, poll, wake }
    }

    /// Somebody else wants a notice at tick `other` too. Said at each notice, so that an exit needs to look at one number.
    pub fn also_at(&mut self, other: Option<u64>) {
        self.wake = self.poll.map(|(_, next)| next).into_iter().chain(other).min();
    }

    /// Whether typed bytes are looked for.
    pub const fn is_awaited(&self) -> bool {
        self.poll.is_some()
    }

    /// Puts out what fits, and waits only when the queue is about to be full.
    pub fn put<const N: usize>(&mut self, sent: &mut Deque<u8, N>, now: u64) {
        if !self.given {
            return self.log(sent);
        }
        if !sent.is_empty() && now >= self.look {
            self.look = if self.fill(sent) { now + FIFO as u64 * self.byte } else { now + self.byte };
        }
        while N - sent.len() < KEPT_ROOM {
            self.fill(sent);
        }
    }

    /// Puts out everything.
    pub fn flush<const N: usize>(&mut self, sent: &mut Deque<u8, N>) {
        if !self.given {
            self.log(sent);
            return self.end_line();
        }
        while !sent.is_empty() {
            self.fill(sent);
        }
    }

    /// Puts the guest's lines into the log, each when it ends.
    #[cold]
    fn log<const N: usize>(&mut self, sent: &mut Deque<u8, N>) {
        while let Some(byte) = sent.pop_front() {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                // Nothing but ASCII is printed there.
                byte => {
                    if self.line.len() == LOGGED {
                        self.end_line();
                    }
                    // There is room now.
                    let _ = self.line.push(if byte.is_ascii() { char::from(byte) } else { '?' });
                }
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            log::info!("guest: {}", self.line);
            self.line.clear();
        }
    }

    /// Fills the FIFO if it is empty, and says whether it was.
    fn fill<const N: usize>(&self, sent: &mut Deque<u8, N>) -> bool {
        let empty = port::read(LINE_STATUS) & FIFO_EMPTY != 0;
        if empty {
            for _ in 0..FIFO {
                let Some(byte) = sent.pop_front() else { break };
                port::write(COM1, if byte == SYSTEM_LINE { b'?' } else { byte });
            }
        }
        empty
    }

    /// A byte that was typed, if it is time to look and there is one.
    pub fn typed(&mut self, now: u64) -> Option<u8> {
        let (every, next) = self.poll?;
        if now < next {
            return None;
        }
        let ready = port::read(LINE_STATUS) & DATA_READY != 0;
        // While bytes come in, the next one is a byte's time away.
        let next = now + if ready { self.byte } else { every };
        self.poll = Some((every, next));
        self.wake = Some(next);
        ready.then(|| port::read(COM1))
    }

    /// When this wants to be called again, for what is left to send and for what may be typed.
    pub fn deadline<const N: usize>(&self, sent: &Deque<u8, N>) -> Option<u64> {
        let send = if sent.is_empty() { None } else { Some(self.look) };
        earliest(send, self.wake)
    }
}
