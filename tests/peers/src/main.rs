//! Parts of the hot path beside libraries that do the same: each is a case that runs N times.
//!
//! `peers run CASE N` runs a case, for callgrind: the difference of two N is what one takes. `peers time CASE` measures
//! it by the clock, in nanoseconds. `peers picture ROWS.json OUT.svg` draws all rows, `peers growth` those that are series. `peers list` names the cases.

mod fault;
mod growth;
mod picture;
mod slots;
mod tables;

use anyhow::Context;
use std::path::Path;
use std::time::Instant;

/// Prepares a case and runs it so many times.
type Case = fn(usize) -> std::time::Duration;

/// Most times that a case can run: as many pages are there to be mapped.
pub const MOST: usize = 16 * 512;

/// Every case: ours, and the peer's, under the same name.
const CASES: &[(&str, Case)] = &[
    ("nothing", nothing),
    ("slot_nothing", slots::nothing),
    ("slot_hit.ours", |n| slots::ours(32, slots::Order::Repeated, n)),
    ("slot_hit.vm-memory", |n| slots::peer(32, slots::Order::Repeated, n)),
    ("slot_random_32.ours", |n| slots::ours(32, slots::Order::Random, n)),
    ("slot_random_32.vm-memory", |n| slots::peer(32, slots::Order::Random, n)),
    ("slot_random_509.ours", |n| slots::ours(509, slots::Order::Random, n)),
    ("slot_random_509.vm-memory", |n| slots::peer(509, slots::Order::Random, n)),
    ("map.ours", tables::ours::map),
    ("map.ours-checked", tables::ours::install),
    ("map.x86_64", tables::x86::map),
    ("map.page_table_multiarch", tables::multiarch::map),
    ("unmap.ours", tables::ours::unmap),
    ("unmap.ours-checked", tables::ours::take_back),
    ("unmap.x86_64", tables::x86::unmap),
    ("fault.ours", fault::ours),
    ("fault.zerocopy", fault::peer),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        ["run", name, times] => {
            let _ = case(name)?(times.parse::<usize>()?.min(MOST));
        }
        ["time", name] => println!("{:.3}", time(case(name)?)),
        ["growth", rows, out] => growth::draw(Path::new(rows), Path::new(out))?,
        ["picture", rows, out] => picture::draw(Path::new(rows), Path::new(out))?,
        _ => anyhow::bail!(
            "usage: peers list | run CASE N | time CASE | picture ROWS.json OUT.svg | growth ROWS.json OUT.svg"
        ),
    }
    Ok(())
}

fn case(name: &str) -> anyhow::Result<Case> {
    CASES.iter().find(|(known, _)| *known == name).map(|(_, case)| *case).with_context(|| format!("no case {name}"))
}

/// Nanoseconds of one run, less those of the empty loop: the least of many rounds, for whatever else the host does can
/// only add to it.
fn time(case: Case) -> f64 {
    let least = |case: Case| (0..200).map(|_| case(MOST)).min().unwrap_or_default().as_nanos() as f64;
    (least(case) - least(nothing)).max(0.0) / MOST as f64
}

/// The loop around every case.
fn nothing(times: usize) -> std::time::Duration {
    repeat(times, |n| n)
}

/// Runs `one` so many times, and says how long all took. What it gives and takes is hidden from the optimizer.
pub fn repeat<T>(times: usize, mut one: impl FnMut(usize) -> T) -> std::time::Duration {
    let start = Instant::now();
    for n in 0..times {
        std::hint::black_box(one(std::hint::black_box(n)));
    }
    start.elapsed()
}
