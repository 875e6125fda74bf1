//! The vectors in `vectors/*.json`: what a pager in another language must write and read, byte for byte.
//!
//! Each entry has a message as JSON and its encodings: `words`, the six register words as hexadecimal numbers, for what is
//! hot, and `postcard`, bytes as hexadecimal digits. A change here is a change of the protocol: with
//! `FAULTLINE_WRITE_VECTORS=1` this test writes the encodings anew, and the difference is there to be reviewed.

use ipc_proto::exit::{ExitMessage, Resume};
use ipc_proto::fault::{ClaimedReply, Fault, FaultReply, TopUp};
use ipc_proto::host::{FromPager, ToPager};
use ipc_proto::layout::BootInfo;
use ipc_proto::manifest::Manifest;
use ipc_proto::slot::{SlotReply, SlotRequest};
use ipc_proto::wire;
use ipc_proto::words::Words;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Serialize, Deserialize)]
struct Vector<T> {
    what: String,
    message: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<[String; 6]>,
    postcard: String,
}

/// A reply and the table frames that travel with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reply {
    reply: FaultReply,
    top_up: TopUp,
}

fn hex_words(words: Words) -> [String; 6] {
    words.map(|word| format!("{word:#x}"))
}

fn read_words(words: &[String; 6]) -> Words {
    core::array::from_fn(|n| u64::from_str_radix(words[n].trim_start_matches("0x"), 16).expect("hexadecimal"))
}

fn hex_bytes<T: Serialize>(message: &T) -> String {
    let mut buffer = [0; 512];
    let len = wire::encode(message, &mut buffer).expect("it fits");
    buffer[..len].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).expect("hexadecimal")).collect()
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file)
}

/// Checks every vector of the file, both ways.
fn check<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(
    file: &str,
    least: usize,
    to_words: impl Fn(&T) -> Option<Words>,
    from_words: impl Fn(&Words) -> Option<T>,
) {
    let text = std::fs::read_to_string(path(file)).expect("the file of vectors");
    let mut vectors: Vec<Vector<T>> = serde_json::from_str(&text).expect("vectors");
    assert!(vectors.len() >= least, "{file} has too few vectors");
    if std::env::var_os("FAULTLINE_WRITE_VECTORS").is_some() {
        for vector in &mut vectors {
            vector.words = to_words(&vector.message).map(hex_words);
            vector.postcard = hex_bytes(&vector.message);
        }
        let text = serde_json::to_string_pretty(&vectors).expect("vectors") + "\n";
        std::fs::write(path(file), text).expect("the file can be written");
    }
    for Vector { what, message, words, postcard } in &vectors {
        assert_eq!(&hex_bytes(message), postcard, "{file}: {what}: encoded");
        let decoded = wire::decode::<T>(&read_bytes(postcard));
        assert_eq!(decoded.as_ref(), Ok(message), "{file}: {what}: decoded");
        assert_eq!(to_words(message).map(hex_words), *words, "{file}: {what}: to words");
        if let Some(words) = words {
            assert_eq!(from_words(&read_words(words)).as_ref(), Some(message), "{file}: {what}: from words");
        }
    }
}

#[test]
fn faults() {
    check::<Fault>("fault.json", 4, |fault| Some(fault.to_words()), |words| Fault::from_words(words).ok());
}

#[test]
fn fault_replies() {
    let from_words = |words: &Words| {
        let reply = match ClaimedReply::from_words(words).ok()? {
            ClaimedReply::Map(claim, more) => FaultReply::Map(claim.typed().ok()?, more),
            ClaimedReply::Mmio(generation) => FaultReply::Mmio(generation),
            ClaimedReply::Retry => FaultReply::Retry,
            ClaimedReply::Pending(token) => FaultReply::Pending(token),
            ClaimedReply::Deny(reason) => FaultReply::Deny(reason),
        };
        Some(Reply { reply, top_up: TopUp::from_word(words[4]) })
    };
    check::<Reply>("fault_reply.json", 6, |message| Some(message.reply.to_words(message.top_up)), from_words);
}

#[test]
fn exits() {
    let from_words = |words: &Words| ExitMessage::from_words(words).ok();
    check::<ExitMessage>("exit.json", 19, |exit| Some(exit.to_words()), from_words);
}

#[test]
fn resumes() {
    let from_words = |words: &Words| Resume::from_words(words).ok();
    check::<Resume>("resume.json", 4, |resume| Some(resume.to_words()), from_words);
}

#[test]
fn slot_requests() {
    check::<SlotRequest>("slot_request.json", 6, |_| None, |_| None);
}

#[test]
fn slot_replies() {
    check::<SlotReply>("slot_reply.json", 5, |_| None, |_| None);
}

/// What a task finds at its start, and what `info` and `manifest` of the host transport's first frame have in them.
#[test]
fn boot_information() {
    check::<BootInfo>("boot_info.json", 3, |_| None, |_| None);
}

#[test]
fn manifests() {
    with_room(|| check::<Manifest>("manifest.json", 2, |_| None, |_| None));
}

/// Messages that hold whole pages are moved about on the stack, again and again without optimization.
fn with_room(check: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(check).expect("a thread");
    thread.join().expect("the vectors are as they must be");
}

/// The frames of the host transport, without their lengths.
#[test]
fn frames_to_the_pager() {
    with_room(|| check::<ToPager>("host_to_pager.json", 8, |_| None, |_| None));
}

#[test]
fn frames_from_the_pager() {
    with_room(|| check::<FromPager>("host_from_pager.json", 8, |_| None, |_| None));
}
