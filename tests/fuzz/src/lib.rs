//! What must hold for any bytes whatever, one function for each door through which bytes come in.
//!
//! [`words`] and [`postcard`] are the two decoders, [`grant`] is what the kernel does with a pager's words, [`pager`] what
//! our pager does with everything that it receives. Each takes bytes and panics when its promise is broken: `libfuzzer/` gives
//! them what libFuzzer finds, the tests here what proptest draws, and both begin with [`seed`]s.
#![forbid(unsafe_code)]

pub mod grant;
mod machine;
pub mod pager;
pub mod postcard;
pub mod seed;
mod take;
pub mod words;

/// A promise about any bytes.
pub type Check = fn(&[u8]);

/// The doors by name.
pub const ALL: &[(&str, Check)] =
    &[("words", words::check), ("postcard", postcard::check), ("grant", grant::check), ("pager", pager::check)];
