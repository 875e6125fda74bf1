//! The server of one VM: the loop around the library. On the host there is only the library and its tests.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod serve;

#[cfg(target_os = "none")]
rt::server!(serve::main);

#[cfg(not(target_os = "none"))]
fn main() {}
