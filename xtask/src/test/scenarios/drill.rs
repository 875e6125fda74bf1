//! Drills over the control console: memory is changed under a running Linux, which checks it all the time.

use crate::paths;
use crate::status::Status;
use crate::test::live::Live;
use crate::test::promise::{Bench, Length};
use crate::test::trial::Trial;
use std::time::Duration;
use vmm_mm::policy::Chosen;

/// How long a round of the guest's check may take.
const ROUND: Duration = Duration::from_secs(240);
/// RAM of the guest, above its first MiB: slot 2.
const RAM_PAGES: u64 = 95 << 8;
/// The guest's pattern has more pages than that.
const PATTERN_PAGES: u64 = 7000;
/// How often all pages are taken back.
const TAKEN_BACK: u64 = 2;
/// How often another policy takes over, at full length.
const SWAPS: usize = 1000;
/// After so many of them all pages are taken back.
const SWAPS_A_MOVE: usize = 25;
/// Ticks for which that may stop the guest: those of 50 faults.
const PAUSE: u64 = 17_500;
/// How often another pager takes over, at full length, and after so many of them the guest has checked all.
const REPLACED: usize = 100;
const REPLACED_A_PASS: usize = 5;
/// Where nothing of the guest's is.
const BESIDE: u64 = 256 << 20;
/// Slots with the content of a boot module, the guest's initial file system, and where they lie: where a PC has a graphics card's
/// memory, which Linux lets its /dev/mem read and write.
const IMAGED: [(u64, u64); 2] = [(11, 0xa_0000), (12, 0xa_8000)];
const CARD_PAGES: u64 = 8;
const MODULE: &str = "initramfs-drill";
const PAGE: u64 = 4096;

/// A Linux that checks its memory until it is told to stop, with frames for a second guest like it.
fn drilled(policy: &str) -> Trial {
    let sets = ["vm.initrd=initramfs-drill", "vm.memory=96 MiB", "task.vmm-mm.memory=guests + 120 MiB"];
    sets.iter().fold(Trial::of("linux"), |trial, set| trial.set(set)).set(&format!("policy={policy}")).within(900)
}

/// Slots come, move and go; pages are taken back, logged, tracked; and no checksum is wrong.
pub fn slots(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let trial =
        drilled("demand").set("task.supervisor.options.check=true").set("task.vmm-mm.modules=[\"initramfs-drill\"]");
    let trial = IMAGED.iter().fold(trial, |trial, (slot, _)| trial.set(&format!("task.vmm-mm.image.{slot}={MODULE}")));
    let mut guest = trial.start(bench, name)?;
    guest.shows("drill: round 1 ok", Duration::from_secs(600))?;
    beside(&guest)?;
    let faults = figure(&guest, "pf_fixed ")?;
    for _ in 0..TAKEN_BACK {
        // It lies where it lay, and nothing of it is mapped any more.
        guest.done("slot move 2 0x100000")?;
        a_whole_pass(&mut guest)?;
    }
    let taken_back = figure(&guest, "pf_fixed ")? - faults;
    let least = TAKEN_BACK * PATTERN_PAGES;
    anyhow::ensure!(taken_back > least, "{taken_back} faults brought back what was taken {TAKEN_BACK} times");
    let written = log(&mut guest, 1)?;
    tracked(&mut guest)?;
    let imaged = imaged(&mut guest)?;
    let copied = copied(&mut guest)?;
    let swapped = swapped(&mut guest, bench.length)?;
    let replaced = replaced(&mut guest, bench.length)?;
    ends(guest)?;
    Ok(format!(
        "{taken_back} faults brought pages back, {written} dirty pages read, {imaged}, {copied}, {swapped}, {replaced}"
    ))
}

