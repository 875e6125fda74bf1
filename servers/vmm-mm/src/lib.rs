//! The guest-memory manager: it answers every EPT violation of a guest with memory, or says why not.
//!
//! Read the modules in the order a fault travels:
//! [`serve`] receives it -> [`fault`] decodes it -> [`memslot`] finds the slot -> [`resolve`] decides ->
//! [`track`] forbids -> [`level`] says how large a page, within what [`mtrr`] allows -> [`faultin`] finds or takes the
//! frame, out of [`store`] and [`pool`], as [`policy`] advises -> [`runs`] makes grants -> [`serve`] replies, [`stats`]
//! counts and [`history`] remembers. The first touch of a page goes the short way in [`serve`], everything else all the
//! way in `tdp`. What is behind a page beside a frame of its own is in [`backing`]: frames that pages share ([`cow`]), boot modules
//! ([`image`]), the compressed store ([`zstore`], [`compress`]). What outlives the task is in [`keep`], and [`adopt`] goes on
//! from there; behind another kind of pager, `takeover` goes on from what the kernel has mapped, as `handover` leaves it. Without a frame, `reclaim` takes some back and the fault is
//! `pending` meanwhile; `survey` does what is done at times. [`shares`] says how many frames each VM has. [`control`] answers what the VM's server asks: about slots (`change`), what was written ([`dirty`]), and
//! [`why`] an address faults, which it may have [`tell`] line by line. [`machine`] is what the pager needs of the kernel: in a system `task` puts system calls there, on the host tests their own.
//!
//! The names are those of the x86 TDP fault path of Linux KVM.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod adopt;
mod ahead;
pub mod alarm;
pub mod backing;
mod change;
pub mod compress;
pub mod control;
pub mod cow;
pub mod dirty;
pub mod fault;
pub mod faultin;
pub mod handover;
mod harvest;
pub mod history;
mod idle;
pub mod image;
pub mod keep;
pub mod level;
pub mod machine;
pub mod memslot;
pub mod mtrr;
pub(crate) mod over;
mod pending;
pub mod policy;
pub mod pool;
mod populate;
mod prefault;
pub(crate) mod reclaim;
mod recover;
pub mod resolve;
pub mod runs;
mod seen;
pub mod serve;
pub mod shares;
pub mod sparse;
pub mod stats;
pub mod store;
pub(crate) mod survey;
mod takeover;
#[cfg(target_os = "none")]
pub mod task;
pub(crate) mod tdp;
pub mod tell;
pub mod track;
pub mod watch;
pub mod why;
pub mod zstore;

#[cfg(test)]
mod model;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod testing;
