//! The 16550A: its registers, its interrupts, and `vm-superio`'s model as an oracle.

use super::{Line, Uart};

const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCRATCH: u16 = 7;

/// OUT2 on: interrupts reach the controller.
fn wired() -> Uart {
    let mut uart = Uart::new();
    uart.write(MCR, 0x0b);
    let _ = uart.read(MSR);
    uart
}

fn sent(uart: &mut Uart) -> std::vec::Vec<u8> {
    core::iter::from_fn(|| uart.sent().pop_front()).collect()
}

#[test]
fn what_is_written_is_sent_in_order_and_the_transmitter_is_empty_at_once() {
    let mut uart = Uart::new();
    for byte in *b"hello" {
        assert_eq!(uart.read(LSR) & 0x60, 0x60);
        assert_eq!(uart.write(DATA, byte), Line::Pulse);
    }
    assert_eq!(sent(&mut uart), b"hello");
}

#[test]
fn the_transmitter_interrupt_comes_when_it_is_switched_on_and_after_each_byte() {
    let mut uart = wired();
    uart.write(IER, 0x02);
    assert!(uart.interrupts());
    assert_eq!(uart.read(IIR) & 0xf, 0x2);
    assert!(!uart.interrupts(), "told: reading the cause clears it");
    assert_eq!(uart.read(IIR) & 0xf, 0x1);
    uart.write(DATA, b'x');
    assert!(uart.interrupts());
    uart.write(IER, 0x00);
    assert!(!uart.interrupts());
    uart.write(IER, 0x02);
    assert!(uart.interrupts());
}

#[test]
fn a_received_byte_interrupts_until_it_is_read() {
    let mut uart = wired();
    uart.write(IER, 0x01);
    uart.receive(b'k');
    assert!(uart.interrupts());
    assert_eq!((uart.read(IIR) & 0xf, uart.read(LSR) & 1), (0x4, 1));
    assert_eq!(uart.read(DATA), b'k');
    assert_eq!((uart.interrupts(), uart.read(LSR) & 1), (false, 0));
}

#[test]
fn causes_are_told_by_priority() {
    let mut uart = wired();
    uart.receive(b'1');
    uart.receive(b'2');
    uart.write(MCR, 0x10);
    uart.write(MCR, 0x0b);
    uart.write(IER, 0x0f);
    assert_eq!(uart.read(IIR) & 0xf, 0x6, "overrun");
    assert_eq!(uart.read(LSR) & 2, 2);
    assert_eq!(uart.read(IIR) & 0xf, 0x4, "received");
    let _ = uart.read(DATA);
    assert_eq!(uart.read(IIR) & 0xf, 0x2, "transmitter");
    assert_eq!(uart.read(IIR) & 0xf, 0x0, "modem");
    assert_ne!(uart.read(MSR) & 0xf, 0);
    assert_eq!(uart.read(IIR) & 0xf, 0x1);
}

#[test]
fn the_fifo_holds_sixteen_bytes_and_says_so() {
    let mut uart = wired();
    uart.write(FCR, 0x01);
    assert_eq!(uart.read(IIR) & 0xc0, 0xc0);
    for byte in 0..17 {
        uart.receive(byte);
    }
    assert!(!uart.has_room());
    assert_eq!(uart.read(LSR) & 2, 2, "the seventeenth is lost");
    assert_eq!((0..16).map(|_| uart.read(DATA)).collect::<std::vec::Vec<_>>(), (0..16).collect::<std::vec::Vec<_>>());
    assert_eq!(uart.read(LSR) & 1, 0);
}

#[test]
fn below_its_trigger_level_the_fifo_reports_a_timeout() {
    let mut uart = wired();
    uart.write(FCR, 0x41);
    uart.write(IER, 0x01);
    uart.receive(1);
    assert_eq!(uart.read(IIR) & 0xf, 0xc);
    for byte in 2..5 {
        uart.receive(byte);
    }
    assert_eq!(uart.read(IIR) & 0xf, 0x4);
}

#[test]
fn clearing_the_fifo_drops_what_was_received() {
    let mut uart = wired();
    uart.write(FCR, 0x01);
    uart.receive(1);
    uart.write(FCR, 0x03);
    assert_eq!(uart.read(LSR) & 1, 0);
}

