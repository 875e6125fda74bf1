//! A pager that answers as vmm-mm does, until its flaw shows. The option `flaw` names it, `after` says how many faults are
//! answered well before, and `policy` which of vmm-mm's it has (`demand`).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod death;
#[cfg(target_os = "none")]
mod dying;
#[cfg(target_os = "none")]
mod flaw;
#[cfg(target_os = "none")]
mod pager;
#[cfg(target_os = "none")]
mod passing;

#[cfg(target_os = "none")]
rt::server!(pager::main);

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
