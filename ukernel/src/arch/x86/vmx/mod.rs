//! Intel VMX: root operation, VMCSs, EPT entries.

mod controls;
pub mod ept_entry;
pub mod guest;
mod instr;
pub mod log;
pub mod root;
mod segments;
mod state;
mod vector;
