//! Pagers that are replaced, or started again, because somebody asked for it while the guest was at work.

use super::lives;
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
    let (mut before, mut strange) = ("vmm-mm", 0);
    for image in IMAGES.iter().cycle().take(swaps) {
        // What ours keeps the one in C cannot read, so that ours is there once more, and hands over by the ledger.
        strange += u64::from((before, *image) == ("vmm-mm", "pager-c"));
        before = image;
        guest.done(&format!("type hash {HERE:#x} {PAGES} 1"))?;
        let told = guest.done(&format!("swap {image}"))?;
        let longest = &mut longest[usize::from(*image == IMAGES[0])];
        *longest = longest.clone().max((figure(&told, "paused ticks=")?, told.trim().to_owned()));
        let hash = guest.hashed()?;
        ensure!(hash == right, "on {image} the guest's memory should be as it was");
        let why = guest.done(&format!("why {HERE:#x}"))?;
        let silent = why.contains("the pager has no lines about that, and need not have any");
        ensure!(silent == (*image == IMAGES[0]), "only the pager in C has no lines about an address:\n{why}");
    }
    let seen = guest.end()?;
    let lives = seen.figure("task.vmm-mm.restarts")?;
    seen.holds(lives == swaps as u64 + 2 * strange, &format!("{lives} new lives were begun"))?;
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

/// From ours to ours: ticks of a swap with nothing to hand over; docs/console.md says what they are. And those of each page that is
/// mapped, of each slot, and of each frame that the pager has.
const FIXED: f64 = 33_000.0;
const A_PAGE: f64 = 16.0;
const A_SLOT: f64 = 2_200.0;
const A_FRAME: f64 = 0.7;

/// How long a swap stops the guest, without the proofs of the ledger: what each page that is mapped costs, what each slot and each
/// frame that the pager has, and what is left for none.
pub fn pause(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const FEW: u64 = 500;
    const MANY: u64 = 3000;
    const MORE: u64 = 16;
    let [small, large, divided] = paused(bench, name, [(FEW, 0), (MANY, 0), (FEW, MORE)], 24)?;
    let [roomy] = paused(bench, name, [(FEW, 0)], 88)?;
    let mut shown = Vec::new();
    for (kind, what) in KINDS.iter().enumerate() {
        let ticks = |of: &Pauses| of[kind] as f64;
        let page = (ticks(&large) - ticks(&small)) / (MANY - FEW) as f64;
        let slot = (ticks(&divided) - ticks(&small)) / MORE as f64;
        let frame = (ticks(&roomy) - ticks(&small)) / f64::from((88 - 24) * 256);
        // The guest's own memory, and what it has beside: see boot/swap.toml.
        let frames = f64::from((16 + 24) * 256 - 256);
        let fixed = ticks(&small) - page * (FEW + OWN_PAGES) as f64 - slot * OWN_SLOTS as f64 - frame * frames;
        let told =
            format!("{what} {fixed:.0} + {page:.0} a page mapped + {slot:.0} a slot + {frame:.1} a frame of the pager");
        let cheap = fixed <= FIXED && page <= A_PAGE && slot <= A_SLOT && frame <= A_FRAME;
        ensure!(kind != 0 || cheap, "{told}: {FIXED}, {A_PAGE}, {A_SLOT} and {A_FRAME} are allowed");
        shown.push(told);
    }
    Ok(shown.join(", "))
}

/// What is asked, and how it is then.
const REQUESTS: [&str; 2] = ["swap vmm-mm", "swap vmm-mm ledger"];
const KINDS: [&str; 2] = ["by what is kept", "by the ledger"];
type Pauses = [u64; KINDS.len()];
/// Pages that the guest has mapped when it begins, and slots that it has with the one that is filled.
const OWN_PAGES: u64 = 13;
const OWN_SLOTS: u64 = 4;

/// The pauses of each kind, with so many pages mapped in one slot and so many empty slots beside in turn, and so many MiB beside the
/// guest's memory.
fn paused<const N: usize>(
    bench: &Bench,
    name: &str,
    sizes: [(u64, u64); N],
    beside: u64,
) -> anyhow::Result<[Pauses; N]> {
    let trial = Trial::of("swap").set("task.supervisor.options.check=false");
    let trial = trial.set(&format!("task.vmm-mm.memory=guests + {beside} MiB"));
    let mut guest = Puppet::start(trial, bench, &format!("{name}.{beside}"))?;
    let mut took = [Pauses::default(); N];
    for (took, (pages, more)) in took.iter_mut().zip(sizes) {
        guest.done(&format!("slot create 20 {HERE:#x} {pages}"))?;
        (0..more).try_for_each(|n| {
            guest.done(&format!("slot create {} {:#x} 1", 21 + n, HERE * 2 + (n << 16))).map(|_| ())
        })?;
        guest.fill(HERE, (pages, 1), (5, 3))?;
        for (ticks, request) in took.iter_mut().zip(REQUESTS) {
            let told = guest.done(request)?;
            *ticks = figure(&told, "paused ticks=")?;
            let mapped = figure(&guest.done("stats frames_mapped")?, "frames_mapped ")?;
            ensure!(mapped == pages + OWN_PAGES, "{mapped} pages are mapped, where the guest has {pages}");
            let slots = guest.done("slot list")?.lines().count() as u64;
            ensure!(slots == OWN_SLOTS + more, "there are {slots} slots");
        }
        (20..21 + more).try_for_each(|id| guest.done(&format!("slot delete {id}")).map(|_| ()))?;
    }
    guest.end()?;
    Ok(took)
}

