//! What the fault pipeline promises, under a guest that does what it is told (`tests/guests/puppet`), so that it is known
//! what it did and when.

use crate::status::Status;
use crate::test::live::Live;
use crate::test::promise::Bench;
use crate::test::trial::{Seen, Trial};
use anyhow::{Context, ensure};
use std::time::{Duration, Instant};

/// How long the guest may take for what it is told.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the slot of the tests lies, and where it is moved to.
pub(super) const HERE: u64 = 0x1000_0000;
const THERE: u64 = 0x1800_0000;
/// A CPU with A and D bits and a log of written pages, and one that has none of them.
const SKYLAKE: &str = "corei7_skylake_x";
const SANDY_BRIDGE: &str = "corei7_sandy_bridge_2600k";

/// So many ticks the question which pages of a slot are idle may take, at most.
const MARKED: u64 = 200_000;

const fn page(base: u64, number: u64) -> u64 {
    base + (number << 12)
}

/// The guest, and the console beside it.
pub(super) struct Puppet(pub(super) Live);

impl Puppet {
    pub(super) fn start(trial: Trial, bench: &Bench, name: &str) -> anyhow::Result<Self> {
        let mut guest = trial.within(400).start(bench, name)?;
        guest.shows("puppet: ready", Duration::from_secs(200))?;
        Ok(Self(guest))
    }

    /// Writes `value`, `value + more`, ... to `pages` pages, `step` pages apart.
    pub(super) fn fill(
        &mut self,
        first: u64,
        (pages, step): (u64, u64),
        (value, more): (u64, u64),
    ) -> anyhow::Result<()> {
        self.0.done(&format!("type fill {first:#x} {pages} {step} {value} {more}"))?;
        self.0.shows(&format!("puppet: filled {pages}\n"), PATIENCE)
    }

    /// Reads a word of each page.
    fn touch(&mut self, first: u64, pages: u64) -> anyhow::Result<()> {
        self.0.done(&format!("type touch {first:#x} {pages} 1"))?;
        self.0.shows(&format!("puppet: touched {pages}\n"), PATIENCE)
    }

    /// The hash of whole pages.
    fn hash(&mut self, first: u64, pages: u64) -> anyhow::Result<String> {
        self.0.done(&format!("type hash {first:#x} {pages} 1"))?;
        self.hashed()
    }

    /// The hash that it was told to make.
    pub(super) fn hashed(&mut self) -> anyhow::Result<String> {
        self.0.line("puppet: hash ", PATIENCE)
    }

    /// Reads a word of each page while a timer interrupts: before how many reads interrupts came more than once, the most
    /// before one, how many came in all, and how many when they were let in at the end.
    fn awaited(&mut self, how: &str, pages: u64) -> anyhow::Result<[u64; 4]> {
        self.0.done(&format!("type {how} {HERE:#x} {pages} 1"))?;
        let said = self.0.line("puppet: awaited ", PATIENCE)?;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().map_err(|_| anyhow::anyhow!("the guest said: awaited {said}"))
    }

    pub(super) fn done(&self, request: &str) -> anyhow::Result<String> {
        self.0.done(request)
    }

    /// A figure of `stats`.
    fn figure(&self, name: &str) -> anyhow::Result<u64> {
        let stats = self.done(&format!("stats {name}"))?;
        let value = stats.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok());
        value.with_context(|| format!("there should be a figure {name} in\n{stats}"))
    }

    /// How much the figure grows by what is done.
    fn grows(&mut self, name: &str, what: impl FnOnce(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let before = self.figure(name)?;
        what(self)?;
        Ok(self.figure(name)? - before)
    }

    /// The rows of pages that were written since this was last asked: address and pages.
    fn written(&self) -> anyhow::Result<Vec<(u64, u64)>> {
        let told = self.done("dirty read 20")?;
        let row = |line: &str| {
            let (gpa, pages) = line.trim().strip_prefix("row gpa 0x")?.split_once(" pages ")?;
            Some((u64::from_str_radix(gpa, 16).ok()?, pages.parse().ok()?))
        };
        Ok(told.lines().filter_map(row).collect())
    }

    /// It is told to end, and everything was in order.
    pub(super) fn end(self) -> anyhow::Result<Seen> {
        self.done("type end")?;
        let seen = self.0.end()?;
        seen.ends(Status::Done)?.ledger_matches()?;
        seen.holds(!seen.shown().contains("FAILED"), "the guest should do all that it is told")?;
        Ok(seen)
    }
}

