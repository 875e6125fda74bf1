//! The kernel's image: the library, linked for the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use ukernel as _;

/// On the host there is only the library and its tests.
#[cfg(not(target_os = "none"))]
fn main() {}