/// A guest with half of its pages written, and some that it has never touched behind them.
fn filled(trial: Trial, bench: &Bench, name: &str) -> anyhow::Result<Puppet> {
    let mut guest = Puppet::start(trial, bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {}", PAGES + FRESH))?;
    guest.fill(HERE, (PAGES / 2, 2), (5, 3))?;
    Ok(guest)
}

/// What it finds there, and in the first `fresh` pages behind.
fn right(fresh: u64) -> String {
    hash_of((0..PAGES + fresh).map(|page| if page % 2 == 0 && page < PAGES { 5 + page / 2 * 3 } else { 0 }))
}

/// Has the pager replaced while the guest reads everything, and a little more each time: whether it was, and what was told. The
/// guest's memory is as it was.
fn swapped(guest: &mut Puppet, image: &str, time: u64) -> anyhow::Result<(bool, String)> {
    let fresh = (time * 5).min(FRESH);
    let told = guest.0.ctl(&format!("swap {image}"))?;
    guest.done(&format!("type hash {HERE:#x} {} 1", PAGES + fresh))?;
    let hash = guest.hashed()?;
    ensure!(hash == right(fresh), "with `{image}` asked for the guest's memory should be as it was: {told:?}");
    Ok((told.status.success(), told.lines + &told.error))
}

/// A guest on a pager with a flaw that can be started anew as often as it dies.
fn flawed(flaw: &str, bench: &Bench, name: &str) -> anyhow::Result<Puppet> {
    let options = format!("task.vmm-mm.options={{flaw=\"{flaw}\"}}");
    let sets = ["task.vmm-mm.image=flawed", &options, "task.vmm-mm.restart=20"];
    filled(sets.iter().fold(Trial::of("swap"), |trial, set| trial.set(set)), bench, name)
}

/// The pager dies at each step of a hand-over in turn, the old one and the new one: the swap is done, or the one before goes on
/// and it is said why; the guest's memory is right each time, and EPT and frame table agree.
pub fn dies(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const STEPS: [(&str, usize); 8] =
        [("Asked", 1), ("Read", 2), ("Told", 1), ("Handed", 1), ("Begun", 1), ("Word", 1), ("Taken", 1), ("First", 1)];
    let mut guest = flawed("dies-handing-over", bench, name)?;
    let (mut done, mut refused) = (0, 0);
    for time in 0..13 {
        let (swapped, told) = swapped(&mut guest, "flawed ledger", time)?;
        ensure!(swapped == told.contains("paused ticks="), "it should be told what came of it:\n{told}");
        done += u32::from(swapped);
        refused += u32::from(!swapped);
    }
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each death")?;
    for (step, least) in STEPS {
        let times = seen.told().matches(&format!("here is the flaw: {step}")).count();
        seen.holds(times >= least, &format!("{step}: it died {times} times there"))?;
    }
    seen.holds(done >= 5 && refused >= 4, &format!("{done} swaps were done, and {refused} not"))?;
    Ok(format!("deaths at {} steps; {done} swaps were done, {refused} times the one before went on", STEPS.len()))
}

/// The next pager dies with everything found that the one before kept, over its greeting, or behind that: it is started once more.
pub fn goes_on(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut guest = flawed("dies-going-on", bench, name)?;
    for time in 0..6 {
        let (swapped, told) = swapped(&mut guest, "flawed", time)?;
        ensure!(swapped && told.contains("goes on from what was kept"), "a death should not matter:\n{told}");
    }
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each death")?;
    for step in ["Adopted", "Greeted", "Answered"] {
        let times = seen.told().matches(&format!("here is the flaw: {step}")).count();
        seen.holds(times >= 2, &format!("{step}: it died {times} times there"))?;
    }
    Ok("6 swaps, each over a death".to_owned())
}

/// A guest that is larger than its frames has pages that only its pager can find: one that reads what was kept goes on, any other
/// is refused, and the guest is none the wiser.
pub fn larger(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let sets = ["policy=clock", "task.vmm-mm.memory=6 MiB"];
    let mut guest = filled(sets.iter().fold(Trial::of("swap"), |trial, set| trial.set(set)), bench, name)?;
    let packed = figure(&guest.done("stats compressions")?, "compressions ")?;
    ensure!(packed > 300, "the guest should have more pages than its pager has frames, and not only {packed} more");
    let mut shown = String::new();
    for time in 0..2 {
        let (done, told) = swapped(&mut guest, "vmm-mm", time)?;
        ensure!(done && told.contains("goes on from what was kept"), "{told}");
        shown = told.trim().to_owned();
        for image in ["pager-c", "vmm-mm ledger"] {
            let (done, told) = swapped(&mut guest, image, time)?;
            ensure!(!done && told.contains("OutOfMemory"), "not all that the guest has can be mapped:\n{told}");
        }
    }
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each")?;
    Ok(format!("{packed} pages compressed; {shown}"))
}

/// One pager of two VMs is replaced by its like, as often as the server of one asks for it: both guests find what is theirs. By the
/// ledger it cannot be: one server does not know the slots of the other.
pub fn shared(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let sets = ["vm.a.kernel=puppet", "task.vcpu-a.ports=[\"0x3f8-0x3ff\", \"0x2f8-0x2ff\"]"];
    let mut guest = filled(sets.iter().fold(Trial::of("two-vms"), |trial, set| trial.set(set)), bench, name)?;
    for time in 0..3 {
        let (done, told) = swapped(&mut guest, "vmm-mm", time)?;
        ensure!(done && told.contains("goes on from what was kept"), "{told}");
    }
    guest.0.refuses("swap vmm-mm ledger", "NoHandOver")?;
    let seen = guest.end()?;
    seen.tells("vcpu-b: the guest ended with 0 on port 0xf4")?;
    let (before, _) =
        seen.told().split_once("vcpu-b: guest: work: fill pages=7168 ").context("the other guest ends well")?;
    seen.holds(before.contains("vcpu-a is done"), "the other guest should have been in the middle")?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each")?;
    Ok("3 times a new pager under two guests".to_owned())
}

/// The pager is killed at ticks that nobody chose while it is replaced by its like, again and again.
pub fn killed(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let kills = match bench.length {
        Length::Short => 60,
        Length::Full => 600,
    };
    let mut guest = filled(lives::killed("swap", kills, (500, 20_000)).within(900), bench, name)?;
    let (mut done, mut refused) = (0, 0);
    while !guest.0.told()?.contains("drill: the last kill is done") {
        // What is kept is gone on from so quickly that few kills meet it.
        let image = ["vmm-mm", "vmm-mm ledger", "vmm-mm ledger"][(done + refused) as usize % 3];
        let (swapped, _) = swapped(&mut guest, image, done + refused)?;
        done += u64::from(swapped);
        refused += u64::from(!swapped);
    }
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each kill")?;
    let met = seen.told().matches("has stopped on trial: it was killed").count();
    seen.holds(met >= 5 && done > 0, &format!("{met} kills met a swap, and {done} swaps were done all the same"))?;
    Ok(format!("{kills} kills, {met} of them behind a hand-over: {done} swaps were done all the same, {refused} not"))
}

/// What ends at once, or answers as no pager does, gives way to the one before; what was set stays set.
pub fn refused(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let sets = ["task.vmm-mm.spares=[\"vcpu\", \"supervisor\", \"pager-c\"]", "task.vmm-mm.restart=0"];
    let trial = sets.iter().fold(Trial::of("swap"), |trial, set| trial.set(set));
    let mut guest = filled(trial, bench, name)?;
    guest.done("policy fault-around window=4")?;
    for (image, why) in [("vcpu", "cannot be reached"), ("supervisor", "makes no sense")] {
        let (done, told) = swapped(&mut guest, image, 0)?;
        ensure!(!done && told.contains(why), "{image} should not be taken, as it {why}:\n{told}");
        let policy = guest.done("policy")?;
        ensure!(policy.trim_start().starts_with("fault-around"), "the policy that was chosen should hold:\n{policy}");
    }
    for image in ["pager-c", "vmm-mm"] {
        let (done, told) = swapped(&mut guest, image, 0)?;
        ensure!(done, "{told}");
    }
    let policy = guest.done("policy")?;
    ensure!(policy.trim_start().starts_with("fault-around"), "it should outlive another pager:\n{policy}");
    let seen = guest.end()?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each")?;
    Ok("2 images gave way to the one before".to_owned())
}

/// Pages that the guest has written, and that it touches later.
const PAGES: u64 = 3000;
const FRESH: u64 = 400;

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
