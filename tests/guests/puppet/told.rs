//! What it is told, and what it does.

use crate::awaited::{Interrupts, read_all};
use guests::console::{COM1, LINE_STATUS};
use guests::line;
use guests::memory::{Address, PAGE, read, write};
use guests::port::{end, in8};

/// In the line status: a byte has come.
const DATA_READY: u8 = 1;
/// The longest line.
const LONGEST: usize = 80;

/// Does what it is told until it is told to end.
pub fn serve(ram: u64) -> ! {
    line!("puppet: ready, {} MiB", ram >> 20);
    loop {
        let mut bytes = [0; LONGEST];
        let len = receive(&mut bytes);
        let text = core::str::from_utf8(&bytes[..len]).unwrap_or("");
        if perform(text).is_none() {
            line!("puppet: FAILED: cannot do `{text}`");
        }
    }
}

/// A line, without its end; what is too long is cut.
fn receive(bytes: &mut [u8; LONGEST]) -> usize {
    let mut len = 0;
    loop {
        while in8(COM1 + LINE_STATUS) & DATA_READY == 0 {
            core::hint::spin_loop();
        }
        match in8(COM1) {
            b'\n' | b'\r' => return len,
            byte if len < LONGEST => {
                bytes[len] = byte;
                len += 1;
            }
            _ => {}
        }
    }
}

fn perform(text: &str) -> Option<()> {
    let mut words = text.split_ascii_whitespace();
    let verb = words.next()?;
    if verb == "end" {
        end(0);
    }
    let mut number = || parse(words.next()?);
    let (first, pages, step) = (number()?, number()?, number()?);
    let all = (0..pages).map(|n| (n, first + n * step * PAGE));
    match verb {
        "fill" => {
            let (value, more) = (number()?, number()?);
            all.for_each(|(n, address)| write(address, value + n * more));
            line!("puppet: filled {pages}");
        }
        "touch" => {
            all.for_each(|(_, address)| {
                let _: u64 = read(address);
            });
            line!("puppet: touched {pages}");
        }
        "await" => read_all(all.map(|(_, address)| address), Interrupts::In),
        "shut" => read_all(all.map(|(_, address)| address), Interrupts::Out),
        "hash" => line!("puppet: hash {:#018x}", all.fold(BASIS, |hash, (_, address)| page(hash, address))),
        _ => return None,
    }
    Some(())
}

/// FNV-1a, by words.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

fn page(hash: u64, address: Address) -> u64 {
    (address..address + PAGE).step_by(8).fold(hash, |hash, at| (hash ^ read::<u64>(at)).wrapping_mul(PRIME))
}

fn parse(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}
