//! How much memory there is.

use crate::call::read_file;

/// All RAM that the firmware told the kernel of, in KiB: /proc/iomem, `first-last : System RAM`.
pub fn total_kib() -> Option<u64> {
    let mut buffer = [0; 8192];
    let bytes = lines(read_file(b"/proc/iomem\0", &mut buffer)?)
        .filter_map(|line| line.strip_suffix(" : System RAM")?.trim().split_once('-'))
        .filter_map(|(first, last)| Some((number(first, 16)?, number(last, 16)?)))
        .map(|(first, last)| last + 1 - first)
        .sum::<u64>();
    (bytes > 0).then_some(bytes >> 10)
}

/// What a program can have without hurting others, in KiB: /proc/meminfo, `MemAvailable:`.
pub fn available_kib() -> Option<u64> {
    let mut buffer = [0; 4096];
    let line = lines(read_file(b"/proc/meminfo\0", &mut buffer)?).find(|line| line.starts_with("MemAvailable:"))?;
    number(line.split_ascii_whitespace().nth(1)?, 10)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| core::str::from_utf8(line).ok())
}

fn number(text: &str, radix: u32) -> Option<u64> {
    u64::from_str_radix(text, radix).ok()
}
