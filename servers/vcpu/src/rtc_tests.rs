//! The clock against dates that are known, and the bits that drivers wait for.

use super::{Rtc, port};
use crate::clock::Clock;

const HZ: u64 = 1_000_000;
/// Tuesday 2024-12-31 23:59:58 UTC.
const NEW_YEARS_EVE: u64 = 1_735_689_598;

fn rtc(epoch: u64) -> Rtc {
    Rtc::new(Clock::new(HZ), epoch, 0, 512 << 20)
}

fn read(rtc: &mut Rtc, register: u8, now: u64) -> u8 {
    rtc.advance(now);
    rtc.write(port::INDEX, register, now).unwrap();
    rtc.read(port::DATA, now).unwrap()
}

fn write(rtc: &mut Rtc, register: u8, value: u8, now: u64) {
    rtc.write(port::INDEX, register, now).unwrap();
    rtc.write(port::DATA, value, now).unwrap();
}

/// Century, year, month, day, weekday, hours, minutes, seconds.
fn date(rtc: &mut Rtc, now: u64) -> [u8; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|register| read(rtc, register, now))
}

#[test]
fn the_year_turns() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    assert_eq!(date(&mut rtc, 0), [0x20, 0x24, 0x12, 0x31, 3, 0x23, 0x59, 0x58]);
    assert_eq!(date(&mut rtc, 2 * HZ), [0x20, 0x25, 0x01, 0x01, 4, 0, 0, 0]);
}

#[test]
fn binary_and_twelve_hours_can_be_chosen() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    write(&mut rtc, 0x0b, 0x06, 0);
    assert_eq!(date(&mut rtc, 0), [20, 24, 12, 31, 3, 23, 59, 58]);
    write(&mut rtc, 0x0b, 0x00, 0);
    assert_eq!(read(&mut rtc, 4, 0), 0x91, "11 in the evening");
    assert_eq!(read(&mut rtc, 4, 2 * HZ), 0x12, "12 at night");
}

#[test]
fn the_update_bit_is_set_only_at_the_end_of_a_second() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    let updating = |rtc: &mut Rtc, now| read(rtc, 0x0a, now) & 0x80 != 0;
    assert!(!updating(&mut rtc, 0) && !updating(&mut rtc, HZ / 2));
    assert!(updating(&mut rtc, HZ - 10));
    assert!(!updating(&mut rtc, HZ));
    assert_eq!(read(&mut rtc, 0x0a, 0) & 0x7f, 0x26);
}

#[test]
fn the_updated_flag_is_cleared_by_reading_it() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    assert_eq!(read(&mut rtc, 0x0c, 0), 0);
    assert_eq!((read(&mut rtc, 0x0c, HZ), read(&mut rtc, 0x0c, HZ)), (0x10, 0));
    assert_eq!(read(&mut rtc, 0x0d, 0), 0x80);
}

#[test]
fn a_date_that_is_set_goes_on_from_there() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    write(&mut rtc, 0x0b, 0x82, HZ / 4);
    for (register, value) in [(0x32, 0x20), (9, 0x30), (8, 0x02), (7, 0x28), (4, 0x23), (2, 0x59), (0, 0x59)] {
        write(&mut rtc, register, value, HZ / 2);
    }
    assert_eq!(read(&mut rtc, 0, 5 * HZ), 0x59, "it stands while it is being set");
    write(&mut rtc, 0x0b, 0x02, 5 * HZ);
    assert_eq!(date(&mut rtc, 6 * HZ - 1), [0x20, 0x30, 0x02, 0x28, 5, 0x23, 0x59, 0x59]);
    assert_eq!(date(&mut rtc, 6 * HZ), [0x20, 0x30, 0x03, 0x01, 6, 0, 0, 0]);
}

#[test]
fn a_register_set_while_the_clock_runs_takes_effect_at_once() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    write(&mut rtc, 2, 0x30, 0);
    write(&mut rtc, 8, 0x11, 0);
    assert_eq!(date(&mut rtc, HZ), [0x20, 0x24, 0x11, 0x30, 7, 0x23, 0x30, 0x59], "November has no 31st");
}

#[test]
fn nonsense_does_not_become_a_date() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    for register in 0..=0x0d {
        write(&mut rtc, register, 0xff, 0);
    }
    write(&mut rtc, 0x0b, 0x02, 0);
    let _ = date(&mut rtc, 0);
}

#[test]
fn the_memory_keeps_what_is_written_and_names_the_ram() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    write(&mut rtc, 0x40, 0x5a, 0);
    assert_eq!(read(&mut rtc, 0x40, 0), 0x5a);
    assert_eq!([read(&mut rtc, 0x15, 0), read(&mut rtc, 0x16, 0)], 640u16.to_le_bytes());
    assert_eq!([read(&mut rtc, 0x34, 0), read(&mut rtc, 0x35, 0)], ((512u16 - 16) << 4).to_le_bytes());
}

#[test]
fn an_update_interrupts_every_second_until_it_is_told() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    assert_eq!(rtc.deadline(), None);
    write(&mut rtc, 0x0b, 0x12, HZ / 2);
    assert_eq!((rtc.deadline(), rtc.interrupts()), (Some(HZ), false));
    rtc.advance(HZ);
    assert!(rtc.interrupts());
    assert_eq!(rtc.deadline(), None, "the line is high");
    assert_eq!(read(&mut rtc, 0x0c, HZ), 0x90);
    assert_eq!((rtc.deadline(), rtc.interrupts()), (Some(2 * HZ), false));
}

#[test]
fn an_alarm_comes_at_its_time_of_day() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    for (register, value) in [(1, 0x01), (3, 0x00), (5, 0xff), (0x0b, 0x22)] {
        write(&mut rtc, register, value, 0);
    }
    rtc.advance(2 * HZ);
    assert!(!rtc.interrupts());
    rtc.advance(3 * HZ);
    assert!(rtc.interrupts());
    assert_eq!(read(&mut rtc, 0x0c, 3 * HZ), 0xb0);
}

#[test]
fn an_alarm_is_not_missed_by_coming_late() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    for (register, value) in [(1, 0x30), (3, 0x00), (5, 0x00), (0x0b, 0x22)] {
        write(&mut rtc, register, value, 0);
    }
    rtc.advance(3_600 * HZ);
    assert!(rtc.interrupts());
}

#[test]
fn periods_have_the_rate_of_register_a() {
    let mut rtc = rtc(NEW_YEARS_EVE);
    write(&mut rtc, 0x0a, 0x2f, 0);
    assert_eq!(read(&mut rtc, 0x0a, 0), 0x2f);
    write(&mut rtc, 0x0b, 0x42, HZ / 4);
    assert_eq!(rtc.deadline(), Some(HZ / 4 + HZ / 2), "two a second, from when they are asked for");
    rtc.advance(HZ / 4 + HZ / 2);
    assert!(rtc.interrupts());
    assert_eq!(read(&mut rtc, 0x0c, HZ / 4 + HZ / 2), 0xc0);
    assert_eq!(rtc.deadline(), Some(HZ / 4 + HZ));
    write(&mut rtc, 0x0a, 0x26, HZ);
    assert_eq!(rtc.deadline(), Some(HZ + HZ.div_ceil(1_024)));
}