/// Large pages are split by the dirty log and collapse behind it; a copy made meanwhile equals the original.
pub fn large(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let mut guest = drilled("huge").start(bench, name)?;
    guest.shows("drill: round 1 ok", Duration::from_secs(600))?;
    anyhow::ensure!(figure(&guest, "large_pages ")? > 20, "RAM should be mapped by large pages");
    let mut written = 0;
    for _ in 0..2 {
        written += log(&mut guest, 1)?;
    }
    let copied = copied(&mut guest)?;
    let (splits, collapses) = (figure(&guest, "splits ")?, figure(&guest, "collapses ")?);
    anyhow::ensure!(splits > 20 && collapses > 20, "{splits} large pages were split, and {collapses} made again");
    ends(guest)?;
    Ok(format!("{splits} splits, {collapses} collapses, {written} dirty pages read, {copied}"))
}

/// From now on the guest has written its whole pattern and compared it.
fn a_whole_pass(guest: &mut Live) -> anyhow::Result<()> {
    guest.shows_anew("checksum pass ", 2, ROUND)
}

/// Slots beside the guest's RAM keep what is in them wherever they lie.
fn beside(guest: &Live) -> anyhow::Result<()> {
    for round in 0..3 {
        let (here, there) = (BESIDE + (round << 24), BESIDE + (round << 24) + (1 << 30));
        guest.done(&format!("slot create 9 {here:#x} 16"))?;
        guest.done(&format!("poke {:#x} {}", here + 0xf008, 7000 + round))?;
        guest.done(&format!("slot move 9 {there:#x}"))?;
        let kept = guest.done(&format!("peek {:#x}", there + 0xf008))?;
        anyhow::ensure!(
            kept.trim() == format!("{:#018x}", 7000 + round),
            "a moved slot should keep {round}, not {kept}"
        );
        guest.refuses(&format!("peek {:#x}", here + 0xf008), "no slot")?;
        guest.done("slot flags 9 readonly")?;
        guest.refuses(&format!("poke {there:#x} 1"), "no slot that allows it")?;
        guest.done("slot delete 9")?;
        guest.refuses(&format!("peek {there:#x}"), "no slot")?;
    }
    guest.refuses("slot create 9 0x5ff0000 32", "Overlap")?;
    guest.refuses("slot move 2 0x90000", "Overlap")?;
    guest.refuses("slot delete 9", "NoSuchSlot")?;
    guest.refuses("shadow", "has no shadow")?;
    let why = guest.done("why 0x1000000")?;
    for part in ["slot 2", "ledger: gfn", "mmu_seq"] {
        anyhow::ensure!(why.contains(part), "`why` should tell of `{part}`:\n{why}");
    }
    Ok(())
}

/// The log of written pages runs for some of the guest's rounds: how many pages it told of.
fn log(guest: &mut Live, rounds: u64) -> anyhow::Result<u64> {
    guest.refuses("dirty read", "NotLogged")?;
    guest.done("dirty start")?;
    let mut written = 0;
    for round in 0..rounds {
        a_whole_pass(guest)?;
        let fresh = number(&guest.done("dirty read")?, "written pages=")?;
        // Between two ends of a pass the whole pattern was written.
        anyhow::ensure!(
            (PATTERN_PAGES..=RAM_PAGES).contains(&fresh),
            "in round {round} the guest wrote its pattern, and the log tells of {fresh} pages of {RAM_PAGES}"
        );
        written += fresh;
    }
    guest.done("dirty stop")?;
    guest.refuses("dirty read", "NotLogged")?;
    Ok(written)
}

/// The guest's writes to a page of its pattern are done for it, and it does not notice.
fn tracked(guest: &mut Live) -> anyhow::Result<()> {
    guest.done("dirty start")?;
    a_whole_pass(guest)?;
    let written = guest.done("dirty read")?;
    guest.done("dirty stop")?;
    let hex = written.split_once("gpa=0x").map(|(_, gpa)| gpa.trim()).unwrap_or_default();
    let (first, pages) = (u64::from_str_radix(hex, 16)?, number(&written, "most in a row: ")?);
    let page = first + ((pages / 2) << 12);
    let emulated = figure(guest, "pf_emulate ")?;
    guest.done(&format!("track {page:#x} on"))?;
    guest.refuses(&format!("poke {page:#x} 1"), "no slot that allows it")?;
    a_whole_pass(guest)?;
    guest.done(&format!("track {page:#x} off"))?;
    let emulated = figure(guest, "pf_emulate ")? - emulated;
    anyhow::ensure!(emulated >= 512, "a pass writes 512 words of the page at {page:#x}, and {emulated} were emulated");
    Ok(())
}

