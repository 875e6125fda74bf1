//! What every server starts from: an entry point, the system calls, a logger, a panic handler.
//!
//! A server is a `no_std` binary that names its main function with [`server!`] and then receives, resolves, replies:
//!
//! ```text
//! rt::server!(main);
//! fn main(task: rt::Task) -> ! {
//!     let mut next = rt::receive();
//!     loop {
//!         next = match next {
//!             rt::Received::Fault(fault) => rt::reply(resolve(fault).to_words(TopUp::default())),
//!             _ => rt::receive(),
//!         };
//!     }
//! }
//! ```
//!
//! All `unsafe` of a server is here: in [`call`] (SYSENTER), [`memory`] (the fixed mappings), [`port`] (IN and OUT).
#![no_std]

mod call;
mod entry;
mod logger;
mod memory;
mod pairs;
pub mod port;

pub use call::{
    Answer, Received, donate, finish, keep, mem_op, power_off, receive, receive_words, reply, reply_call, reply_words,
    run, send, stat, supervise, system_call, timer, tsc,
};
pub use memory::{
    FrameBytes, StatePage, Task, Window, frame, read_message, read_message_at, write_message, write_message_at,
};

/// Names the function that a server starts with: `fn(rt::Task) -> !`.
#[macro_export]
macro_rules! server {
    ($main:path) => {
        /// Called by the entry point with the stack set up.
        #[unsafe(no_mangle)]
        extern "C" fn server_main() -> ! {
            $crate::start($main)
        }
    };
}

/// Reads what the kernel left for the task, sets up the logger and hands over to `main`.
pub fn start(main: fn(Task) -> !) -> ! {
    let task = Task::read();
    logger::start(&task);
    main(task)
}
