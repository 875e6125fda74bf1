//! The 8254 against its data sheet, at one tick of the time-stamp counter for each count.

use super::{HZ, Pit, port};
use crate::clock::Clock;

/// One tick for each count: times below are counts.
fn pit() -> Pit {
    Pit::new(Clock::new(HZ))
}

fn command(pit: &mut Pit, word: u8, now: u64) {
    assert_eq!(pit.write(port::COMMAND, word, now), Some(()));
}

fn load(pit: &mut Pit, channel: u16, count: u16, now: u64) {
    let [low, high] = count.to_le_bytes();
    assert_eq!(pit.write(port::CHANNEL0 + channel, low, now), Some(()));
    assert_eq!(pit.write(port::CHANNEL0 + channel, high, now), Some(()));
}

fn read(pit: &mut Pit, channel: u16, now: u64) -> u16 {
    let port = port::CHANNEL0 + channel;
    u16::from_le_bytes([pit.read(port, now).unwrap(), pit.read(port, now).unwrap()])
}

#[test]
fn a_periodic_channel_rises_once_a_period() {
    for (mode, name) in [(0x34, "rate generator"), (0x36, "square wave")] {
        let mut pit = pit();
        command(&mut pit, mode, 0);
        assert_eq!(pit.deadline(), None);
        load(&mut pit, 0, 1_000, 500);
        assert_eq!(pit.deadline(), Some(1_500), "{name}");
        assert_eq!(pit.take_edges(1_499), 0);
        assert_eq!(pit.take_edges(1_500), 1);
        assert_eq!(pit.deadline(), Some(2_500));
        assert_eq!(pit.take_edges(5_600), 4, "late: none is lost");
        assert_eq!(pit.take_edges(5_600), 0);
        assert_eq!(pit.deadline(), Some(6_500));
    }
}

#[test]
fn mode_0_rises_once_at_the_end_of_its_count() {
    let mut pit = pit();
    command(&mut pit, 0x30, 0);
    load(&mut pit, 0, 100, 0);
    assert_eq!(pit.deadline(), Some(100));
    assert_eq!((pit.take_edges(99), pit.take_edges(100), pit.take_edges(10_000)), (0, 1, 0));
    assert_eq!(pit.deadline(), None);
    load(&mut pit, 0, 50, 10_000);
    assert_eq!(pit.deadline(), Some(10_050));
}

#[test]
fn mode_4_strobes_once_for_each_load() {
    let mut pit = pit();
    command(&mut pit, 0x38, 0);
    load(&mut pit, 0, 100, 0);
    assert_eq!(pit.deadline(), Some(101));
    assert_eq!((pit.take_edges(100), pit.take_edges(101), pit.take_edges(500)), (0, 1, 0));
    load(&mut pit, 0, 7, 1_000);
    assert_eq!(pit.deadline(), Some(1_008));
}

#[test]
fn a_count_of_zero_is_the_longest() {
    let mut pit = pit();
    command(&mut pit, 0x34, 0);
    load(&mut pit, 0, 0, 0);
    assert_eq!(pit.deadline(), Some(65_536));
    command(&mut pit, 0x35, 0);
    load(&mut pit, 0, 0, 0);
    assert_eq!(pit.deadline(), Some(10_000));
}

#[test]
fn the_counter_counts_down_and_starts_again() {
    let mut pit = pit();
    command(&mut pit, 0x34, 0);
    load(&mut pit, 0, 1_000, 0);
    assert_eq!((read(&mut pit, 0, 0), read(&mut pit, 0, 1), read(&mut pit, 0, 1_001)), (1_000, 999, 999));
    command(&mut pit, 0x36, 0);
    load(&mut pit, 0, 1_000, 0);
    assert_eq!((read(&mut pit, 0, 1), read(&mut pit, 0, 501)), (998, 998));
    command(&mut pit, 0x30, 0);
    load(&mut pit, 0, 10, 0);
    assert_eq!(read(&mut pit, 0, 11), 0xffff, "mode 0 goes on below zero");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = pit();
    command(&mut pit, 0x31, 0);
    load(&mut pit, 0, 0x1234, 0);
    assert_eq!((read(&mut pit, 0, 1), read(&mut pit, 0, 34)), (0x1233, 0x1200));
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let mut pit = pit();
    command(&mut pit, 0x34, 0);
    load(&mut pit, 0, 1_000, 0);
    command(&mut pit, 0x00, 10);
    command(&mut pit, 0x00, 20);
    assert_eq!(read(&mut pit, 0, 500), 990);
    assert_eq!(read(&mut pit, 0, 500), 500);
}

