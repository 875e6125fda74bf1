//! Guest memory for tests.

use crate::memory::{GuestMemory, NotRam, RamMap};
use std::vec::Vec;

/// All of a small machine's memory, with the holes of a real one.
pub struct Memory {
    map: RamMap,
    bytes: Vec<u8>,
}

impl Memory {
    /// Zeroed memory of a machine of `bytes` of RAM.
    pub fn new(bytes: u64) -> Self {
        let map = RamMap::new(bytes);
        Self { map, bytes: std::vec![0; map.end() as usize] }
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), NotRam> {
        if !self.map.holds(gpa, bytes.len() as u64) {
            return Err(NotRam);
        }
        bytes.copy_from_slice(&self.bytes[gpa as usize..][..bytes.len()]);
        Ok(())
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), NotRam> {
        if !self.map.writable(gpa, bytes.len() as u64) {
            return Err(NotRam);
        }
        self.bytes[gpa as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