/// Slots beside RAM have a boot module's content. Linux reads them and writes into one while it checks its memory, and what
/// it writes is nothing to the other.
fn imaged(guest: &mut Live) -> anyhow::Result<String> {
    const WRITTEN: u64 = 3;
    let mut module = std::fs::read(paths::guests().join(MODULE))?;
    module.truncate((CARD_PAGES * PAGE) as usize);
    let whole = crc32(&module);
    module[..(WRITTEN * PAGE) as usize].fill(0);
    let written = crc32(&module);
    let [(slot, first), (_, second)] = IMAGED;
    for (slot, at) in IMAGED {
        guest.done(&format!("slot create {slot} {at:#x} {CARD_PAGES}"))?;
        reads(guest, at, whole)?;
    }
    let from_module = figure(guest, "image_reads ")?;
    anyhow::ensure!(from_module == CARD_PAGES, "two slots of {CARD_PAGES} pages, and {from_module} were read");
    let breaks = figure(guest, "cow_breaks ")?;
    guest.done(&format!("type zero {} {WRITTEN}", first / PAGE))?;
    guest.shows(&format!("drill: zeroed {WRITTEN}"), ROUND)?;
    let breaks = figure(guest, "cow_breaks ")? - breaks;
    anyhow::ensure!(breaks == WRITTEN, "{WRITTEN} pages were written, and {breaks} copied for it");
    reads(guest, first, written)?;
    reads(guest, second, whole)?;
    // Made again, it has the module's content again.
    guest.done(&format!("slot delete {slot}"))?;
    guest.done(&format!("slot create {slot} {first:#x} {CARD_PAGES}"))?;
    reads(guest, first, whole)?;
    for (slot, _) in IMAGED {
        guest.done(&format!("slot delete {slot}"))?;
    }
    a_whole_pass(guest)?;
    Ok(format!("{CARD_PAGES} pages of a boot module read by Linux in two slots, {breaks} copied on its writes"))
}

/// Linux reads a slot's pages, and they have that sum.
fn reads(guest: &mut Live, gpa: u64, sum: u32) -> anyhow::Result<()> {
    guest.done(&format!("type sum {} {CARD_PAGES}", gpa / PAGE))?;
    let told = guest.line("drill: sum ", ROUND)?;
    anyhow::ensure!(told.trim() == format!("{sum:08x}"), "{CARD_PAGES} pages from {gpa:#x} on: {told}, not {sum:08x}");
    Ok(())
}

/// As busybox has it: the polynomial of Ethernet, bits in the order of a serial line.
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// Its RAM is copied while it runs, and the copy is compared.
fn copied(guest: &mut Live) -> anyhow::Result<String> {
    guest.done(&format!("slot create 10 {BESIDE:#x} {RAM_PAGES}"))?;
    guest.refuses("precopy 2 0x100000", "not onto itself")?;
    let told = guest.done(&format!("precopy 2 {BESIDE:#x}"))?;
    let rounds: Vec<u64> = told.lines().filter_map(|line| number(line, "copied=").ok()).collect();
    anyhow::ensure!(
        rounds.first() == Some(&RAM_PAGES) && rounds.len() > 2,
        "everything and then what was written:\n{told}"
    );
    anyhow::ensure!(rounds.iter().skip(1).sum::<u64>() > 0, "the guest wrote nothing while it was copied:\n{told}");
    anyhow::ensure!(number(&told, "equal=")? == RAM_PAGES && number(&told, "differ=")? == 0, "{told}");
    guest.done("slot delete 10")?;
    a_whole_pass(guest)?;
    Ok(format!("copied in rounds of {rounds:?} pages, still for {} us", number(&told, "still for ")?))
}

