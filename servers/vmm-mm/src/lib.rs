//! The guest-memory manager: it answers every EPT violation of a guest with memory, or says why not.
//!
//! Read the modules in the order a fault travels:
//! [`serve`] receives it -> [`fault`] decodes it -> [`memslot`] finds the slot -> [`resolve`] decides ->
//! [`faultin`] finds or takes the frame, out of [`store`] and [`pool`], as [`policy`] advises -> [`serve`] replies
//! and [`stats`] counts. [`control`] answers what the VM's server asks about slots. [`machine`] is what the pager
//! needs of the kernel: on the host, tests put their own there.
//!
//! The names are those of the x86 TDP fault path of Linux KVM.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod control;
pub mod fault;
pub mod faultin;
pub mod machine;
pub mod memslot;
pub mod policy;
pub mod pool;
pub mod resolve;
pub mod serve;
pub mod stats;
pub mod store;

#[cfg(test)]
mod testing;
