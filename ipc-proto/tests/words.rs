//! The four hot messages: their register words say what their postcard bytes say, and no words stop the reader.

mod common;

use ipc_proto::exit::{Event, ExitMessage, PortAccess, Resume};
use ipc_proto::fault::{ClaimedReply, Fault, FaultReply, TopUp};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::refused::Refused;
use ipc_proto::wire;
use ipc_proto::words::bits;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What comes back from postcard.
fn over_the_wire<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let mut buffer = [0; 256];
    let len = wire::encode(message, &mut buffer).expect("it fits");
    wire::decode(&buffer[..len]).expect("it is a message")
}

/// What comes back from the words of a reply; `None` when the grant in it is refused.
fn typed(reply: ClaimedReply) -> Option<FaultReply> {
    Some(match reply {
        ClaimedReply::Map(claim, more) => FaultReply::Map(claim.typed().ok()?, more),
        ClaimedReply::Mmio(generation) => FaultReply::Mmio(generation),
        ClaimedReply::Retry => FaultReply::Retry,
        ClaimedReply::Pending(token) => FaultReply::Pending(token),
        ClaimedReply::Deny(reason) => FaultReply::Deny(reason),
    })
}

proptest! {
    #[test]
    fn a_fault_is_the_same_in_both_encodings(fault in common::fault()) {
        prop_assert_eq!(Fault::from_words(&fault.to_words()), Ok(fault));
        prop_assert_eq!(over_the_wire(&fault), fault);
    }

    #[test]
    fn a_reply_is_the_same_in_both_encodings(reply in common::fault_reply(), top_up in common::top_up()) {
        let words = reply.to_words(top_up);
        let claimed = ClaimedReply::from_words(&words).expect("a reply");
        prop_assert_eq!(typed(claimed), Some(reply));
        prop_assert_eq!(TopUp::from_word(words[4]), top_up);
        prop_assert_eq!(over_the_wire(&reply), reply);
        prop_assert_eq!(over_the_wire(&top_up), top_up);
    }

    #[test]
    fn a_grant_is_the_same_in_both_encodings(grant in common::grant()) {
        prop_assert_eq!(grant.claim().typed(), Ok(grant));
        prop_assert_eq!(over_the_wire(&grant), grant);
    }

    #[test]
    fn an_exit_is_the_same_in_both_encodings(exit in common::exit_message()) {
        prop_assert_eq!(ExitMessage::from_words(&exit.to_words()), Ok(exit));
        prop_assert_eq!(over_the_wire(&exit), exit);
    }

    #[test]
    fn a_resume_is_the_same_in_both_encodings(resume in common::resume()) {
        prop_assert_eq!(Resume::from_words(&resume.to_words()), Ok(resume));
        prop_assert_eq!(over_the_wire(&resume), resume);
    }

    /// Any words are a message or are refused; a message that they are spells itself again.
    #[test]
    fn no_words_stop_a_reader(mut words in any::<[u64; 6]>(), variant in 0u64..24, origin in 0u64..4) {
        for _ in 0..2 {
            if let Ok(fault) = Fault::from_words(&words) {
                prop_assert_eq!(Fault::from_words(&fault.to_words()), Ok(fault));
            }
            if let Ok(ClaimedReply::Map(claim, _)) = ClaimedReply::from_words(&words)
                && let Ok(grant) = claim.typed()
            {
                prop_assert_eq!(grant.claim(), claim);
            }
            if let Ok(exit) = ExitMessage::from_words(&words) {
                prop_assert_eq!(ExitMessage::from_words(&exit.to_words()), Ok(exit));
            }
            if let Ok(resume) = Resume::from_words(&words) {
                prop_assert_eq!(Resume::from_words(&resume.to_words()), Ok(resume));
            }
            let _ = TopUp::from_word(words[4]);
            // Once more with a head that is more often one.
            words[0] = words[0] & 0x0000_00ff_ffff_ffff & !(0xfc << 32) | variant << 56 | origin << 48;
        }
    }

    #[test]
    fn no_shape_stops_the_reader_of_a_grant(shape in any::<u64>(), low in 0u64..1 << 18) {
        for shape in [shape, low] {
            let claim = ClaimedGrant { shape, gfn: 1, pfn: 2, mmu_seq: 3 };
            if let Ok(grant) = claim.typed() {
                prop_assert_eq!(grant.claim(), claim);
            }
        }
    }
}

