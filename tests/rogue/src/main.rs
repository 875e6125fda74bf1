//! A server that tries what no server may. The option `deed` says what; surviving it is an error line.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod deed;

#[cfg(target_os = "none")]
rt::server!(main);

#[cfg(target_os = "none")]
fn main(task: rt::Task) -> ! {
    deed::ask_for_what_is_not_its_own();
    match task.entry().option("deed") {
        Some("port") => deed::read_port(),
        Some("kernel") => deed::read_kernel(),
        Some("frame") => deed::read_frame(task.info.first_pfn + task.info.frames),
        Some("code") => deed::write_code(),
        Some("stack") => deed::run_stack(),
        Some("interrupts") => deed::shut_out_interrupts(),
        other => log::error!("there is no deed {other:?}"),
    }
    log::error!("survived {:?}", task.entry().option("deed"));
    loop {
        let _ = rt::receive();
    }
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
