//! Vectors of what must be refused, of operations, and the digest that ties all vectors to a version.

use ipc_proto::fault::ClaimedReply;
use ipc_proto::grant::ClaimedGrant;
use ipc_proto::memop::{Harvest, MemOp};
use ipc_proto::slot::SlotRequest;
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file of vectors");
    serde_json::from_str(&text).expect("vectors")
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).expect("hexadecimal")).collect()
}

/// What must be refused, and with what.
#[derive(Deserialize)]
struct Wrong {
    what: String,
    is: String,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    postcard: String,
    refused: String,
}

#[test]
fn what_must_be_refused_is() {
    let wrong: Vec<Wrong> = read("refused.json");
    assert!(wrong.len() >= 32);
    for Wrong { what, is, words, postcard, refused } in wrong {
        let words: Vec<u64> = words.iter().map(|word| number(word)).collect();
        let found = match is.as_str() {
            "slot request" => wire::decode::<SlotRequest>(&bytes(&postcard)).err().map(|_| "Malformed".to_owned()),
            "fault reply" => {
                let words = words.try_into().expect("six words");
                ClaimedReply::from_words(&words).err().map(|_| "UnknownVariant".to_owned())
            }
            "grant" => {
                let [shape, gfn, pfn, mmu_seq] = words.try_into().expect("four words");
                let typed = ClaimedGrant { shape, gfn, pfn, mmu_seq }.typed();
                typed.err().map(|refused| format!("{refused:?}"))
            }
            other => panic!("{what}: there is no {other}"),
        };
        assert_eq!(found, Some(refused), "{is}: {what}");
    }
}

/// An operation.
#[derive(Deserialize)]
struct Operation {
    what: String,
    op: String,
    words: [String; 6],
}

#[test]
fn operations_have_the_numbers_of_the_vectors() {
    let operations: Vec<Operation> = read("mem_op.json");
    for number_of in 1..=13 {
        let op = MemOp::from_number(number_of).expect("operations 1 to 13");
        assert!(operations.iter().any(|one| one.op == format!("{op:?}")), "{op:?} has no vector");
    }
    for Operation { what, op, words } in operations {
        let words = words.map(|word| number(&word));
        assert_eq!(MemOp::from_number(words[1]).map(|op| format!("{op:?}")), Some(op.clone()), "{what}");
        let harvests = op == "Harvest";
        assert!(!harvests || Harvest::from_number(words[4]).is_some(), "{what}: mode {}", words[4]);
    }
}

/// FNV-1a of every file of vectors, by name.
fn digest() -> String {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).expect("vectors").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "json") && !path.ends_with("digest.json"));
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for byte in name.bytes().chain(std::fs::read(&path).expect("a file of vectors")) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// A vector that changes needs a new version: with `FAULTLINE_WRITE_VECTORS=1` a version that has no digest yet gets one,
/// but never another.
#[test]
fn vectors_change_only_with_the_version() {
    let mut known: BTreeMap<String, String> = read("digest.json");
    let version = format!("{}.{}", PROTOCOL.major, PROTOCOL.minor);
    if std::env::var_os("FAULTLINE_WRITE_VECTORS").is_some() && !known.contains_key(&version) {
        known.insert(version.clone(), digest());
        let text = serde_json::to_string_pretty(&known).expect("digests") + "\n";
        std::fs::write(folder().join("digest.json"), text).expect("the file can be written");
    }
    let recorded = known.get(&version).unwrap_or_else(|| panic!("no digest is recorded for version {version}"));
    assert_eq!(&digest(), recorded, "the vectors of version {version} have changed: the version must change too");
}