#[test]
fn every_shape_of_a_grant_is_one_grant_or_one_refusal() {
    for shape in 0..1u64 << 19 {
        let (count, level, mem_type) = (bits(shape, 0, 10), bits(shape, 10, 2), bits(shape, 15, 3));
        let expected = if count == 0 || count > 512 {
            Err(Refused::BadCount)
        } else if level == 0 {
            Err(Refused::BadLevel)
        } else if [2, 3, 7].contains(&mem_type) {
            Err(Refused::BadMemType)
        } else {
            Ok(shape)
        };
        let claim = ClaimedGrant { shape, gfn: 0, pfn: 0, mmu_seq: 0 };
        assert_eq!(claim.typed().map(|grant| grant.claim().shape), expected, "shape {shape:#x}");
    }
    for bit in 19..64 {
        let claim = ClaimedGrant { shape: 1 << bit | 6 << 15 | 7 << 12 | 1 << 10 | 1, gfn: 0, pfn: 0, mmu_seq: 0 };
        assert_eq!(claim.typed(), Err(Refused::Reserved), "bit {bit}");
    }
}

#[test]
fn the_bits_of_a_grant_are_where_the_table_says() {
    let grant = Grant {
        gfn: Gfn(0x11),
        pfn: Pfn(0x22),
        count: 512,
        level: Level::Huge,
        rights: Rights::READ | Rights::EXECUTE,
        mem_type: MemType::WriteBack,
        mmu_seq: 0x33,
        seen_by: SeenBy::Guest,
    };
    let claim = grant.claim();
    assert_eq!(claim.shape, 512 | 3 << 10 | 0b101 << 12 | 6 << 15 | 1 << 18);
    assert_eq!((claim.gfn, claim.pfn, claim.mmu_seq), (0x11, 0x22, 0x33));
}

#[test]
fn a_reply_with_bits_that_must_be_zero_is_refused() {
    let none = TopUp::default();
    for reply in [FaultReply::Mmio(9), FaultReply::Retry, FaultReply::Pending(7)] {
        for bit in 0..56 {
            let mut words = reply.to_words(none);
            words[0] |= 1 << bit;
            assert!(ClaimedReply::from_words(&words).is_err(), "{reply:?} with bit {bit}");
        }
    }
    for variant in [0, 6, 7, 8, 0x11, 0xff] {
        assert!(ClaimedReply::from_words(&[variant << 56, 0, 0, 0, 0, 0]).is_err(), "variant {variant}");
    }
    for reason in [0, 5, 255] {
        assert!(ClaimedReply::from_words(&[5 << 56 | reason << 32, 0, 0, 0, 0, 0]).is_err(), "reason {reason}");
    }
    for bit in (19..24).chain(32..56) {
        let words = [1 << 56 | 1 << bit, 0, 0, 0, 0, 0];
        assert!(ClaimedReply::from_words(&words).is_err(), "a map with bit {bit}");
    }
}

#[test]
fn unknown_variants_are_refused_everywhere() {
    for origin in 2..=255 {
        assert!(Fault::from_words(&[origin << 48, 0, 0, 0, 0, 0]).is_err());
    }
    for kind in 3..=255 {
        assert!(Fault::from_words(&[kind << 56, 0, 0, 0, 0, 0]).is_err());
    }
    for variant in (0..1).chain(20..=255) {
        assert!(ExitMessage::from_words(&[variant << 56, 0, 0, 0, 0, 0]).is_err(), "variant {variant}");
    }
    for bit in (36..40).chain(54..64) {
        assert!(Resume::from_words(&[1 << bit, 0, 0, 0, 0, 0]).is_err(), "resume with bit {bit}");
    }
    for bit in 0..64 {
        // Any one bit but the valid bit is no event: it is either not valid or has no vector type.
        if bit != 31 {
            assert!(Event::from_word(1 << bit).is_err(), "event with bit {bit}");
        }
    }
    assert_eq!(Event::from_word(0), Ok(None));
    assert!(Event::from_word(1 << 31 | 2 << 8).is_err(), "an NMI is not the server's to inject");
    assert!(Event::from_word(1 << 31 | 3 << 8 | 32).is_err(), "no exception has vector 32");
}

#[test]
fn an_io_qualification_is_read_as_the_manual_says() {
    // SDM vol. 3C, table 28-5: bits 2:0 size - 1, 3 direction (1 in), 4 string, 5 REP, 31:16 port.
    for port in [0u16, 0x3f8, 0xffff] {
        for size in [1u8, 2, 4] {
            for low in 0..8u64 {
                let word = u64::from(port) << 16 | low << 3 | u64::from(size - 1);
                let access = PortAccess::from_qualification(word);
                assert_eq!((access.port(), access.size()), (port, size));
                assert_eq!((access.string(), access.rep()), (low & 2 != 0, low & 4 != 0));
                assert_eq!(access.to_qualification(), word);
            }
        }
    }
}
