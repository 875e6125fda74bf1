//! `stride`: pages that are touched at equal distances are mapped before they are touched.

use super::{Advice, Policy, Refusal, number};
use crate::fault::PageFault;

/// Sequences that are followed at a time: several vCPUs, and several arrays of one program.
const STREAMS: usize = 8;
/// A fault farther away than this from the last one of every sequence begins a new one, in pages.
const NEAR: u64 = 64;

/// Sequential and stride prefetch. Two equal distances in a row make a sequence; each further fault that is where it was
/// expected doubles the pages that are mapped ahead. Option `window`: the most of them, 1 to 512, 64 if it is not given.
#[derive(Debug)]
pub struct Stride {
    window: u16,
    streams: [Stream; STREAMS],
    /// Which sequence is given up next.
    oldest: usize,
}

/// One sequence of faults.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The last fault's gfn.
    last: u64,
    /// The distance between the last two, 0 if there was but one.
    stride: i64,
    /// How many pages the last fault got.
    ahead: u16,
}

impl Default for Stride {
    fn default() -> Self {
        Self { window: 64, streams: [Stream { last: u64::MAX, stride: 0, ahead: 1 }; STREAMS], oldest: 0 }
    }
}

impl Stream {
    /// Where the next fault is expected: behind what was mapped ahead.
    const fn expected(&self) -> u64 {
        self.last.wrapping_add_signed(self.stride * self.ahead as i64)
    }

    const fn is_near(&self, gfn: u64) -> bool {
        gfn.abs_diff(self.last) <= NEAR && gfn != self.last
    }
}

impl Policy for Stride {
    const NAME: &'static str = "stride";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[("window", "a whole number from 1 to 512")];

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "window" => self.window = number(value, 1..=512)?,
            _ => return Err(Refusal::UnknownOption),
        }
        Ok(())
    }

    fn advise(&mut self, fault: &PageFault) -> Advice {
        let gfn = fault.gfn().0;
        let window = self.window;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.stride != 0 && stream.expected() == gfn) {
            *stream = Stream { last: gfn, ahead: (stream.ahead * 2).min(window), ..*stream };
            return stream.advice();
        }
        let nearest = self.streams.iter_mut().filter(|stream| stream.is_near(gfn)).min_by_key(|stream| {
            // The last fault of a sequence, not what was mapped ahead of it.
            gfn.abs_diff(stream.last)
        });
        match nearest {
            Some(stream) => {
                let stride = gfn.wrapping_sub(stream.last).cast_signed();
                *stream = Stream { last: gfn, stride, ahead: 1 };
            }
            None => {
                self.streams[self.oldest] = Stream { last: gfn, stride: 0, ahead: 1 };
                self.oldest = (self.oldest + 1) % STREAMS;
            }
        }
        Advice::THE_PAGE
    }
}

impl Stream {
    fn advice(&self) -> Advice {
        // It is at most `NEAR` pages.
        Advice { around: self.ahead, stride: self.stride as i16, ..Advice::THE_PAGE }
    }
}
