//! What can happen, in any order.

use crate::dirty::Way;
use ipc_proto::memop::Abilities;
use ipc_proto::slot::{SlotFlags, Tracking};
use proptest::prelude::*;
use std::vec;

#[derive(Clone, Debug)]
pub enum Step {
    Create(u16, u64, u64, SlotFlags),
    Delete(u16),
    Move(u16, u64),
    Flags(u16, SlotFlags),
    Access(u16, u64, Tried),
    /// The answer to a write is worked out, the slot is deleted or moved, then the answer arrives.
    Overtaken(u16, u64, u16, Option<u64>),
    /// Two vCPUs fault on the same page before either is answered.
    Both(u64, Tried),
    Track(u64, Tracking),
    DirtyLog(u16),
    Idle(u16),
    /// The time comes that the pager asked for: frames are taken back, equal pages made one.
    Time,
    /// Pages are mapped ahead.
    Prefault(u64, u64),
    /// Blocks that were split are made whole.
    Recover,
    /// The guest makes 64 KiB at this address uncached.
    MemoryType(u64),
    /// The kernel refuses a change, after so many that it makes.
    Refuse(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum Tried {
    Read,
    Write(u32),
    Fetch,
    ThroughWindow(u32),
}

pub fn tried() -> impl Strategy<Value = Tried> {
    let value = || prop_oneof![1 => Just(0), 4 => 1u32..1000];
    prop_oneof![
        3 => Just(Tried::Read),
        5 => value().prop_map(Tried::Write),
        1 => Just(Tried::Fetch),
        2 => value().prop_map(Tried::ThroughWindow),
    ]
}

/// Around a few places, so that steps meet: blocks begin at multiples of 512.
fn gfn() -> impl Strategy<Value = u64> {
    let page = prop_oneof![2 => 0u64..4, 3 => 0u64..24, 1 => 488u64..512, 1 => 0u64..512];
    (0u64..5, page).prop_map(|(block, page)| block * 512 + page)
}

fn base() -> impl Strategy<Value = u64> {
    prop_oneof![2 => (0u64..5).prop_map(|block| block * 512), 1 => (0u64..40).prop_map(|part| part * 64), 1 => gfn()]
}

pub fn step() -> impl Strategy<Value = Step> {
    let (id, vcpu) = (0u16..5, 0u16..4);
    let pages = prop_oneof![1u64..24, 500u64..530, Just(1024), Just(512), Just(1090)];
    let flags = (0u32..8).prop_map(SlotFlags::from_bits_retain);
    let tracking = prop_oneof![Just(Tracking::On), Just(Tracking::Off)];
    prop_oneof![
        3 => (id.clone(), base(), pages, prop_oneof![2 => Just(SlotFlags::empty()), 1 => flags.clone()])
            .prop_map(|(id, base, pages, flags)| Step::Create(id, base, pages, flags)),
        1 => id.clone().prop_map(Step::Delete),
        1 => (id.clone(), base()).prop_map(|(id, base)| Step::Move(id, base)),
        3 => (id.clone(), prop_oneof![flags, Just(SlotFlags::LOG_DIRTY_PAGES), Just(SlotFlags::empty())])
            .prop_map(|(id, flags)| Step::Flags(id, flags)),
        16 => (vcpu.clone(), gfn(), tried()).prop_map(|(vcpu, gfn, tried)| Step::Access(vcpu, gfn, tried)),
        1 => (vcpu, gfn(), id.clone(), prop::option::of(base()))
            .prop_map(|(vcpu, gfn, id, base)| Step::Overtaken(vcpu, gfn, id, base)),
        1 => (gfn(), tracking).prop_map(|(gfn, tracking)| Step::Track(gfn, tracking)),
        1 => (gfn(), tried()).prop_map(|(gfn, tried)| Step::Both(gfn, tried)),
        2 => id.clone().prop_map(Step::DirtyLog),
        1 => id.prop_map(Step::Idle),
        3 => Just(Step::Time),
        1 => (gfn(), 1u64..40).prop_map(|(first, pages)| Step::Prefault(first, pages)),
        1 => Just(Step::Recover),
        1 => gfn().prop_map(Step::MemoryType),
        1 => (0u32..4).prop_map(Step::Refuse),
    ]
}

/// What is the same all through a run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub policy: &'static str,
    /// The CPU needs the NX workaround.
    pub nx: bool,
    /// The kernel frees empty tables.
    pub prunes: bool,
    pub way: Way,
    pub abilities: Abilities,
    /// Frames of the pager.
    pub frames: u64,
}

impl Setting {
    /// Whether there are fewer frames than the guest can use.
    pub fn is_short(&self) -> bool {
        self.frames == FEW
    }
}

/// Fewer frames than the guest can use: what overcommits takes them back, and slots for which none are promised are refused.
pub const FEW: u64 = 32;

pub fn setting() -> impl Strategy<Value = Setting> {
    let ways = prop_oneof![
        Just((Way::WriteProtect, Abilities::empty())),
        Just((Way::WriteProtect, Abilities::all())),
        Just((Way::DirtyBits, Abilities::ACCESSED_DIRTY)),
        Just((Way::Pml, Abilities::all())),
    ];
    let frames = |policy: &str, few: u8| if few > 0 && policy == "clock" { FEW } else { 6000 };
    let policies = prop_oneof![
        5 => prop::sample::select(crate::policy::Chosen::NAMES),
        1 => Just("huge"),
        1 => Just("share"),
        3 => Just("clock"),
    ];
    (policies, any::<bool>(), any::<bool>(), ways, 0u8..4).prop_map(
        move |(policy, nx, prunes, (way, abilities), few)| Setting {
            policy,
            nx,
            prunes,
            way,
            abilities,
            frames: frames(policy, few),
        },
    )
}
