//! A pager and a VM server that hold the kernel to its obligations (`ipc-proto/SPEC.md`, 13.3). The option `part` says which
//! of the two this task is, `script` which cases it tries.
//!
//! The pager has the script. The server does what the pager answers its calls with, and calls again with what came of it;
//! so each case is a straight line: a guest touches an address, the pager sees the fault, answers, and sees what follows.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod desk;
#[cfg(target_os = "none")]
mod endings;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod forbidden;
#[cfg(target_os = "none")]
mod grants;
#[cfg(target_os = "none")]
mod lives;
#[cfg(target_os = "none")]
mod logs;
#[cfg(target_os = "none")]
mod operations;
#[cfg(target_os = "none")]
mod order;
#[cfg(target_os = "none")]
mod script;
#[cfg(target_os = "none")]
mod server;
#[cfg(target_os = "none")]
mod shadowed;
#[cfg(target_os = "none")]
mod windows;

#[cfg(target_os = "none")]
rt::server!(main);

#[cfg(target_os = "none")]
fn main(task: rt::Task) -> ! {
    match task.entry().option("part") {
        Some("pager") => script::main(&task),
        Some("server") => server::main(&task),
        Some("shadow") => shadowed::shadow(&task),
        other => panic!("no part {other:?}: there are pager, server and shadow"),
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
