//! Servers that time the kernel by its public system calls. The option `part` says which of the three this task is.
//!
//! `pager` pages a guest with the library of vmm-mm, but in the ranges of `plan` it answers in ways of its own, so
//! that the guest can time what the kernel does with such answers. `caller` calls that pager's portal.
//! `slots` pages a guest with the library of vmm-mm, which has as many slots as is said.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod caller;
#[cfg(target_os = "none")]
mod mark;
#[cfg(target_os = "none")]
mod pager;
#[cfg(target_os = "none")]
mod plan;

#[cfg(target_os = "none")]
mod slots;
#[cfg(target_os = "none")]
mod slots_plan;

/// Too large for the stack. Locked once, by the only thread, for as long as the server lives.
#[cfg(target_os = "none")]
static PAGER: spin::Mutex<vmm_mm::serve::Pager> = spin::Mutex::new(vmm_mm::serve::Pager::empty());

#[cfg(target_os = "none")]
rt::server!(main);

#[cfg(target_os = "none")]
fn main(task: rt::Task) -> ! {
    match task.entry().option("part") {
        Some("pager") => pager::main(&task),
        Some("caller") => caller::main(&task),
        Some("slots") => slots::main(&task),
        other => panic!("no part {other:?}: there are pager, caller and slots"),
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