/// Every policy follows every other under the guest's checks, and its pages are faulted back under many of them. Says how long
/// the guest stood still.
fn swapped(guest: &mut Live, length: Length) -> anyhow::Result<String> {
    let names = Chosen::NAMES;
    let nope = guest.ctl("policy nope")?;
    anyhow::ensure!(!nope.status.success() && nope.error.contains("UnknownPolicy"), "{nope:?}");
    anyhow::ensure!(names.iter().all(|name| nope.lines.contains(name)), "what there is should be named: {nope:?}");
    let swaps = match length {
        Length::Short => SWAPS / 10,
        Length::Full => SWAPS,
    };
    let faults = figure(guest, "pf_fixed ")?;
    let (mut requests, mut now) = (Vec::new(), 0);
    for n in 0..swaps {
        // Each distance from one to the next in turn: every ordered pair comes again and again.
        now = (now + 1 + n / names.len() % (names.len() - 1)) % names.len();
        requests.push(format!("policy {}", names[now]));
        if n % SWAPS_A_MOVE == 0 {
            requests.push("slot move 2 0x100000".to_owned());
        }
    }
    let told = guest.all_done(&requests)?;
    let ticks: Vec<u64> = told.lines().filter_map(|line| number(line, "swapped in ").ok()).collect();
    anyhow::ensure!(ticks.len() == swaps, "{swaps} swaps were asked for:\n{told}");
    let longest = ticks.iter().max().copied().unwrap_or_default();
    anyhow::ensure!(longest <= PAUSE, "the guest should stand still for {PAUSE} ticks at most, not {longest}");
    guest.done("policy demand")?;
    a_whole_pass(guest)?;
    let faults = figure(guest, "pf_fixed ")? - faults;
    Ok(format!("{swaps} swaps of the policy with {faults} faults, at most {longest} ticks each"))
}

/// The whole pager makes way for another, ours for ours, for the one in C, and that for ours, and the guest goes on with its check.
fn replaced(guest: &mut Live, length: Length) -> anyhow::Result<String> {
    const IMAGES: [&str; 3] = ["vmm-mm", "pager-c", "vmm-mm"];
    let swaps = match length {
        Length::Short => REPLACED / 10,
        Length::Full => REPLACED,
    };
    let mut longest = [0; IMAGES.len()];
    for n in 0..swaps {
        let kind = n % IMAGES.len();
        let told = guest.done(&format!("swap {}", IMAGES[kind]))?;
        longest[kind] = longest[kind].max(number(&told, "paused ticks=")?);
        if n % REPLACED_A_PASS == 0 {
            a_whole_pass(guest)?;
        }
    }
    a_whole_pass(guest)?;
    let [to_ours, to_c, back] = longest;
    Ok(format!("{swaps} swaps of the pager, at most {to_ours} ticks from ours to ours, {to_c} to C, {back} to ours"))
}

/// It is told to stop, and it never found a wrong word.
fn ends(guest: Live) -> anyhow::Result<()> {
    guest.done("type stop")?;
    let seen = guest.end()?;
    seen.ends(Status::Done)?.shows("drill: told stop after ")?.shows("init: all checks passed")?.ledger_matches()?;
    seen.holds(!seen.shown().contains("FAILED"), "no check of the guest's should fail")?;
    seen.holds(!seen.told().contains("do not agree"), "EPT and frame table should agree after each swap")?;
    Ok(())
}

/// A figure of the system's `stats`.
fn figure(guest: &Live, name: &str) -> anyhow::Result<u64> {
    number(&guest.done(&format!("stats {}", name.trim()))?, name)
}

/// The number behind `before`.
fn number(text: &str, before: &str) -> anyhow::Result<u64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let found = text.split_once(before).and_then(|(_, after)| digits(after).parse().ok());
    found.ok_or_else(|| anyhow::anyhow!("there should be a number behind `{before}` in\n{text}"))
}
