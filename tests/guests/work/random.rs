//! `work-random`: touches pages here and there, half of all there are; a third of the touches are writes.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::work::run("random", ram, work)
}

#[cfg(target_os = "none")]
fn work(area: &mut guests::work::Area) -> Result<u64, u64> {
    let mut chance = guests::work::Chance(7);
    let mut sum = 0u64;
    for n in 0..area.pages {
        let page = chance.below(area.pages);
        let found = area.touch(page, n % 3 == 0);
        if found != 0 && found != page + 1 {
            return Err(page);
        }
        sum = sum.wrapping_add(found);
    }
    Ok(sum)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
