//! `growth`: times first touches all over its address space, no two of which follow each other in one table.
//!
//! With more than [`LITTLE`] of RAM it touches that RAM; with less, what its pager has put at [`SLOTS`].
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[expect(dead_code, reason = "`bench` uses more of it")]
mod act;
#[cfg(target_os = "none")]
mod samples;
#[cfg(target_os = "none")]
#[expect(dead_code, reason = "the pager uses more of it")]
#[path = "../../stopwatch/src/slots_plan.rs"]
mod slots_plan;

#[cfg(target_os = "none")]
guests::flat_guest!(main);

/// So much RAM or less is not what is touched.
#[cfg(target_os = "none")]
const LITTLE: u64 = 16 << 20;
/// Below are image, stack and page tables.
#[cfg(target_os = "none")]
const FIRST: u64 = 8 << 20;
/// A table of the last level maps so much.
#[cfg(target_os = "none")]
const TABLE: u64 = 2 << 20;
/// RAM ends here and goes on at [`ABOVE_4G`].
#[cfg(target_os = "none")]
const LOW_END: u64 = 3 << 30;
#[cfg(target_os = "none")]
const ABOVE_4G: u64 = 4 << 30;
/// Pages that are touched.
#[cfg(target_os = "none")]
const TOUCHES: u64 = 1024;
/// Tables in which they are, at most.
#[cfg(target_os = "none")]
const TABLES: u64 = 64;

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    use guests::memory::PAGE;
    guests::interrupt::install();
    let clock = samples::Clock::calibrate();
    map_above_4g(ram);
    let (first, length) =
        if ram > LITTLE { (FIRST, ram - FIRST) } else { (slots_plan::FIRST, slots_plan::PAGES * PAGE) };
    let tables = (length / TABLE).min(TABLES);
    let table = |n: u64| ram_at((first + n % tables * (length / tables)).next_multiple_of(TABLE));
    // The last page of each table brings the table; it is none of those that are timed.
    (0..tables).for_each(|n| _ = act::write_first(table(n) + TABLE - PAGE));
    let mut samples = samples::Samples::of("growth", &clock);
    // In each table a page in turn, far from the one before: no two touches are of one table, or of one slot.
    (0..TOUCHES).for_each(|n| samples.add(act::write_first(table(n) + n / tables * 37 % 511 * PAGE)));
    samples.print();
    guests::line!("bench: done");
    guests::port::end(0)
}

/// The address of RAM that is so far from its beginning.
#[cfg(target_os = "none")]
const fn ram_at(offset: u64) -> u64 {
    if offset < LOW_END { offset } else { offset - LOW_END + ABOVE_4G }
}

/// Maps the RAM above 4 GiB where it is, by pages of 1 GiB: whoever loaded this mapped the first 4 GiB only.
#[cfg(target_os = "none")]
fn map_above_4g(ram: u64) {
    const PRESENT_WRITABLE_LARGE: u64 = 0x83;
    let root = guests::cpu::page_table();
    let pointers = guests::memory::read::<u64>(root) & !0xfff;
    for gib in 4..=ram_at(ram) >> 30 {
        guests::memory::write(pointers + gib * 8, gib << 30 | PRESENT_WRITABLE_LARGE);
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
