//! A fault's way into a message and out of it: six register words beside a structure of bytes.

use crate::repeat;
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::Gpa;
use std::hint::black_box;
use std::time::Duration;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Ours: `to_words`, then `from_words`, which refuses what it does not know.
pub fn ours(times: usize) -> Duration {
    repeat(times, |n| {
        let fault = Fault {
            vcpu: n as u16,
            vm: (n >> 16) as u16,
            tables_left: (n >> 32) as u16,
            origin: Origin::Vcpu,
            kind: FaultKind::Violation,
            gpa: Gpa(n as u64),
            qualification: Qualification::from_bits_retain(n as u32),
            idt_vectoring: 0,
            mmu_seq: n as u64,
            rip: 0,
        };
        let words = fault.to_words();
        Fault::from_words(black_box(&words)).ok()
    })
}

/// The same facts as bytes, as zerocopy has them.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Bytes {
    gpa: u64,
    mmu_seq: u64,
    qualification: u32,
    idt_vectoring: u32,
    vcpu: u16,
    vm: u16,
    tables_left: u16,
    origin: ByteOrigin,
    kind: ByteKind,
}

#[derive(Clone, Copy, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u8)]
enum ByteOrigin {
    Vcpu = 0,
    #[expect(dead_code, reason = "it is there to be told apart")]
    Window = 1,
}

#[derive(Clone, Copy, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u8)]
enum ByteKind {
    Violation = 0,
    #[expect(dead_code, reason = "it is there to be told apart")]
    Misconfiguration = 1,
}

/// zerocopy's: `as_bytes`, then `try_ref_from_bytes`, which refuses what no variant has; the value is copied out, as ours is.
pub fn peer(times: usize) -> Duration {
    repeat(times, |n| {
        let fault = Bytes {
            gpa: n as u64,
            mmu_seq: n as u64,
            qualification: n as u32,
            idt_vectoring: 0,
            vcpu: n as u16,
            vm: (n >> 16) as u16,
            tables_left: (n >> 32) as u16,
            origin: ByteOrigin::Vcpu,
            kind: ByteKind::Violation,
        };
        let message = black_box(fault.as_bytes());
        Bytes::try_ref_from_bytes(message).ok().copied()
    })
}
