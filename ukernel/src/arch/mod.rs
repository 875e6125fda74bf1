//! What depends on the CPU. The rest of the kernel uses only what is re-exported here, and only here is `unsafe`.

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub use x86::*;
