//! Pagers that are replaced, or started again, because somebody asked for it while the guest was at work.

use super::pipeline::{HERE, Puppet, hash_of};
use crate::test::promise::Bench;
use crate::test::trial::Trial;
use anyhow::ensure;

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
