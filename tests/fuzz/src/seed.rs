//! Inputs to begin with: the protocol's vectors, a few that lead far into what is tested, and what fuzzers found before.

use crate::{grant, pager, postcard};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use serde_json::Value;
use std::path::Path;

/// A seed: the door that it is for, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// How the names of inputs begin that a fuzzer has found.
const FOUND: &str = "found-";

/// A vector: its words if it has any, and its postcard bytes.
type Vector = (Vec<u64>, Vec<u8>);

/// Every seed.
///
/// # Panics
/// When the vectors cannot be read.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut requests = Vec::new();
    for (number, (message, _)) in postcard::MESSAGES.iter().enumerate() {
        for (place, (words, bytes)) in vectors(message).into_iter().enumerate() {
            let name = format!("{message}-{place:02}");
            if !words.is_empty() {
                seeds.push(("words", name.clone(), words.iter().flat_map(|word| word.to_le_bytes()).collect()));
            }
            if *message == "slot_request" {
                requests.push(bytes.clone());
            }
            seeds.push(("postcard", name, [&[number as u8], bytes.as_slice()].concat()));
        }
    }
    seeds.extend(grants());
    seeds.extend(talks(&requests));
    seeds.extend(crate::ALL.iter().flat_map(|(door, _)| found(door)));
    seeds
}

/// What fuzzers found before at a door: `libfuzzer/corpus/DOOR.hex`, an input a line.
fn found(door: &'static str) -> Vec<Seed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/corpus").join(door).with_extension("hex");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let input = |(number, line)| {
        let bytes = hex(line).unwrap_or_else(|| panic!("{}:{}: not hexadecimal", file.display(), number + 1));
        (door, format!("{FOUND}{number:04}"), bytes)
    };
    text.lines().enumerate().map(input).collect()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    pairs.collect()
}

/// The vectors of a message; none when it has no file.
fn vectors(message: &str) -> Vec<Vector> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ipc-proto/vectors").join(message).with_extension("json");
    let Ok(text) = std::fs::read_to_string(&file) else { return Vec::new() };
    let read: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let word = |word: &Value| u64::from_str_radix(word.as_str()?.strip_prefix("0x")?, 16).ok();
    let vector = |vector: &Value| -> Option<Vector> {
        let words = vector["words"].as_array().map_or(Some(Vec::new()), |words| words.iter().map(word).collect())?;
        Some((words, hex(vector["postcard"].as_str()?)?))
    };
    let all: Option<Vec<Vector>> = read.as_array().and_then(|all| all.iter().map(vector).collect());
    all.unwrap_or_else(|| panic!("{}: not a list of vectors", file.display()))
}

/// Grants that are accepted, and some that are refused behind them.
fn grants() -> Vec<Seed> {
    let page = Grant {
        gfn: Gfn(0x100),
        pfn: Pfn(grant::FIRST),
        count: 1,
        level: Level::Page,
        rights: Rights::all(),
        mem_type: MemType::WriteBack,
        mmu_seq: grant::SEQ,
        seen_by: SeenBy::Everyone,
    };
    let large = Grant { gfn: Gfn(512), pfn: Pfn(1024), level: Level::Large, ..page };
    let read_only = Grant { rights: Rights::READ, ..page };
    let far = Grant { gfn: Gfn(1 << 27), ..page };
    let run = Grant { count: 256, ..page };
    let bad = [
        Grant { pfn: Pfn(grant::FIRST - 1), ..page },
        Grant { pfn: Pfn(grant::FIRST - 2), ..page },
        Grant { pfn: Pfn(grant::FIRST - 3), ..page },
        Grant { mmu_seq: grant::SEQ - 1, ..page },
        Grant { count: 512, ..page },
        Grant { gfn: Gfn(1022), count: 3, ..page },
        Grant { gfn: Gfn((1 << 28) - 1), count: 2, ..page },
        Grant { pfn: Pfn(513), count: 1, level: Level::Large, gfn: Gfn(0), ..page },
        Grant { rights: Rights::WRITE, ..page },
        Grant { level: Level::Huge, gfn: Gfn(0), pfn: Pfn(0), ..page },
    ];
    let seed = |name: &str, tables: u8, grants: &[Grant]| {
        let words =
            |ClaimedGrant { shape, gfn, pfn, mmu_seq }| [shape, gfn, pfn, mmu_seq].map(u64::to_le_bytes).concat();
        let bytes: Vec<u8> = grants.iter().flat_map(|grant| words(grant.claim())).collect();
        ("grant", name.to_owned(), [&[tables], bytes.as_slice()].concat())
    };
    vec![
        seed("page", 8, &[page, read_only, page]),
        seed("large", 8, &[large, page, large, Grant { gfn: Gfn(512), ..page }]),
        seed("far", 8, &[page, far, run]),
        seed("no-tables", 2, &[page]),
        seed("bad", 8, &bad),
        seed("good-and-bad", 8, &[&[page, large], &bad[..]].concat()),
    ]
}

/// A VM's server that greets, says everything that there is to say, and faults, under each policy.
fn talks(requests: &[Vec<u8>]) -> Vec<Seed> {
    let request = |bytes: &[u8]| [&[pager::REQUEST, 0, bytes.len() as u8], bytes].concat();
    let fault =
        |gfn: u16, how: u8, access: u8| [&[pager::FAULT, 0, how], &gfn.to_le_bytes()[..], &[access, 9]].concat();
    // 256 pages from page 16 on; the log of what is written in them.
    let create = request(&[1, 2, 0, 16, 0x80, 2, 2]);
    let log = request(&[6, 0, 2, 0]);
    let begin =
        [request(&[0, 0, 2, 0]), create, fault(16, 0, 2), fault(17, 0, 1), fault(18, 1, 2), fault(1, 0, 1)].concat();
    let refused = [&[pager::REFUSED, 22, 0, 0], &16u16.to_le_bytes()[..], &[2, 0]].concat();
    let everything = requests.iter().flat_map(|bytes| request(bytes));
    let end = [log, refused, vec![pager::REFUSE_NEXT, 2], request(&[2, 0, 2]), vec![pager::LEISURE]].concat();
    let talk: Vec<u8> = begin.into_iter().chain(end).chain(everything).collect();
    (0..8).map(|policy| ("pager", format!("talk-{policy}"), [&[policy], talk.as_slice()].concat())).collect()
}