/// What the guest says of pages whose first words are these, and that are zero behind them.
pub(super) fn hash_of(words: impl IntoIterator<Item = u64>) -> String {
    const PRIME: u64 = 0x0100_0000_01b3;
    let page = |hash: u64, first: u64| {
        (0..512).fold(hash, |hash, n| (hash ^ if n == 0 { first } else { 0 }).wrapping_mul(PRIME))
    };
    format!("{:#018x}", words.into_iter().fold(0xcbf2_9ce4_8422_2325, page))
}

/// Bits of the right to write, D bits and the CPU's log tell of the same writes, and of no others.
pub fn dirty(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut told: Vec<Vec<Vec<(u64, u64)>>> = Vec::new();
    for way in ["write-protect", "dirty-bits", "pml"] {
        let trial = Trial::of("puppet").with(&["--cpu", SKYLAKE]).set(&format!("task.vmm-mm.options.dirty={way}"));
        let mut guest = Puppet::start(trial, bench, &format!("{name}.{way}"))?;
        told.push(writes(&mut guest).with_context(|| format!("by {way}"))?);
        guest.end()?;
    }
    ensure!(told.iter().all(|answers| *answers == told[0]), "three ways, three answers: {told:x?}");
    let rows: usize = told[0].iter().map(Vec::len).sum();
    Ok(format!("{} questions, {rows} rows of written pages, three times the same", told[0].len()))
}

/// What the log tells after each of some steps, each of which is known to write what it writes.
fn writes(guest: &mut Puppet) -> anyhow::Result<Vec<Vec<(u64, u64)>>> {
    const PAGES: u64 = 1200;
    let mut answers = Vec::new();
    let mut tells = |guest: &Puppet, expected: Vec<(u64, u64)>| {
        let rows = guest.written()?;
        ensure!(rows == expected, "written was {expected:x?}, and told is {rows:x?}");
        answers.push(rows);
        Ok(())
    };
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES} log"))?;
    // More than twice what the CPU's log holds.
    guest.fill(HERE, (PAGES, 1), (1, 1))?;
    tells(guest, vec![(HERE, PAGES)])?;
    tells(guest, Vec::new())?;
    guest.touch(HERE, PAGES)?;
    tells(guest, Vec::new())?;
    guest.fill(page(HERE, 2), (60, 19), (9, 0))?;
    tells(guest, (0..60).map(|n| (page(HERE, 2 + n * 19), 1)).collect())?;
    // What the server writes through its window is written too.
    guest.done(&format!("poke {:#x} 5", page(HERE, 5)))?;
    guest.fill(page(HERE, 300), (10, 1), (5, 0))?;
    guest.done(&format!("poke {:#x} 5", page(HERE, 700)))?;
    tells(guest, vec![(page(HERE, 5), 1), (page(HERE, 300), 10), (page(HERE, 700), 1)])?;
    // What is noted goes with a slot that moves, and stays when it becomes read-only.
    guest.done(&format!("slot create 21 {:#x} 8 log", 2 * THERE))?;
    guest.fill(2 * THERE, (2, 1), (6, 0))?;
    guest.fill(page(HERE, 1100), (3, 1), (6, 0))?;
    let counted = guest.grows("invepts", |guest| guest.done(&format!("slot move 20 {THERE:#x}")).map(|_| ()))?;
    ensure!(counted == 1, "a move is one INVEPT, whatever is logged of other slots, and not {counted}");
    guest.fill(page(THERE, 20), (2, 1), (7, 0))?;
    tells(guest, vec![(page(THERE, 20), 2), (page(THERE, 1100), 3)])?;
    ensure!(guest.done("dirty read 21")?.contains("written pages=2 of 8"), "two pages of the other slot were written");
    guest.fill(page(THERE, 40), (5, 1), (8, 0))?;
    guest.done("slot flags 20 log,readonly")?;
    tells(guest, vec![(page(THERE, 40), 5)])?;
    Ok(answers)
}

