//! The manifest where it lies: words are not copied, and who needs one entry does not hold all of them.

use crate::version::Version;
use crate::wire::{self, WireError};
use core::marker::PhantomData;
use serde::Deserialize;

/// A whole system.
pub type Manifest<'a> = super::Manifest<&'a str, &'a str, &'a str>;
/// A task's entry.
pub type Task<'a> = super::Task<&'a str, &'a str>;
/// One of its options.
pub type Setting<'a> = super::Setting<&'a str, &'a str>;
/// A VM's entry.
pub type Vm<'a> = super::Vm<&'a str, &'a str>;

/// What is in front of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Head<'a> {
    /// As [`super::Manifest::version`].
    pub version: Version,
    /// As [`super::Manifest::name`].
    pub name: &'a str,
    /// As [`super::Manifest::log`].
    pub log: super::LogLevel,
    /// As [`super::Manifest::check`].
    pub check: bool,
}

/// Entries, one behind the other; there is nothing behind one that cannot be read.
#[derive(Clone, Debug)]
pub struct Entries<'a, T> {
    left: usize,
    bytes: &'a [u8],
    of: PhantomData<T>,
}

/// What is in front, and the tasks.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn open(manifest: &[u8]) -> Result<(Head<'_>, Entries<'_, Task<'_>>), WireError> {
    let (head, behind) = wire::take(manifest)?;
    Ok((head, Entries::begin(behind)?))
}

impl<'a, T> Entries<'a, T> {
    fn begin(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (left, bytes) = wire::take(bytes)?;
        Ok(Self { left, bytes, of: PhantomData })
    }
}

impl<'a> Entries<'a, Task<'a>> {
    /// The VMs, which are behind the last task.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn vms(mut self) -> Result<Entries<'a, Vm<'a>>, WireError> {
        self.by_ref().for_each(drop);
        Entries::begin(self.bytes)
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Entries<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let (entry, behind) = wire::take(self.bytes).map_or((None, &[][..]), |(entry, behind)| (Some(entry), behind));
        self.bytes = behind;
        entry
    }
}
