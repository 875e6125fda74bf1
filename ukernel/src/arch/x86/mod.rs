//! x86-64 with VMX.

pub mod apic;
pub mod boot_memory;
pub mod core_local;
pub mod cpu;
pub mod door;
pub mod machine;
mod msr;
pub mod paging;
mod port;
pub mod serial;
pub mod tables;
pub mod vmx;

pub use vmx::guest::GuestCpu;
