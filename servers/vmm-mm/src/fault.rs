//! A fault as the pipeline sees it: KVM's error code and its `kvm_page_fault`.

use bitflags::bitflags;
use ipc_proto::fault::{Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Gpa, Level, Pfn, Rights};
use ipc_proto::layout::FRAMES;
use ipc_proto::slot::SlotId;

bitflags! {
    /// What was tried and what was found: the error code of the x86 #PF, with the bits above 31 that KVM adds
    /// (`PFERR_*_MASK`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PageFaultErr: u64 {
        /// Some access to the page is allowed.
        const PRESENT = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// A data read; the name is KVM's, for history: EPT knows no user mode.
        const USER = 1 << 2;
        /// An entry that no mapping has: an EPT misconfiguration.
        const RSVD = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
        /// Forbidden by a protection key.
        const PK = 1 << 5;
        /// A shadow-stack access.
        const SS = 1 << 6;
        /// Forbidden by SGX.
        const SGX = 1 << 15;
        /// The access was to the final guest-physical address.
        const GUEST_FINAL = 1 << 32;
        /// The access was to a page table of the guest, on the walk to the final address.
        const GUEST_PAGE = 1 << 33;
        /// Not by an instruction's operand; software only, hardware never reports it to us.
        const IMPLICIT_ACCESS = 1 << 48;
    }
}

/// Some access was allowed.
const ANY_RIGHT: Qualification =
    Qualification::READABLE.union(Qualification::WRITABLE).union(Qualification::EXECUTABLE);

impl PageFaultErr {
    /// From the exit qualification of an EPT violation (SDM vol. 3C, table 28-7), as KVM's `handle_ept_violation`.
    ///
    /// `GVA_TRANSLATED` means nothing unless `GVA_VALID` is set. Read and write together are legal: with A/D bits on,
    /// the processor's walk of guest page tables counts as a write.
    #[inline]
    #[must_use]
    pub const fn from_violation(qualification: Qualification) -> Self {
        Self::if_any(qualification, Qualification::READ, Self::USER)
            .union(Self::if_any(qualification, Qualification::WRITE, Self::WRITE))
            .union(Self::if_any(qualification, Qualification::FETCH, Self::FETCH))
            .union(Self::if_any(qualification, ANY_RIGHT, Self::PRESENT))
            .union(Self::stage(qualification))
    }

    const fn stage(qualification: Qualification) -> Self {
        if !qualification.contains(Qualification::GVA_VALID) {
            Self::empty()
        } else if qualification.contains(Qualification::GVA_TRANSLATED) {
            Self::GUEST_FINAL
        } else {
            Self::GUEST_PAGE
        }
    }

    /// Without what only software may say. KVM has the bit for accesses that its emulator makes: an error code that
    /// carries it and comes from hardware is wrong, and would pass for one of those.
    #[must_use]
    pub fn from_hardware(self) -> Self {
        if self.contains(Self::IMPLICIT_ACCESS) {
            log::warn!("error code {self:?} from hardware says IMPLICIT_ACCESS, which is taken off");
        }
        self.difference(Self::IMPLICIT_ACCESS)
    }

    const fn if_any(qualification: Qualification, of: Qualification, then: Self) -> Self {
        if qualification.intersects(of) { then } else { Self::empty() }
    }
}

