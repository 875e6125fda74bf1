//! What the guests share: the bare machine as a flat guest finds it, and lines that say what was checked.
//!
//! A guest is there to catch the hypervisor at a mistake, so nothing here trusts it: what is checked is read back,
//! and a check that fails is printed and counted, never skipped.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod interrupt;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod pattern;
#[cfg(target_os = "none")]
pub mod port;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod work;