/// A bits, and on a CPU without them the rights that it is given back, tell of the same idle pages.
pub fn idle(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let (mut told, mut ticks) = (Vec::new(), Vec::new());
    for (cpu, has) in [(SKYLAKE, true), (SANDY_BRIDGE, false)] {
        let trial = Trial::of("puppet").with(&["--cpu", cpu]);
        let mut guest = Puppet::start(trial, bench, &format!("{name}.{cpu}"))?;
        let (answers, asked) = uses(&mut guest).with_context(|| format!("on {cpu}"))?;
        told.push(answers);
        ticks.push(asked);
        let seen = guest.end()?;
        let bits = seen.told().contains("the CPU has Abilities(ACCESSED_DIRTY");
        seen.holds(bits == has, &format!("{cpu} should{} have A bits", if has { "" } else { " not" }))?;
    }
    ensure!(told[0] == told[1], "with A bits {:?}, without {:?}", told[0], told[1]);
    ensure!(
        ticks.iter().all(|ticks| *ticks < MARKED),
        "marking them should take {MARKED} ticks at most, not {ticks:?}"
    );
    Ok(format!(
        "idle pages with and without A bits: {:?}; to ask, and mark all, takes {} and {} ticks",
        told[0], ticks[0], ticks[1]
    ))
}

/// How many pages are idle after each of some uses, and the ticks that the longest question took.
fn uses(guest: &mut Puppet) -> anyhow::Result<(Vec<u64>, u64)> {
    const PAGES: u64 = 600;
    let (mut answers, mut longest) = (Vec::new(), 0);
    let mut tells = |guest: &Puppet, expected: u64| {
        let told = guest.done("idle 20")?;
        let said = format!("idle pages={expected} of {PAGES}, asked in ");
        let ticks = told.split_once(&said).and_then(|(_, rest)| rest.split_once(' ')?.0.parse::<u64>().ok());
        longest = longest.max(ticks.with_context(|| format!("{expected} are idle, and told is {told}"))?);
        answers.push(expected);
        anyhow::Ok(())
    };
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    guest.fill(HERE, (PAGES, 1), (1, 1))?;
    tells(guest, 0)?;
    guest.touch(HERE, 100)?;
    tells(guest, 500)?;
    tells(guest, 600)?;
    guest.fill(page(HERE, 200), (50, 1), (1, 1))?;
    tells(guest, 550)?;
    guest.done(&format!("poke {:#x} 5", page(HERE, 3)))?;
    tells(guest, 599)?;
    // The log of written pages goes on beside it.
    guest.done("slot flags 20 log")?;
    guest.fill(page(HERE, 64), (7, 1), (3, 0))?;
    guest.touch(page(HERE, 100), 20)?;
    tells(guest, 573)?;
    ensure!(guest.written()? == [(page(HERE, 64), 7)], "seven pages were written");
    Ok((answers, longest))
}

/// Slots with a boot module's content are read from it, and what is written in one is nothing to the other.
pub fn images(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut guest = Puppet::start(Trial::of("puppet"), bench, name)?;
    // The module is the guest's own image, which lies at 1 MiB.
    let image = guest.hash(0x10_0000, 2)?;
    let nothing = hash_of([0, 0]);
    let (first, second) = (HERE, THERE);
    for (id, at) in [(9, first), (10, second)] {
        guest.done(&format!("slot create {id} {at:#x} 512"))?;
        ensure!(guest.hash(at, 2)? == image, "slot {id} should have the module's content");
        ensure!(guest.hash(page(at, 500), 2)? == nothing, "behind the module slot {id} should be zero");
    }
    let breaks = guest.grows("cow_breaks", |guest| guest.fill(first, (1, 1), (0x77, 0)))?;
    ensure!(breaks == 1, "one write, and {breaks} pages were copied for it");
    ensure!(guest.hash(first, 2)? != image, "what was written should be there");
    ensure!(guest.hash(second, 2)? == image, "the other slot should have what it had");
    guest.done("slot delete 9")?;
    guest.done(&format!("slot create 9 {first:#x} 512"))?;
    ensure!(guest.hash(first, 2)? == image, "a new slot should have the module's content");
    guest.done("slot flags 10 readonly")?;
    let emulated = guest.grows("pf_emulate", |guest| guest.fill(second, (2, 1), (0x77, 0)))?;
    ensure!(emulated == 2, "two writes to a read-only slot, and {emulated} went to the server");
    ensure!(guest.hash(second, 2)? == image, "a read-only slot should have what it had");
    let reads = guest.figure("image_reads")?;
    guest.end()?;
    Ok(format!("{reads} pages read from a module, {breaks} copied on a write"))
}

