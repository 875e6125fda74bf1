//! Sizes and port ranges as people write them.

use ipc_proto::manifest::Ports;

/// Bytes in a 4 KiB frame.
pub const FRAME: u64 = 4096;

/// What a size may look like, for error messages.
pub const SIZE: &str =
    "a whole number and a unit, such as \"512 MiB\", \"64 KiB\", \"2 GiB\" or \"64 frames\" (4 KiB each)";
/// What a port range may look like, for error messages.
pub const PORTS: &str = "a port or a range of ports, such as \"0x3f8-0x3ff\" or \"0x80\"";

/// Bytes of a size such as "512 MiB".
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "frame" | "frames" => FRAME,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// A size in frames; one that is no whole number of frames is none.
#[must_use]
pub fn frames(text: &str) -> Option<u64> {
    let bytes = size(text)?;
    (bytes % FRAME == 0).then_some(bytes / FRAME)
}

/// A range of I/O ports, both ends included.
#[must_use]
pub fn ports(text: &str) -> Option<Ports> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(Ports { first, last })
}

fn port(text: &str) -> Option<u16> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_and_nothing_else() {
        assert_eq!(size("512 MiB"), Some(512 << 20));
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("64 frames"), Some(64 * 4096));
        for wrong in ["512", "512 MB", "MiB", "-1 MiB", "1.5 GiB", "", "99999999999999999999 GiB", "1 MiB x"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_of_frames_is_whole_frames() {
        assert_eq!(frames("8 KiB"), Some(2));
        assert_eq!(frames("6 KiB"), None);
    }

    #[test]
    fn port_ranges_include_both_ends_and_do_not_run_backwards() {
        assert_eq!(ports("0x3f8-0x3ff"), Some(Ports { first: 0x3f8, last: 0x3ff }));
        assert_eq!(ports("128"), Some(Ports { first: 128, last: 128 }));
        for wrong in ["0x3ff-0x3f8", "0x10000", "com1", "1-2-3", ""] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
    }
}
