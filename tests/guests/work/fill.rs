//! `work-fill`: fills all of its memory, page after page, and reads it again; twice.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::work::run("fill", ram, work)
}

/// Every page becomes a quarter of its size when it is compressed.
#[cfg(target_os = "none")]
fn work(area: &mut guests::work::Area) -> Result<u64, u64> {
    let mut sum = 0;
    for pass in 1..=2 {
        let written = guests::pattern::fill(area.words(), pass, guests::pattern::Fill::Quarter);
        let read =
            guests::pattern::verify(area.words(), pass, guests::pattern::Fill::Quarter).map_err(|page| page as u64)?;
        if read != written {
            return Err(u64::MAX);
        }
        sum ^= read;
    }
    Ok(sum)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
