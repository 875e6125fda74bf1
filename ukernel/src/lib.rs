//! The microkernel: it runs guests, keeps handles and carries messages. Nothing else.
//!
//! Read the modules in the order a guest's fault travels:
//! [`vcpu`] → [`exit`] → [`fault`] → [`portal`] → (a server answers) → [`call`] → [`grant`] → [`ept`] → [`vcpu`];
//! [`fast`] is the short way through the same house when nothing is special. [`ledger`] proves that what was granted is
//! what is mapped. Beside the walk: [`mend`] (faults that the ledger allows already), [`mmio`] (answers that are
//! remembered), [`memop`] and [`harvest`] (what a pager does unasked), [`window`] (a VM's memory as its server sees it),
//! [`shadow`] (a second pager, for comparison), [`trap`] (interrupts and faults of tasks), [`restart`] (a task is stopped
//! and started again).
//!
//! What there is: [`core`] (one CPU), [`system`] (what CPUs share), [`frame`] (who owns RAM), [`task`], [`thread`],
//! [`vm`]. How it begins and ends: [`boot`], [`load`], [`fail`], [`figures`], [`log`]. What depends on the CPU, and all
//! `unsafe`, is in [`arch`].
#![cfg_attr(not(test), no_std)]

pub mod arch;
pub mod boot;
pub mod call;
pub mod core;
pub mod ept;
pub mod exit;
pub mod fail;
pub mod fast;
pub mod fault;
pub mod figures;
pub mod frame;
pub mod grant;
pub mod harvest;
pub mod ledger;
pub mod load;
pub mod log;
pub mod memop;
pub mod mend;
pub mod mmio;
pub mod portal;
pub mod restart;
pub mod set;
pub mod shadow;
pub mod system;
pub mod task;
#[cfg(test)]
mod testing;
pub mod thread;
pub mod trap;
pub mod user;
pub mod vcpu;
pub mod vm;
pub mod window;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &::core::panic::PanicInfo) -> ! {
    fail::panicked(format_args!("{info}"))
}