/// Equal pages get one frame, and a write to one of them is seen in none of the others.
pub fn shared(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const EQUAL: u64 = 64;
    let trial = Trial::of("puppet").set("policy=share").set("policy.ticks=1000000");
    let mut guest = Puppet::start(trial, bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} 2048"))?;
    guest.fill(HERE, (EQUAL, 1), (5, 0))?;
    guest.fill(page(HERE, EQUAL), (EQUAL, 1), (1000, 1))?;
    let start = Instant::now();
    while guest.figure("merged")? < EQUAL - 1 {
        ensure!(start.elapsed() < PATIENCE, "{EQUAL} equal pages, and {} were merged", guest.figure("merged")?);
    }
    let expected = |third: u64| (0..EQUAL).map(move |n| if n == 3 { third } else { 5 }).chain(1000..1000 + EQUAL);
    ensure!(guest.hash(HERE, 2 * EQUAL)? == hash_of(expected(5)), "merged pages should have their content");
    let breaks = guest.grows("cow_breaks", |guest| guest.fill(page(HERE, 3), (1, 1), (99, 0)))?;
    ensure!(breaks == 1, "one write, and {breaks} pages got a frame of their own");
    ensure!(guest.hash(HERE, 2 * EQUAL)? == hash_of(expected(99)), "one page was written, and no other should change");
    let zeros = guest.grows("zero_shared", |guest| guest.touch(page(HERE, 1024), 200))?;
    ensure!(zeros == 200, "200 pages were read that nobody wrote, and {zeros} got the frame of zeros");
    guest.fill(page(HERE, 1024), (1, 1), (7, 0))?;
    ensure!(guest.hash(page(HERE, 1024), 3)? == hash_of([7, 0, 0]), "a write should not reach the frame of zeros");
    let merged = guest.figure("merged")?;
    guest.end()?;
    Ok(format!("{merged} pages merged, {zeros} read from one frame of zeros"))
}

