//! Ending the machine, and what of the board must be silenced.

use super::{port, serial::Serial};

/// Masks both 8259: interrupts come from the local APIC only.
pub fn silence_pic() {
    // Initialise first, so that a spurious request does not look like an exception: vectors 0xe0 to 0xef.
    for (command, data, vector, wiring) in [(0x20, 0x21, 0xe0, 4), (0xa0, 0xa1, 0xe8, 2)] {
        port::write(command, 0x11);
        port::write(data, vector);
        port::write(data, wiring);
        port::write(data, 1);
        port::write(data, 0xff);
    }
}

/// Counts time-stamp ticks for 10 ms of the 8254's channel 2 and says how many a second has.
pub fn tsc_frequency(tsc: impl Fn() -> u64) -> u64 {
    const INPUT_HZ: u64 = 1_193_182;
    const COUNT: u64 = INPUT_HZ / 100;
    let speaker = port::read(0x61) & !2;
    port::write(0x61, speaker & !1);
    port::write(0x43, 0xb0);
    port::write(0x42, COUNT as u8);
    port::write(0x42, (COUNT >> 8) as u8);
    let start = tsc();
    port::write(0x61, speaker | 1);
    while port::read(0x61) & 0x20 == 0 {
        // A machine without this timer must not hang here: a second at 10 GHz is enough for 10 ms.
        if tsc() - start > 10_000_000_000 {
            break;
        }
    }
    (tsc() - start) * INPUT_HZ / COUNT
}

/// Ends the machine: QEMU's exit device, Bochs's shutdown port, ACPI S5 of both; a machine that has none halts.
pub fn power_off(status: u8) -> ! {
    Serial.drain();
    port::write(0xf4, status);
    for byte in b"Shutdown" {
        port::write(0x8900, *byte);
    }
    port::write_16(0x604, 0x2000);
    port::write_16(0xb004, 0x2000);
    loop {
        super::cpu::halt();
    }
}