#[test]
fn the_divisor_is_behind_its_latch_and_sends_nothing() {
    let mut uart = Uart::new();
    uart.write(LCR, 0x83);
    uart.write(DATA, 0x01);
    uart.write(IER, 0x02);
    assert_eq!((uart.read(DATA), uart.read(IER)), (1, 2));
    uart.write(LCR, 0x03);
    assert_eq!((uart.read(IER), uart.read(LCR)), (0, 3));
    assert!(sent(&mut uart).is_empty());
}

#[test]
fn loopback_turns_outputs_into_inputs_as_drivers_test_it() {
    let mut uart = Uart::new();
    uart.write(MCR, 0x1a);
    assert_eq!(uart.read(MSR) & 0xf0, 0x90);
    uart.write(DATA, 0x5a);
    assert_eq!((uart.read(LSR) & 1, uart.read(DATA)), (1, 0x5a));
    assert!(sent(&mut uart).is_empty() && !uart.has_room());
    uart.write(MCR, 0);
    assert_eq!(uart.read(MSR) & 0xf0, 0xb0);
}

#[test]
fn without_out2_nothing_interrupts() {
    let mut uart = Uart::new();
    uart.write(IER, 0x02);
    assert!(!uart.interrupts());
    uart.write(MCR, 0x08);
    assert!(uart.interrupts());
}

#[test]
fn scratch_and_upper_bits_behave_as_probes_expect() {
    let mut uart = Uart::new();
    uart.write(SCRATCH, 0xa5);
    uart.write(IER, 0xff);
    uart.write(MCR, 0xff);
    assert_eq!((uart.read(SCRATCH), uart.read(IER), uart.read(MCR)), (0xa5, 0x0f, 0x1f));
}

/// A line to nowhere for the oracle.
struct Quiet;

impl vm_superio::Trigger for Quiet {
    type E = core::convert::Infallible;
    fn trigger(&self) -> Result<(), Self::E> {
        Ok(())
    }
}

/// The same accesses on both models: what is read must be the same wherever both model it.
#[test]
fn vm_superio_reads_the_same() {
    let mut oracle = vm_superio::Serial::new(Quiet, std::vec::Vec::new());
    let mut uart = Uart::new();
    uart.write(FCR, 0x01);
    let mut seed = 0x1234_5678_u32;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (choice, value) = (seed >> 28, (seed >> 16) as u8);
        match choice {
            // Latch off again at once: the oracle sends nothing while it is on either, but reads differ.
            0..=3 => {
                oracle.write(DATA as u8, value).unwrap();
                uart.write(DATA, value);
            }
            4 => {
                oracle.write(SCRATCH as u8, value).unwrap();
                uart.write(SCRATCH, value);
            }
            5 => {
                oracle.write(LCR as u8, value & 0x7f).unwrap();
                uart.write(LCR, value & 0x7f);
            }
            6 => {
                for (register, written) in [(LCR, 0x83), (DATA, value), (IER, value ^ 1), (LCR, 3)] {
                    oracle.write(register as u8, written).unwrap();
                    uart.write(register, written);
                }
            }
            7..=9 if uart.has_room() => {
                oracle.enqueue_raw_bytes(&[value]).unwrap();
                uart.receive(value);
            }
            _ => {
                let register = [DATA, IER, LCR, LSR, SCRATCH][usize::from(value) % 5];
                assert_eq!(uart.read(register), oracle.read(register as u8), "register {register}");
            }
        }
    }
    assert_eq!(sent(&mut uart).len(), super::SENT, "the queue is bounded");
    assert!(oracle.writer().len() > super::SENT);
}

#[test]
fn the_interrupt_line_is_always_what_its_causes_make_it() {
    let (mut uart, mut seed, mut high) = (Uart::new(), 0x2545_f491_u32, 0);
    for _ in 0..100_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (offset, value) = ((seed >> 20) as u16 & 7, (seed >> 24) as u8);
        match seed >> 17 & 7 {
            0..=2 => {
                uart.read(offset);
            }
            3..=5 => {
                uart.write(offset, value);
            }
            6 => uart.receive(value),
            _ => uart.sent().clear(),
        }
        let gated = uart.modem_control & (super::MCR_OUT2 | super::MCR_LOOP) == super::MCR_OUT2;
        assert_eq!(uart.interrupts(), gated && uart.cause() != super::IIR_NONE);
        high += u32::from(uart.interrupts());
    }
    assert!((1_000..99_000).contains(&high), "both happen: {high}");
}
