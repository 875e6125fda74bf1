//! The date at which the guest is switched on: the host's, where the manifest gives its clock.

use rt::{Task, port};
use vcpu::date::Date;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// What a guest sees on a machine whose clock was not given: the beginning of 2026.
const FIXED: u64 = 1_767_225_600;
const UPDATING: u8 = 0x80;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;

/// Seconds since 1970.
pub fn epoch(task: &Task) -> u64 {
    let given = task.entry().ports.iter().any(|ports| ports.first <= INDEX && ports.last >= DATA);
    if given { read() } else { FIXED }
}

fn register(number: u8) -> u8 {
    port::write(INDEX, number);
    port::read(DATA)
}

/// Reads until two looks agree: the chip may change the date between two registers.
fn read() -> u64 {
    let mut last = None;
    // A clock that never agrees with itself is none.
    for _ in 0..10_000 {
        if register(0x0a) & UPDATING != 0 {
            continue;
        }
        let date = look();
        if last == Some(date) {
            return date.to_unix();
        }
        last = Some(date);
    }
    FIXED
}

fn look() -> Date {
    let control = register(0x0b);
    let number = |register_number| {
        let value = register(register_number);
        if control & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
    };
    let raw_hour = register(4);
    let hour = match (control & HOURS_24, raw_hour & 0x80) {
        (0, afternoon) => {
            let clock = raw_hour & 0x7f;
            let hour = if control & BINARY != 0 { clock } else { (clock >> 4) * 10 + (clock & 0xf) };
            hour % 12 + if afternoon != 0 { 12 } else { 0 }
        }
        _ => number(4),
    };
    Date {
        year: 2000 + u64::from(number(9)),
        month: number(8).clamp(1, 12),
        day: number(7).clamp(1, 31),
        weekday: 1,
        hour,
        minute: number(2),
        second: number(0),
    }
}