#[test]
fn the_two_bytes_of_an_unlatched_count_come_in_turn() {
    let mut pit = pit();
    command(&mut pit, 0x14, 0);
    assert_eq!(pit.write(port::CHANNEL0, 200, 0), Some(()));
    assert_eq!(pit.deadline(), Some(200), "low byte only");
    assert_eq!(pit.read(port::CHANNEL0, 1), Some(199));
    command(&mut pit, 0x24, 0);
    assert_eq!(pit.write(port::CHANNEL0, 2, 0), Some(()));
    assert_eq!(pit.deadline(), Some(512), "high byte only");
    assert_eq!(pit.read(port::CHANNEL0, 0), Some(2));
}

#[test]
fn read_back_latches_status_and_count_of_several_channels() {
    let mut pit = pit();
    command(&mut pit, 0x34, 0);
    command(&mut pit, 0xe2, 0);
    assert_eq!(pit.read(port::CHANNEL0, 0), Some(0x80 | 0x40 | 0x34), "no count has been written yet");
    load(&mut pit, 0, 1_000, 0);
    command(&mut pit, 0xc2, 10);
    assert_eq!(pit.read(port::CHANNEL0, 20), Some(0x80 | 0x34));
    assert_eq!(read(&mut pit, 0, 20), 990);
    command(&mut pit, 0xe2, 0);
    assert_eq!(pit.read(port::CHANNEL0, 0), Some(0x80 | 0x34), "status alone");
    assert_eq!(read(&mut pit, 0, 30), 970);
}

#[test]
fn the_output_of_channel_2_shows_in_port_61_as_calibration_loops_want_it() {
    let mut pit = pit();
    assert_eq!(pit.write(port::SPEAKER, 0x01, 0), Some(()));
    command(&mut pit, 0xb0, 0);
    load(&mut pit, 2, 1_000, 0);
    let output = |pit: &mut Pit, now| pit.read(port::SPEAKER, now).unwrap() & 0x20;
    assert_eq!((output(&mut pit, 999), output(&mut pit, 1_000), output(&mut pit, 2_000)), (0, 0x20, 0x20));
}

#[test]
fn a_closed_gate_stops_channel_2() {
    let mut pit = pit();
    assert_eq!(pit.write(port::SPEAKER, 0x01, 0), Some(()));
    command(&mut pit, 0xb0, 0);
    load(&mut pit, 2, 1_000, 0);
    let _ = pit.write(port::SPEAKER, 0x00, 400);
    assert_eq!(read(&mut pit, 2, 5_000), 600);
    let _ = pit.write(port::SPEAKER, 0x01, 5_000);
    assert_eq!(read(&mut pit, 2, 5_100), 500);
    assert_eq!(pit.read(port::SPEAKER, 5_601).unwrap() & 0x20, 0x20);
}

#[test]
fn a_rising_gate_starts_a_one_shot() {
    let mut pit = pit();
    command(&mut pit, 0xb2, 0);
    load(&mut pit, 2, 100, 0);
    let output = |pit: &mut Pit, now| pit.read(port::SPEAKER, now).unwrap() & 0x20;
    assert_eq!(output(&mut pit, 50), 0x20);
    let _ = pit.write(port::SPEAKER, 0x01, 1_000);
    assert_eq!((output(&mut pit, 1_050), output(&mut pit, 1_100)), (0, 0x20));
}

#[test]
fn the_refresh_bit_of_port_61_toggles() {
    let mut pit = pit();
    let toggles: std::vec::Vec<u8> = (0..200).map(|now| pit.read(port::SPEAKER, now).unwrap() & 0x10).collect();
    assert!(toggles.contains(&0x10) && toggles.contains(&0));
}

#[test]
fn a_new_mode_stops_the_old_one() {
    let mut pit = pit();
    command(&mut pit, 0x34, 0);
    load(&mut pit, 0, 100, 0);
    assert_eq!(pit.take_edges(250), 2);
    command(&mut pit, 0x38, 300);
    assert_eq!((pit.deadline(), pit.take_edges(10_000)), (None, 0));
    load(&mut pit, 0, 100, 10_000);
    assert_eq!(pit.take_edges(10_101), 1);
}

#[test]
fn other_ports_are_not_the_timers() {
    let mut pit = pit();
    assert_eq!((pit.read(0x44, 0), pit.write(0x44, 0, 0)), (None, None));
}
