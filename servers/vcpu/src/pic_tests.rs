//! What the data sheet promises of the pair, and what PC kernels lean on.

use super::{Pic, port};

/// Initialised as every PC kernel does it: vectors 0x20 and 0x28, nothing masked.
fn initialised() -> Pic {
    with_icw4(0x01)
}

fn with_icw4(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    let words = [
        (port::MASTER_COMMAND, 0x11),
        (port::MASTER_DATA, 0x20),
        (port::MASTER_DATA, 0x04),
        (port::MASTER_DATA, icw4),
        (port::SLAVE_COMMAND, 0x11),
        (port::SLAVE_DATA, 0x28),
        (port::SLAVE_DATA, 0x02),
        (port::SLAVE_DATA, 0x01),
        (port::MASTER_DATA, 0),
        (port::SLAVE_DATA, 0),
    ];
    for (port, value) in words {
        assert_eq!(pic.write(port, value), Some(()));
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.raise(irq);
    pic.lower(irq);
}

fn end_master(pic: &mut Pic) {
    let _ = pic.write(port::MASTER_COMMAND, 0x20);
}

fn end_slave(pic: &mut Pic) {
    let _ = pic.write(port::SLAVE_COMMAND, 0x20);
}

#[test]
fn lines_of_both_chips_have_their_vectors() {
    for irq in [0, 1, 4, 7, 8, 14, 15] {
        let mut pic = initialised();
        pulse(&mut pic, irq);
        assert!(pic.pending());
        assert_eq!(pic.acknowledge(), 0x20 + irq);
        assert!(!pic.pending(), "irq {irq} is in service");
    }
}

#[test]
fn the_lower_line_goes_first_and_the_other_waits_for_the_end() {
    let mut pic = initialised();
    pulse(&mut pic, 4);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x20);
    assert!(!pic.pending());
    end_master(&mut pic);
    assert_eq!(pic.acknowledge(), 0x24);
}

#[test]
fn a_higher_line_interrupts_the_service_of_a_lower_one() {
    let mut pic = initialised();
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x24);
    pulse(&mut pic, 1);
    assert!(pic.pending());
    assert_eq!(pic.acknowledge(), 0x21);
}

#[test]
fn a_masked_line_is_remembered_and_delivered_when_unmasked() {
    let mut pic = initialised();
    let _ = pic.write(port::MASTER_DATA, 0x01);
    pulse(&mut pic, 0);
    assert!(!pic.pending() && pic.masked(0) && pic.requested(0));
    let _ = pic.write(port::MASTER_DATA, 0x00);
    assert_eq!(pic.acknowledge(), 0x20);
}

#[test]
fn a_slave_line_needs_the_cascade_unmasked() {
    let mut pic = initialised();
    let _ = pic.write(port::MASTER_DATA, 0x04);
    pulse(&mut pic, 8);
    assert!(!pic.pending() && pic.masked(8));
    let _ = pic.write(port::MASTER_DATA, 0x00);
    assert_eq!(pic.acknowledge(), 0x28);
}

#[test]
fn two_lines_of_the_slave_come_one_after_the_other() {
    let mut pic = initialised();
    pulse(&mut pic, 12);
    pulse(&mut pic, 9);
    assert_eq!(pic.acknowledge(), 0x29);
    assert!(!pic.pending());
    end_slave(&mut pic);
    end_master(&mut pic);
    assert_eq!(pic.acknowledge(), 0x2c);
}

#[test]
fn an_edge_is_one_request_and_a_line_that_stays_high_is_not_another() {
    let mut pic = initialised();
    pic.raise(3);
    pic.raise(3);
    assert_eq!(pic.acknowledge(), 0x23);
    end_master(&mut pic);
    assert!(!pic.pending());
    pic.lower(3);
    pic.raise(3);
    assert!(pic.pending());
}

#[test]
fn a_level_triggered_line_asks_until_it_falls() {
    let mut pic = initialised();
    let _ = pic.write(port::SLAVE_ELCR, 0x02);
    assert_eq!(pic.read(port::SLAVE_ELCR), Some(0x02));
    pic.raise(9);
    assert_eq!(pic.acknowledge(), 0x29);
    end_slave(&mut pic);
    end_master(&mut pic);
    assert!(pic.pending());
    pic.lower(9);
    assert_eq!(pic.acknowledge(), 0x2f, "the request has gone: spurious");
}

#[test]
fn lines_of_the_board_cannot_be_made_level_triggered() {
    let mut pic = initialised();
    let _ = pic.write(port::MASTER_ELCR, 0xff);
    let _ = pic.write(port::SLAVE_ELCR, 0xff);
    assert_eq!((pic.read(port::MASTER_ELCR), pic.read(port::SLAVE_ELCR)), (Some(0xf8), Some(0xde)));
}

#[test]
fn an_acknowledge_without_a_request_is_spurious_and_needs_no_end() {
    let mut pic = initialised();
    assert_eq!(pic.acknowledge(), 0x27);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x27);
}

