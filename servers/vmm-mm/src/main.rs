//! The server around the library: it makes a [`vmm_mm::serve::Pager`] of what the manifest says, and serves.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod start;

#[cfg(target_os = "none")]
rt::server!(start::main);

/// On the host there is only the library and its tests.
#[cfg(not(target_os = "none"))]
fn main() {}
