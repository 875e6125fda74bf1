//! `work-shift`: uses a set of pages again and again, and the set moves on through memory.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::work::run("shift", ram, work)
}

/// Pages in use at a time.
#[cfg(target_os = "none")]
const SET: u64 = 512;
/// So many of them are others from one step to the next.
#[cfg(target_os = "none")]
const STEP: u64 = 128;
/// Touches in a step.
#[cfg(target_os = "none")]
const TOUCHES: u64 = 8192;

#[cfg(target_os = "none")]
fn work(area: &mut guests::work::Area) -> Result<u64, u64> {
    let mut chance = guests::work::Chance(11);
    let mut sum = 0u64;
    for first in (0..area.pages.saturating_sub(SET)).step_by(STEP as usize) {
        for n in 0..TOUCHES {
            let page = first + chance.below(SET);
            let found = area.touch(page, n % 2 == 0);
            if found != 0 && found != page + 1 {
                return Err(page);
            }
            sum = sum.wrapping_add(found);
        }
    }
    Ok(sum)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