#[test]
fn automatic_end_of_interrupt_leaves_nothing_in_service() {
    let mut pic = with_icw4(0x03);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x24);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x25);
}

#[test]
fn a_specific_end_ends_that_line_only() {
    let mut pic = initialised();
    pulse(&mut pic, 5);
    let _ = pic.acknowledge();
    pulse(&mut pic, 3);
    let _ = pic.acknowledge();
    let _ = pic.write(port::MASTER_COMMAND, 0x65);
    let _ = pic.write(port::MASTER_COMMAND, 0x0b);
    assert_eq!(pic.read(port::MASTER_COMMAND), Some(1 << 3));
}

#[test]
fn rotation_gives_the_served_line_the_lowest_priority() {
    let mut pic = initialised();
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x20);
    let _ = pic.write(port::MASTER_COMMAND, 0xa0);
    pulse(&mut pic, 0);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x21);
    end_master(&mut pic);
    let _ = pic.write(port::MASTER_COMMAND, 0xc0 | 4);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x25);
}

#[test]
fn a_specific_end_with_rotation_gives_its_line_the_lowest_priority() {
    let mut pic = initialised();
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x23);
    let _ = pic.write(port::MASTER_COMMAND, 0xe3);
    pulse(&mut pic, 3);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x26);
}

#[test]
fn special_mask_mode_lets_lower_lines_through_a_masked_one() {
    let mut pic = initialised();
    pulse(&mut pic, 2 + 1);
    let _ = pic.acknowledge();
    pulse(&mut pic, 6);
    assert!(!pic.pending());
    let _ = pic.write(port::MASTER_COMMAND, 0x68);
    let _ = pic.write(port::MASTER_DATA, 1 << 3);
    assert_eq!(pic.acknowledge(), 0x26);
}

#[test]
fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
    let mut plain = initialised();
    let mut nested = with_icw4(0x11);
    for pic in [&mut plain, &mut nested] {
        pulse(pic, 12);
        let _ = pic.acknowledge();
        pulse(pic, 8);
    }
    assert!(!plain.pending());
    assert_eq!(nested.acknowledge(), 0x28);
}

#[test]
fn a_poll_acknowledges_and_names_the_line() {
    let mut pic = initialised();
    let _ = pic.write(port::MASTER_COMMAND, 0x0c);
    assert_eq!(pic.read(port::MASTER_COMMAND), Some(0));
    pulse(&mut pic, 5);
    let _ = pic.write(port::MASTER_COMMAND, 0x0c);
    assert_eq!(pic.read(port::MASTER_COMMAND), Some(0x85));
    let _ = pic.write(port::MASTER_COMMAND, 0x0b);
    assert_eq!(pic.read(port::MASTER_COMMAND), Some(1 << 5));
}

#[test]
fn request_and_service_registers_and_the_mask_read_back() {
    let mut pic = initialised();
    let _ = pic.write(port::MASTER_DATA, 0xfb);
    assert_eq!(pic.read(port::MASTER_DATA), Some(0xfb));
    pulse(&mut pic, 1);
    let _ = pic.write(port::MASTER_COMMAND, 0x0a);
    assert_eq!(pic.read(port::MASTER_COMMAND), Some(0x02));
}

#[test]
fn initialising_forgets_requests_masks_and_services() {
    let mut pic = initialised();
    pulse(&mut pic, 1);
    let _ = pic.acknowledge();
    pulse(&mut pic, 3);
    let _ = pic.write(port::MASTER_DATA, 0xff);
    let _ = pic.write(port::MASTER_COMMAND, 0x13);
    let _ = pic.write(port::MASTER_DATA, 0x40);
    let _ = pic.write(port::MASTER_DATA, 0x01);
    assert!(!pic.pending());
    assert_eq!(pic.read(port::MASTER_DATA), Some(0));
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x43);
}

#[test]
fn other_ports_are_not_the_pairs() {
    let mut pic = Pic::new();
    assert_eq!((pic.read(0x22), pic.write(0xa2, 0)), (None, None));
}

#[test]
fn whether_the_pair_asks_is_always_what_its_requests_make_it() {
    let ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
    let (mut pic, mut seed, mut asks) = (initialised(), 0x2545_f491_u32, 0);
    for _ in 0..100_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (value, line, port) = ((seed >> 24) as u8, (seed >> 20) as u8 & 15, ports[(seed >> 18) as usize % 6]);
        match seed >> 15 & 7 {
            0..=2 => pic.raise(line),
            3 => pic.lower(line),
            4 if pic.pending() => {
                pic.acknowledge();
            }
            // Not into an initialisation: it would mask nothing for long.
            5 => {
                let _ = pic.write(port, value & !0x10);
            }
            6 => {
                let _ = pic.read(port);
            }
            _ => {
                let _ = pic.write(port & !1, 0x20);
            }
        }
        assert_eq!(pic.pending(), pic.master.request().is_some());
        assert_eq!(pic.master.lines & 4 != 0, pic.slave.request().is_some(), "the cascade");
        asks += u32::from(pic.pending());
    }
    assert!((1_000..99_000).contains(&asks), "both happen: {asks}");
}
