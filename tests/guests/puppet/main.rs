//! A guest that does what it is told over its serial line, so that a scenario knows what it did and when.
//!
//! | line | it | and says |
//! | --- | --- | --- |
//! | `fill GPA PAGES STEP VALUE MORE` | writes VALUE, VALUE + MORE, ... to the first eight bytes of PAGES pages, STEP pages apart | `puppet: filled PAGES` |
//! | `hash GPA PAGES STEP` | reads every word of so many pages | `puppet: hash 0x...` |
//! | `touch GPA PAGES STEP` | reads the first word of each | `puppet: touched PAGES` |
//! | `await GPA PAGES STEP` | does so while a timer interrupts it | `puppet: awaited READS most M during D after A`: before READS reads several interrupts came, before one of them M; D came in all, and A when they were let in at the end |
//! | `shut GPA PAGES STEP` | the same with interrupts shut out | the same |
//! | `end` | ends | – |
//!
//! Numbers are decimal, or hexadecimal after `0x`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod awaited;
#[cfg(target_os = "none")]
mod told;

#[cfg(target_os = "none")]
guests::flat_guest!(told::serve);

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
