//! Postcard bytes: a message that is read from them is written as bytes from which the same message is read, and no
//! message is read from bytes with one left over.

use crate::take::Take;
use ipc_proto::exit::{ExitMessage, Resume};
use ipc_proto::fault::{Fault, FaultReply, TopUp};
use ipc_proto::host::{FRAME, FromPager, ToPager};
use ipc_proto::layout::BootInfo;
use ipc_proto::manifest::Manifest;
use ipc_proto::slot::{SlotReply, SlotRequest};
use ipc_proto::wire::{WireError, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// The messages by the number of the first byte.
pub const MESSAGES: &[(&str, crate::Check)] = &[
    ("fault", message::<Fault>),
    ("fault_reply", message::<(FaultReply, TopUp)>),
    ("exit", message::<ExitMessage>),
    ("resume", message::<Resume>),
    ("slot_request", message::<SlotRequest>),
    ("slot_reply", message::<SlotReply>),
    ("manifest", message::<Manifest>),
    ("boot_info", message::<BootInfo>),
    ("to_pager", message::<ToPager>),
    ("from_pager", message::<FromPager>),
];

/// Reads what is behind the first byte as the message that it names.
pub fn check(bytes: &[u8]) {
    let mut take = Take(bytes);
    let (_, check) = MESSAGES[usize::from(take.byte()) % MESSAGES.len()];
    check(take.0);
}

fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<T>(bytes) else { return };
    let mut buffer = vec![0; FRAME + 1];
    let length = encode(&message, &mut buffer).expect("what was read can be written");
    assert!(length <= bytes.len(), "{length} bytes are written of {} that were read", bytes.len());
    assert_eq!(decode::<T>(&buffer[..length]).as_ref(), Ok(&message));
    assert_eq!(decode::<T>(&buffer[..=length]), Err(WireError::Trailing));
    assert!(length == 0 || decode::<T>(&buffer[..length - 1]).is_err(), "it is read without its last byte");
}
