//! Pagers that are replaced, or started again, because somebody asked for it while the guest was at work.

use super::pipeline::{HERE, Puppet, hash_of};
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;
use anyhow::{Context, ensure};

/// From one pager to the other and back, under a guest that reads, and writes, all of its memory meanwhile: what it finds is
/// right each time, and EPT and frame table agree.
pub fn whole(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const IMAGES: [&str; 4] = ["pager-c", "vmm-mm", "vmm-mm", "pager-c"];
    let swaps = match bench.length {
        Length::Short => 10,
        Length::Full => 100,
    };
    let mut guest = Puppet::start(Trial::of("swap").within(900), bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    guest.fill(HERE, (PAGES / 2, 2), (5, 3))?;
    let right = hash_of((0..PAGES).map(|page| if page % 2 == 0 { 5 + page / 2 * 3 } else { 0 }));
    let mut longest = [(0, String::new()), (0, String::new())];
    for image in IMAGES.iter().cycle().take(swaps) {
        guest.done(&format!("type hash {HERE:#x} {PAGES} 1"))?;
        let told = guest.done(&format!("swap {image}"))?;
        let longest = &mut longest[usize::from(*image == IMAGES[0])];
        *longest = longest.clone().max((figure(&told, "paused ticks=")?, told.trim().to_owned()));
        let hash = guest.hashed()?;
        ensure!(hash == right, "on {image} the guest's memory should be as it was");
    }
    let seen = guest.end()?;
    let lives = seen.figure("task.vmm-mm.restarts")?;
    seen.holds(lives == swaps as u64, &format!("{lives} new lives were begun"))?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each")?;
    let [(_, ours), (_, in_c)] = longest;
    Ok(format!("{swaps} swaps; the longest pauses: {ours}; {in_c}"))
}

/// The number behind `name` in what was told.
fn figure(told: &str, name: &str) -> anyhow::Result<u64> {
    let digits = told.split_once(name).map_or("", |(_, rest)| rest);
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().with_context(|| format!("there should be a number behind `{name}` in\n{told}"))
}

/// Pages that the guest has written.
const PAGES: u64 = 3000;

/// A pager that is asked to die, to begin anew, or to make way for its like, loses nothing; what cannot be done is refused
/// with what could.
pub fn asked(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const REQUESTS: [&str; 3] = ["kill", "restart", "swap vmm-mm"];
    let mut guest = Puppet::start(Trial::of("swap"), bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    guest.0.refuses("swap vmm", "no such image, but vmm-mm pager-c")?;
    guest.fill(HERE, (PAGES / 2, 2), (5, 3))?;
    let right = hash_of((0..PAGES).map(|page| if page % 2 == 0 { 5 + page / 2 * 3 } else { 0 }));
    for request in REQUESTS {
        // It reads what was never touched too: there are faults all the while.
        guest.done(&format!("type hash {HERE:#x} {PAGES} 1"))?;
        guest.done(request)?;
        let hash = guest.hashed()?;
        ensure!(hash == right, "after `{request}` the guest's memory should be as it was");
    }
    let seen = guest.end()?;
    let lives = seen.figure("task.vmm-mm.restarts")?;
    seen.holds(lives == REQUESTS.len() as u64, &format!("{lives} new lives were begun"))?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each")?;
    Ok(format!("{lives} times a new pager"))
}
