//! `work-noise`: fills its memory with what does not become smaller, and reads it again.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(ram: u64) -> ! {
    guests::work::run("noise", ram, work)
}

#[cfg(target_os = "none")]
fn work(area: &mut guests::work::Area) -> Result<u64, u64> {
    guests::pattern::fill(area.words(), 1, guests::pattern::Fill::Noise);
    guests::pattern::verify(area.words(), 1, guests::pattern::Fill::Noise).map_err(|page| page as u64)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
