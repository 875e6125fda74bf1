//! What is said to the log while something is done.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::string::String;
use std::sync::Once;
use std::vec::Vec;

std::thread_local! {
    /// Of this thread alone: tests run side by side.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Ear;

impl Log for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(std::format!("{} {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

/// The lines, each with its level before it.
pub(crate) fn heard(what: impl FnOnce()) -> Vec<String> {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        log::set_logger(&Ear).expect("nobody else listens");
        log::set_max_level(LevelFilter::Warn);
    });
    LINES.with_borrow_mut(Vec::clear);
    what();
    LINES.with_borrow_mut(core::mem::take)
}
