//! The protocol: every message that the kernel and the servers speak.
//!
//! Read the modules in the order a guest's fault travels: [`fault`] asks, [`grant`] answers, [`exit`] carries
//! every other exit with the guest state of [`state`]; [`memop`] is what a pager asks of the kernel, [`walk`] what
//! one of its answers says, [`slot`] what
//! a VM's server asks of its pager, [`lifecycle`] how they greet, [`shadow`] how a second pager's answers compare. [`refused`] lists every refusal. The system
//! itself is data: [`manifest`]. [`call`] numbers the system calls, [`layout`] says where things are mapped, and [`host`]
//! how a pager runs without a machine.
//!
//! Two encodings of one protocol: the four hot messages travel as register words ([`words`]), everything else as
//! postcard bytes ([`wire`]).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod call;
pub mod exit;
pub mod fault;
pub mod grant;
pub mod host;
pub mod layout;
pub mod lifecycle;
pub mod manifest;
pub mod memop;
pub mod refused;
pub mod shadow;
pub mod slot;
pub mod state;
pub mod text;
pub mod version;
pub mod walk;
pub mod wire;
pub mod words;
