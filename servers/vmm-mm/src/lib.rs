//! The guest-memory manager: it answers every EPT violation of a guest with memory, or says why not.
//!
//! Read the modules in the order a fault travels:
//! [`serve`] receives it -> [`fault`] decodes it -> [`memslot`] finds the slot -> [`resolve`] decides ->
//! [`track`] forbids -> [`level`] says how large a page, within what [`mtrr`] allows -> [`faultin`] finds or takes the
//! frame, out of [`store`] and [`pool`], as [`policy`] advises -> [`runs`] makes grants -> [`serve`] replies, [`stats`]
//! counts and [`history`] remembers. The first touch of a page goes the short way in [`serve`], everything else all the
//! way in `tdp`. [`control`] answers what the VM's server asks: about slots, what was written ([`dirty`]), and
//! [`why`] an address faults. [`machine`] is what the pager needs of the kernel: on the host, tests put their own there.
//!
//! The names are those of the x86 TDP fault path of Linux KVM.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod control;
pub mod dirty;
pub mod fault;
pub mod faultin;
pub mod history;
pub mod level;
pub mod machine;
pub mod memslot;
pub mod mtrr;
pub mod policy;
pub mod pool;
mod populate;
pub mod resolve;
pub mod runs;
pub mod serve;
pub mod stats;
pub mod store;
pub(crate) mod tdp;
pub mod track;
pub mod why;

#[cfg(test)]
mod model;
#[cfg(test)]
mod testing;
