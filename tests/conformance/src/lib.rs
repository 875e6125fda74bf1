//! The conformance kit: it plays the kernel to a pager that is an ordinary program, and holds it to the obligations of
//! `ipc-proto/SPEC.md`.
//!
//! [`setup`] says what a system has, [`pager`] is the process, [`ledger`] and [`vm`] are the kernel's state (grants are
//! checked and installed by the kernel's own code), [`kernel`] asks and serves system calls, [`memop`] among them, and
//! [`refusal`] says which refusals break an obligation. [`kit`] is what a case works with: a guest and a VM's server, held
//! to [`model`], and [`invariant`] what must hold at any time. [`cases`] has every case, [`case`] runs them, [`spec`] reads
//! the obligations.
//!
//! On the other side [`hosted`] is our own pager as such a program, sound or with one of the [`hosted::flaw`]s that the
//! kit must find.
#![forbid(unsafe_code)]

pub mod case;
pub mod cases;
pub mod frames;
pub mod hosted;
pub mod invariant;
pub mod kernel;
pub mod kit;
pub mod ledger;
pub mod memop;
pub mod model;
pub mod pager;
pub mod refusal;
pub mod setup;
pub mod spec;
pub mod tables;
pub mod vm;
