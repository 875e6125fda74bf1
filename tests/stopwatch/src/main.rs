//! Servers that time the kernel by its public system calls. The option `part` says which of the two this task is.
//!
//! `pager` pages a guest with the library of vmm-mm, but in the ranges of `plan` it answers in ways of its own, so
//! that the guest can time what the kernel does with such answers. `caller` calls that pager's portal.
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
rt::server!(main);

#[cfg(target_os = "none")]
fn main(task: rt::Task) -> ! {
    match task.entry().option("part") {
        Some("pager") => pager::main(&task),
        Some("caller") => caller::main(&task),
        other => panic!("no part {other:?}: there are pager and caller"),
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
