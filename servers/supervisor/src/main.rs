//! The server around the library: `rt` brings notices and orders.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod server;

#[cfg(target_os = "none")]
rt::server!(server::main);

/// On the host there is only the library and its tests.
#[cfg(not(target_os = "none"))]
fn main() {}
