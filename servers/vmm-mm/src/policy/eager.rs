//! `eager`: a slot has all its memory from the beginning.

use super::{Advice, Policy, Populate};
use crate::fault::PageFault;
use ipc_proto::slot::Slot;

/// The guest never waits for a page, at the price of all its memory at once. What is taken from it later comes back a
/// table at a time.
#[derive(Debug)]
pub struct Eager;

impl Policy for Eager {
    const NAME: &'static str = "eager";

    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::window(512)
    }

    fn populate(&mut self, _: &Slot) -> Populate {
        Populate::All
    }
}
