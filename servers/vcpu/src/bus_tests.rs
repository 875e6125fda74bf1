//! The bus: who answers, what is counted, and how interrupts come about.

use super::Bus;
use crate::clock::Clock;
use crate::pit::HZ;
use crate::power::PowerEvent;
use std::vec::Vec;

fn bus() -> Bus {
    let mut bus = Bus::new(Clock::new(HZ), 0, 0, 64 << 20);
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x28), (0xa1, 2), (0xa1, 1)]
    {
        assert_eq!(bus.output(port, 1, value, 0), None);
    }
    bus
}

fn start_timer(bus: &mut Bus, count: u32, now: u64) {
    for (port, value) in [(0x43, 0x34), (0x40, count & 0xff), (0x40, count >> 8)] {
        assert_eq!(bus.output(port, 1, value, now), None);
    }
}

/// Delivers what is pending now, as far as it can be, and ends each.
fn take(bus: &mut Bus) -> Vec<u8> {
    let mut vectors = Vec::new();
    while bus.pic.pending() {
        assert!(vectors.len() < 100, "an interrupt that never ends");
        vectors.push(bus.acknowledge());
        bus.output(0x20, 1, 0x20, 0);
    }
    vectors
}

#[test]
fn an_unknown_port_reads_all_ones_of_its_size_and_is_counted_once_an_access() {
    let mut bus = bus();
    assert_eq!(bus.input(0x5658, 1, 0), 0xff);
    assert_eq!(bus.input(0x5658, 2, 0), 0xffff);
    assert_eq!(bus.input(0x5658, 4, 0), 0xffff_ffff);
    assert_eq!(bus.output(0x5658, 4, 0, 0), None);
    assert_eq!(bus.unknown.iter().collect::<Vec<_>>(), [(0x5658, 4)]);
}

#[test]
fn devices_known_to_be_absent_read_all_ones_and_are_not_counted() {
    let mut bus = bus();
    for port in [0x2f8, 0x3e8, 0x2ef, 0xcfc] {
        assert_eq!(bus.input(port, 1, 0), 0xff);
        assert_eq!(bus.output(port, 1, 0, 0), None);
    }
    assert_eq!(bus.output(0xcf8, 4, 0x8000_0000, 0), None);
    assert_eq!(bus.input(0xcf8, 4, 0), u32::MAX);
    assert_eq!(bus.unknown.total(), 0);
}

#[test]
fn a_configuration_address_does_not_reset_the_machine() {
    let mut bus = bus();
    assert_eq!(bus.output(0xcf8, 4, 0x8000_0600, 0), None);
    assert_eq!(bus.output(0xcf9, 1, 0x06, 0), Some(PowerEvent::Reset));
}

#[test]
fn the_test_port_takes_the_whole_value() {
    let mut bus = bus();
    assert_eq!(bus.output(0xf4, 1, 0, 0), Some(PowerEvent::TestExit(0)));
    assert_eq!(bus.output(0xf4, 4, 0x1_0003, 0), Some(PowerEvent::TestExit(0x1_0003)));
}

#[test]
fn acpi_powers_off_by_a_word() {
    assert_eq!(bus().output(0x604, 2, 0x2000, 0), Some(PowerEvent::PowerOff));
}

#[test]
fn the_timer_interrupts_at_its_deadline() {
    let mut bus = bus();
    start_timer(&mut bus, 1_000, 0);
    assert_eq!(bus.deadline(), Some(1_000));
    bus.advance(999);
    assert!(take(&mut bus).is_empty());
    bus.advance(1_000);
    assert_eq!(take(&mut bus), [0x20]);
    assert_eq!(bus.deadline(), Some(2_000));
}

#[test]
fn late_ticks_are_delivered_one_after_the_other() {
    let mut bus = bus();
    start_timer(&mut bus, 1_000, 0);
    bus.advance(5_500);
    assert_eq!(take(&mut bus), [0x20; 5]);
}

#[test]
fn ticks_behind_a_mask_leave_one_request() {
    let mut bus = bus();
    start_timer(&mut bus, 1_000, 0);
    bus.output(0x21, 1, 0x01, 0);
    assert_eq!(bus.deadline(), None);
    bus.advance(50_500);
    bus.output(0x21, 1, 0x00, 0);
    assert_eq!(take(&mut bus), [0x20]);
}

#[test]
fn a_new_mode_forgives_the_ticks_of_the_old_one() {
    let mut bus = bus();
    start_timer(&mut bus, 1_000, 0);
    bus.advance(10_500);
    start_timer(&mut bus, 1_000, 10_500);
    bus.advance(10_600);
    assert_eq!(take(&mut bus), [0x20], "only the request that was made already");
}

#[test]
fn the_serial_port_interrupts_both_ways() {
    let mut bus = bus();
    bus.output(0x3fc, 1, 0x0b, 0);
    bus.output(0x3f9, 1, 0x03, 0);
    assert_eq!(take(&mut bus), [0x24], "the transmitter is empty");
    assert_eq!(bus.input(0x3fa, 1, 0) & 0xf, 2);
    bus.output(0x3f8, 1, u32::from(b'x'), 0);
    assert_eq!(take(&mut bus), [0x24], "and again after a byte");
    bus.output(0x3f8, 1, u32::from(b'y'), 0);
    assert_eq!(take(&mut bus), [0x24], "though its cause was not read: the line went low between");
    let _ = bus.input(0x3fa, 1, 0);
    bus.receive(b'k');
    assert_eq!(take(&mut bus), [0x24]);
    assert_eq!(bus.input(0x3f8, 1, 0), u32::from(b'k'));
    assert_eq!(bus.uart.sent().iter().copied().collect::<Vec<_>>(), b"xy");
}

#[test]
fn a_delay_port_answers_nothing_and_is_not_counted() {
    let mut bus = bus();
    assert_eq!(bus.output(0x80, 1, 0xaa, 0), None);
    assert_eq!(bus.output(0xed, 1, 0xaa, 0), None);
    assert_eq!(bus.unknown.total(), 0);
}

#[test]
fn the_clock_interrupts_on_the_slave_until_its_flags_are_read() {
    let mut bus = bus();
    for (port, value) in [(0x70, 0x0b), (0x71, 0x12)] {
        assert_eq!(bus.output(port, 1, value, 0), None);
    }
    assert_eq!(bus.deadline(), Some(HZ));
    bus.advance(HZ);
    assert_eq!(bus.acknowledge(), 0x28);
    bus.output(0xa0, 1, 0x20, HZ);
    bus.output(0x20, 1, 0x20, HZ);
    bus.advance(2 * HZ);
    assert!(!bus.pic.pending(), "the line has not fallen");
    bus.output(0x70, 1, 0x0c, 2 * HZ);
    assert_eq!(bus.input(0x71, 1, 2 * HZ), 0x90);
    bus.advance(3 * HZ);
    assert_eq!(bus.acknowledge(), 0x28);
}

#[test]
fn the_test_device_raises_the_line_of_its_port_and_keeps_what_is_written() {
    let mut bus = bus();
    assert_eq!(bus.output(0x200b, 4, 0x100, 0), None);
    assert_eq!(bus.output(0x200b, 4, 0, 0), None);
    assert_eq!(bus.acknowledge(), 0x2b, "the edge stays when the line falls");
    assert!(!bus.pic.pending(), "and the ports beside it were not written");
    assert_eq!(bus.output(0xe0, 4, 0x1234_5678, 0), None);
    assert_eq!((bus.input(0xe0, 4, 0), bus.input(0xe1, 2, 0)), (0x1234_5678, 0x3456));
    assert_eq!(bus.unknown.total(), 0);
}