/// One fault on its way through the pipeline; names as in KVM's `kvm_page_fault`.
///
/// The first part is what the kernel said; the second is filled by the stage that finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The VM's place in the manifest.
    pub vm: u16,
    /// The guest-physical address.
    pub addr: Gpa,
    /// Violation or misconfiguration.
    pub kind: FaultKind,
    /// What was tried and what was found; only of a violation.
    pub qualification: Qualification,
    /// Whose access it was.
    pub origin: Origin,
    /// Whether somebody waits for the answer.
    pub prefetch: Prefetch,
    /// The VM's invalidation sequence number when the fault was taken: a grant carries it, and is refused as stale
    /// when an invalidation came in between.
    pub mmu_seq: u64,
    /// In an address space that two-dimensional paging translates: always, until there are shadow roots.
    pub is_tdp: bool,
    /// Whether large pages are mapped without execution, for CPUs that a fetch from one can stop.
    pub nx_huge_page_workaround: bool,

    /// Whether the fetch forbids a large page because of that: a stage's finding, like all that follow.
    pub huge_page_disallowed: bool,
    /// The largest page that policy and memory types leave.
    pub max_level: Level,
    /// The largest page that slot and frames have.
    pub req_level: Level,
    /// The page that is mapped.
    pub goal_level: Level,
    /// The slot that holds the address.
    pub slot: Option<SlotId>,
    /// The frame behind it.
    pub pfn: Option<Pfn>,
    /// Whether the slot lets the guest write.
    pub map_writable: bool,
    /// A write by the walk of the guest's page tables: with shadow paging, to a table that is shadowed.
    pub write_fault_to_shadow_pgtable: bool,
}

/// Whether a fault was taken or made up ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// A vCPU or a window access waits.
    No,
    /// Nobody waits: not counted in `pf_taken`.
    Yes,
}

impl PageFault {
    /// From the kernel's message.
    #[inline]
    #[must_use]
    pub const fn from_message(fault: &Fault) -> Self {
        Self {
            vm: fault.vm,
            addr: fault.gpa,
            kind: fault.kind,
            qualification: fault.qualification,
            origin: fault.origin,
            prefetch: Prefetch::No,
            mmu_seq: fault.mmu_seq,
            is_tdp: true,
            nx_huge_page_workaround: false,
            huge_page_disallowed: false,
            max_level: Level::Page,
            req_level: Level::Page,
            goal_level: Level::Page,
            slot: None,
            pfn: None,
            map_writable: false,
            write_fault_to_shadow_pgtable: false,
        }
    }

    /// This server's own address of the page, KVM's `hva`; `None` before its frame is found.
    #[must_use]
    pub fn hva(&self) -> Option<u64> {
        self.pfn.map(|pfn| FRAMES + (pfn.0 << 12))
    }

    /// The error code. The predicates below say the same, without putting it together first.
    #[must_use]
    pub fn error(&self) -> PageFaultErr {
        match self.kind {
            FaultKind::Violation => PageFaultErr::from_violation(self.qualification).from_hardware(),
            FaultKind::Misconfiguration => PageFaultErr::RSVD,
            FaultKind::LogFull => PageFaultErr::empty(),
        }
    }

    #[inline]
    const fn violates(&self, tried: Qualification) -> bool {
        match self.kind {
            FaultKind::Violation => self.qualification.intersects(tried),
            FaultKind::Misconfiguration | FaultKind::LogFull => false,
        }
    }

    /// The guest frame.
    #[inline]
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.addr.gfn()
    }

    /// KVM's `write`.
    #[inline]
    #[must_use]
    pub const fn write(&self) -> bool {
        self.violates(Qualification::WRITE)
    }

    /// KVM's `exec`.
    #[inline]
    #[must_use]
    pub const fn exec(&self) -> bool {
        self.violates(Qualification::FETCH)
    }

    /// KVM's `user`: a data read.
    #[inline]
    #[must_use]
    pub const fn user(&self) -> bool {
        self.violates(Qualification::READ)
    }

    /// KVM's `present`.
    #[inline]
    #[must_use]
    pub const fn present(&self) -> bool {
        self.violates(ANY_RIGHT)
    }

    /// The rights that the access needs.
    #[must_use]
    pub fn access(&self) -> Rights {
        let mut access = Rights::empty();
        access.set(Rights::READ, self.violates(Qualification::READ));
        access.set(Rights::WRITE, self.write());
        access.set(Rights::EXECUTE, self.exec());
        access
    }

    /// KVM's `rsvd`.
    #[inline]
    #[must_use]
    pub const fn rsvd(&self) -> bool {
        matches!(self.kind, FaultKind::Misconfiguration)
    }
}

#[cfg(test)]
mod tests;
