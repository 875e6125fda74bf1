//! One VM's server as a library: everything but the loop that receives and replies.
//!
//! Read the modules in the order a VM needs them: [`load`] puts the guest and the [`acpi`] tables into [`memory`], and
//! [`start`] says how the vCPU begins. Then every exit comes to [`machine`], which asks [`cpuid`], [`msr`], [`control`],
//! or the port [`bus`], which knows each [`device`]: [`pic`], [`pit`], [`uart`], [`rtc`], [`keyboard`], [`power`], and for
//! test kernels [`fw_cfg`] and [`test_device`]. An access to device memory, or a string at a port, goes to [`emulate`]: it
//! reads the [`instruction`] through the guest's own page tables ([`translate`]), unless it has [`decoded`] the same bytes
//! before, and does it ([`alu`], [`mmio`], [`lapic`]). [`ending`] says why a VM is over. [`console`] reads what somebody
//! asks of the VM while it runs.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod alu;
pub mod bus;
pub mod clock;
pub mod console;
pub mod control;
pub mod cpuid;
pub mod date;
pub mod decoded;
pub mod device;
pub mod emulate;
pub mod ending;
pub mod fw_cfg;
pub mod instruction;
pub mod keyboard;
pub mod lapic;
pub mod load;
pub mod machine;
pub mod memory;
pub mod mmio;
pub mod msr;
pub mod pic;
pub mod pit;
pub mod power;
pub mod rtc;
pub mod start;
mod string;
pub mod tally;
pub mod test_device;
pub mod translate;
pub mod uart;

#[cfg(test)]
mod testing;
