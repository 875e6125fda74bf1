//! What the CPU does with an access of the guest, and the kernel with one that the ledger allows.

use super::{FIRST_PFN, FakeMachine, Trace};
use crate::machine::Memory;
use ipc_proto::fault::FaultKind;
use ipc_proto::grant::{Level, Rights};
use ipc_proto::memop::Harvest;

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was made.
    Done,
    /// The pager is asked.
    Fault(FaultKind),
    /// It went to the VM's server, without the pager.
    Server,
}

impl Trace {
    pub const NONE: Self = Self { allowed: Rights::empty(), accessed: false, dirty: false };

    /// Whether the mode reports the page, which is clean then, unless the mode only looks.
    pub fn take(&mut self, mode: Harvest) -> bool {
        match mode {
            Harvest::WriteProtect => {
                let written = self.allowed.contains(Rights::WRITE);
                self.allowed.remove(Rights::WRITE);
                written
            }
            Harvest::Dirty | Harvest::Log => core::mem::take(&mut self.dirty),
            Harvest::Accessed => core::mem::take(&mut self.accessed),
            Harvest::Hide => !core::mem::replace(&mut self.allowed, Rights::empty()).is_empty(),
            Harvest::LookWritable => self.allowed.contains(Rights::WRITE),
            Harvest::LookDirty => self.dirty,
        }
    }

    /// An access that the granted rights allow: what the CPU lacks is given back, and no right to write to one that
    /// does not write.
    fn access(&mut self, granted: Rights, needs: Rights) {
        let written = needs.contains(Rights::WRITE);
        if !self.allowed.contains(needs) {
            let back = if written { granted } else { granted.difference(Rights::WRITE) };
            self.allowed.insert(back);
        }
        self.accessed = true;
        self.dirty |= written;
    }
}

impl FakeMachine {
    /// The page over `gfn`: its first gfn and its size.
    pub(crate) fn found(&self, gfn: u64) -> Option<(u64, Level)> {
        let (block, gigabyte) = (gfn & !(Level::Large.frames() - 1), gfn & !(Level::Huge.frames() - 1));
        if self.ept.contains_key(&gfn) {
            Some((gfn, Level::Page))
        } else if self.large.contains_key(&block) {
            Some((block, Level::Large))
        } else {
            self.huge.contains_key(&gigabyte).then_some((gigabyte, Level::Huge))
        }
    }

    /// The frame behind `gfn` and what the guest may do with it by the ledger.
    pub(crate) fn leaf(&self, gfn: u64) -> Option<(u64, Rights)> {
        let (start, level) = self.found(gfn)?;
        let (pfn, rights) = match level {
            Level::Page => self.ept[&start],
            Level::Large => self.large[&start],
            Level::Huge => self.huge[&start],
        };
        Some((pfn + gfn - start, rights))
    }

    /// An access of the guest.
    pub(crate) fn guest(&mut self, gfn: u64, needs: Rights) -> Seen {
        if let Some(generation) = self.mmio.get(&gfn) {
            let valid = *generation == self.generation;
            return if valid { Seen::Server } else { Seen::Fault(FaultKind::Misconfiguration) };
        }
        let Some((_, granted)) = self.leaf(gfn).filter(|(_, granted)| granted.contains(needs)) else {
            return Seen::Fault(FaultKind::Violation);
        };
        let (start, _) = self.found(gfn).expect("it has a leaf");
        let trace = self.traces.get_mut(&start).expect("a page has traces");
        if needs.contains(Rights::WRITE)
            && !trace.dirty
            && let Some(log) = &mut self.log
        {
            if log.len() >= self.log_size {
                return Seen::Fault(FaultKind::LogFull);
            }
            log.push(gfn);
        }
        self.mended += u64::from(!trace.allowed.contains(needs));
        trace.access(granted, needs);
        Seen::Done
    }

    /// An access through the window of the VM's server. With the log on, the pager is asked for each first write: the
    /// log does not see it, though the page's D bit is set.
    pub(crate) fn window(&mut self, gfn: u64, needs: Rights) -> Seen {
        let written = needs.contains(Rights::WRITE);
        if written && self.log.is_some() && !self.shown.contains(&gfn) {
            return Seen::Fault(FaultKind::Violation);
        }
        let Some((_, granted)) = self.leaf(gfn).filter(|(_, granted)| granted.contains(needs)) else {
            return Seen::Fault(FaultKind::Violation);
        };
        let (start, _) = self.found(gfn).expect("it has a leaf");
        if self.hidden.contains(&start) {
            return Seen::Fault(FaultKind::Violation);
        }
        self.traces.get_mut(&start).expect("a page has traces").access(granted, needs);
        Seen::Done
    }

    /// What the guest reads from word `index` of page `gfn`.
    pub(crate) fn guest_word(&self, gfn: u64, index: usize) -> u32 {
        let (pfn, _) = self.leaf(gfn).expect("it is mapped");
        self.page((pfn - FIRST_PFN) as u32, index)
    }

    /// The guest writes word `index` of page `gfn`, which is mapped for it.
    pub(crate) fn guest_write(&mut self, gfn: u64, index: usize, value: u32) {
        assert_eq!(self.guest(gfn, Rights::WRITE), Seen::Done);
        self.put(gfn, index, value);
    }

    /// Word `index` of page `gfn` is that.
    pub(crate) fn put(&mut self, gfn: u64, index: usize, value: u32) {
        let (pfn, rights) = self.leaf(gfn).expect("it is mapped");
        assert!(rights.contains(Rights::WRITE));
        self.set_word((pfn - FIRST_PFN) as u32, index, value);
    }
}