/// A fault that must wait for a frame is promised and kept: its page has its content.
pub fn promised(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const PAGES: u64 = 2500;
    // Nothing is taken back before it is missed.
    let sets = ["policy=clock", "policy.free=0", "vm.memory=8 MiB", "task.vmm-mm.memory=guests + 2 MiB"];
    let trial = sets.iter().fold(Trial::of("puppet"), |trial, set| trial.set(set));
    let mut guest = Puppet::start(trial, bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    guest.fill(HERE, (PAGES, 1), (100, 1))?;
    ensure!(guest.hash(HERE, PAGES)? == hash_of(100..100 + PAGES), "what was taken back should come back");
    let (waits, most) = interrupted(&mut guest, PAGES)?;
    ensure!(guest.hash(HERE, PAGES)? == hash_of(100..100 + PAGES), "an interrupt should change no page");
    let (pending, back) = (guest.figure("pending")?, guest.figure("decompressions")?);
    ensure!(pending > 20 && back > 20, "{pending} faults were promised, {back} pages came back from the store");
    guest.end()?;
    Ok(format!(
        "{pending} faults promised and kept, {back} pages back from the store, {waits} waits in which interrupts came, {most} \
         in one"
    ))
}

/// Interrupts reach a vCPU that waits for a promised page, which comes back to the same access; where they are shut out, they
/// are held until they are let in. How often that was seen, and how many came before one access.
fn interrupted(guest: &mut Puppet, pages: u64) -> anyhow::Result<(u64, u64)> {
    let [waits, most, during, after] = guest.awaited("await", pages)?;
    ensure!(waits > 5 && during >= waits && after == 0, "let in: {waits} waits, {most}, {during}, {after}");
    let [held, _, meanwhile, then] = guest.awaited("shut", pages)?;
    ensure!((held, meanwhile) == (0, 0) && then > 0, "shut out: {held} waits, {meanwhile} came, {then} when let in");
    Ok((waits, most))
}

/// Each change is one INVEPT however many pages it takes away, and none when it takes nothing.
pub fn invalidations(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const PAGES: u64 = 2048;
    for (policy, set) in
        [("demand", "task.vmm-mm.options.dirty=write-protect"), ("huge", "task.vmm-mm.options.dirty=dirty-bits")]
    {
        let trial = Trial::of("puppet").set(&format!("policy={policy}")).set(set);
        let mut guest = Puppet::start(trial, bench, &format!("{name}.{policy}"))?;
        guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
        let (there, log) = (format!("slot move 20 {THERE:#x}"), "slot flags 20 log");
        let steps = [
            (None, 0),
            (Some("slot flags 20 readonly"), 1),
            (Some("slot flags 20 none"), 0),
            (None, 0),
            (Some("slot flags 20 private"), 1),
            (None, 0),
            (Some(log), 1),
            (None, 0),
            // Two answers of 1,024 pages.
            (Some("dirty read 20"), 2),
            // What was written and not told yet goes with the slot.
            (None, 0),
            (Some(there.as_str()), 1),
        ];
        for (number, (request, expected)) in steps.into_iter().enumerate() {
            let counted = guest.grows("invepts", |guest| match request {
                Some(request) => guest.done(request).map(|_| ()),
                None => guest.fill(HERE, (PAGES, 1), (number as u64, 1)),
            })?;
            let what = request.unwrap_or("writing every page");
            ensure!(counted == expected, "{policy}: {what} of {PAGES} pages: {counted} INVEPTs, not {expected}");
        }
        ensure!(guest.written()? == [(THERE, PAGES)], "{policy}: what was written before the move should be told");
        guest.fill(THERE, (PAGES, 1), (1, 1))?;
        let counted = guest.grows("invepts", |guest| guest.done("slot delete 20").map(|_| ()))?;
        ensure!(counted == 1, "{policy}: slot delete of {PAGES} pages: {counted} INVEPTs, not 1");
        guest.end()?;
    }
    Ok(format!("{PAGES} pages taken away by one INVEPT each time"))
}

/// A page of a private slot is the guest's alone, and the walk of its entries says so.
pub fn private(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut guest = Puppet::start(Trial::of("puppet"), bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} 8 private"))?;
    guest.fill(HERE, (8, 1), (40, 1))?;
    let why = guest.done(&format!("why {HERE:#x}"))?;
    for part in ["slot 20 of 8 pages", "EPT level 4", "EPT level 1", "in no window", "seq ", "rip 0x1", "WRITE"] {
        ensure!(why.contains(part), "`why` should tell of `{part}`:\n{why}");
    }
    guest.0.refuses(&format!("peek {HERE:#x}"), "no slot")?;
    guest.0.refuses("restart", "no supervisor")?;
    guest.done("slot flags 20 none")?;
    ensure!(guest.done(&format!("peek {HERE:#x}"))?.contains("0x0000000000000028"), "it is private no more");
    ensure!(!guest.done(&format!("why {HERE:#x}"))?.contains("in no window"), "it is private no more");
    guest.end()?;
    Ok(String::new())
}

/// Pages that are mapped ahead are there when the guest touches them: it does not fault.
pub fn prefaulted(bench: &Bench, name: &str) -> anyhow::Result<String> {
    const PAGES: u64 = 1500;
    let mut guest = Puppet::start(Trial::of("puppet"), bench, name)?;
    guest.done(&format!("slot create 20 {HERE:#x} {PAGES}"))?;
    let told = guest.done(&format!("prefault {HERE:#x} {PAGES}"))?;
    ensure!(told.contains(&format!("mapped pages={PAGES} of {PAGES}\n")), "all should be mapped:\n{told}");
    let taken = guest.grows("pf_taken", |guest| guest.fill(HERE, (PAGES, 1), (3, 1)))?;
    ensure!(taken == 0, "everything was mapped, and the guest faulted {taken} times");
    ensure!(guest.hash(HERE, PAGES)? == hash_of(3..3 + PAGES), "what was written should be there");
    guest.0.refuses(&format!("prefault {:#x} 4", page(HERE, PAGES - 2)), "NoSuchSlot")?;
    guest.end()?;
    Ok(format!("{PAGES} pages mapped ahead, no fault"))
}
