//! Register words: a message that is read from them is written as words from which the same message is read.

use crate::take::Take;
use ipc_proto::exit::{ExitMessage, Resume};
use ipc_proto::fault::{ClaimedReply, Fault, FaultReply, TopUp};
use ipc_proto::words::Words;

/// Reads six words as each of the four hot messages.
pub fn check(bytes: &[u8]) {
    let words: Words = Take(bytes).words();
    if let Ok(fault) = Fault::from_words(&words) {
        assert_eq!(Fault::from_words(&fault.to_words()), Ok(fault));
        assert_eq!(fault.to_words()[..2], words[..2], "every bit of the first two words is a field");
    }
    if let Ok(exit) = ExitMessage::from_words(&words) {
        assert_eq!(ExitMessage::from_words(&exit.to_words()), Ok(exit));
    }
    if let Ok(resume) = Resume::from_words(&words) {
        assert_eq!(Resume::from_words(&resume.to_words()), Ok(resume));
        assert_eq!(resume.to_words()[..2], words[..2], "bits that must be zero are zero");
    }
    reply(&words);
}

fn reply(words: &Words) {
    let top_up = TopUp::from_word(words[4]);
    assert_eq!(top_up.to_word(), words[4], "every bit of word 4 is a field");
    let Ok(claimed) = ClaimedReply::from_words(words) else { return };
    let reply = match claimed {
        ClaimedReply::Map(claim, more) => match claim.typed() {
            Ok(grant) => FaultReply::Map(grant, more),
            Err(_) => return,
        },
        ClaimedReply::Mmio(generation) => FaultReply::Mmio(generation),
        ClaimedReply::Retry => FaultReply::Retry,
        ClaimedReply::Pending(token) => FaultReply::Pending(token),
        ClaimedReply::Deny(reason) => FaultReply::Deny(reason),
    };
    let again = reply.to_words(top_up);
    assert_eq!(again[0], words[0], "bits that must be zero are zero");
    assert_eq!(ClaimedReply::from_words(&again), Ok(claimed));
}
