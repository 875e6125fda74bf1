//! The supervisor: the one task that the kernel tells of every other that has stopped.
//!
//! It starts pagers again as their entries in the manifest allow ([`rule`]), does the same when a VM's server asks for it
//! (`kill`, `restart`, `swap` on the control console), and ends the system when the last VM is over. For tests it can kill a
//! task at instants that nobody knows beforehand ([`drill`]). Everything else is in the server around the library.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod drill;
pub mod rule;
