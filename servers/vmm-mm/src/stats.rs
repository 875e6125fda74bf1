//! What the pager counted.

use crate::fault::Prefetch;
use crate::machine::Kernel;
use crate::pool::Pool;
use crate::resolve::PfRet;

/// Counts of one vCPU; names as in KVM's `kvm_vcpu_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PfStats {
    /// Faults that somebody waited for.
    pub pf_taken: u64,
    /// Faults that were answered with a mapping.
    pub pf_fixed: u64,
    /// Faults that went to the VM's server.
    pub pf_emulate: u64,
    /// Faults for which there was nothing to do.
    pub pf_spurious: u64,
    /// Faults that only lacked rights, and got them without a new frame (KVM's `fast_page_fault`); fixed too.
    pub pf_fast: u64,
    /// Faults that were put off.
    pub pf_retry: u64,
    /// Faults that were forbidden.
    pub pf_denied: u64,
}

impl PfStats {
    /// None.
    pub const ZERO: Self =
        Self { pf_taken: 0, pf_fixed: 0, pf_emulate: 0, pf_spurious: 0, pf_fast: 0, pf_retry: 0, pf_denied: 0 };

    /// Counts one answered fault. A prefetch is not counted as taken, but as fixed, as in KVM.
    #[inline]
    pub fn count(&mut self, prefetch: Prefetch, result: PfRet) {
        match prefetch {
            Prefetch::No => self.pf_taken += 1,
            Prefetch::Yes => {}
        }
        match result {
            PfRet::Fixed => self.pf_fixed += 1,
            PfRet::Emulate => self.pf_emulate += 1,
            PfRet::Spurious => self.pf_spurious += 1,
            PfRet::Retry => self.pf_retry += 1,
            // They are between stages.
            PfRet::Continue | PfRet::Invalid => {}
        }
    }

    /// Counts pages that were mapped beside the one that faulted: each is a prefetch.
    pub const fn count_ahead(&mut self, pages: u64) {
        self.pf_fixed += pages;
    }

    /// Counts one forbidden fault.
    pub fn count_denied(&mut self) {
        self.pf_taken += 1;
        self.pf_denied += 1;
    }

    fn add(&mut self, other: &Self) {
        self.pf_taken += other.pf_taken;
        self.pf_fixed += other.pf_fixed;
        self.pf_emulate += other.pf_emulate;
        self.pf_spurious += other.pf_spurious;
        self.pf_fast += other.pf_fast;
        self.pf_retry += other.pf_retry;
        self.pf_denied += other.pf_denied;
    }
}

/// Counts of one VM beside those of its vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmStats {
    /// Pages that got a frame.
    pub pages_filled: u64,
    /// Pages that were mapped before anybody touched them.
    pub pages_ahead: u64,
    /// Grants of 2 MiB.
    pub large_pages: u64,
    /// Pages of 2 MiB that were made small.
    pub splits: u64,
    /// Blocks of small pages that were made large again.
    pub collapses: u64,
    /// Pages that the dirty log said were written.
    pub dirty_pages: u64,
    /// Accesses through a window of the VM's server, among the faults.
    pub window_faults: u64,
    /// Replies that the kernel refused as stale.
    pub replies_stale: u64,
    /// Replies that the kernel refused for another reason.
    pub replies_refused: u64,
    /// Table frames given with replies.
    pub tables_given: u64,
    /// Slot requests that were done.
    pub slot_requests: u64,
    /// Slot requests that were refused.
    pub slot_refusals: u64,
}

impl VmStats {
    /// None.
    pub const ZERO: Self = Self {
        pages_filled: 0,
        pages_ahead: 0,
        large_pages: 0,
        splits: 0,
        collapses: 0,
        dirty_pages: 0,
        window_faults: 0,
        replies_stale: 0,
        replies_refused: 0,
        tables_given: 0,
        slot_requests: 0,
        slot_refusals: 0,
    };
}

/// How many figures there are of a VM.
const FIGURES: usize = 21;

/// The figures of a VM, by name: its vCPUs' as one sum.
#[must_use]
pub fn figures(vcpus: &[PfStats], of_vm: &VmStats, pool: &Pool) -> [(&'static str, u64); FIGURES] {
    let mut sum = PfStats::ZERO;
    for vcpu in vcpus {
        sum.add(vcpu);
    }
    [
        ("pf_taken", sum.pf_taken),
        ("pf_fixed", sum.pf_fixed),
        ("pf_emulate", sum.pf_emulate),
        ("pf_spurious", sum.pf_spurious),
        ("pf_fast", sum.pf_fast),
        ("pf_retry", sum.pf_retry),
        ("pf_denied", sum.pf_denied),
        ("pages_filled", of_vm.pages_filled),
        ("pages_ahead", of_vm.pages_ahead),
        ("large_pages", of_vm.large_pages),
        ("splits", of_vm.splits),
        ("collapses", of_vm.collapses),
        ("dirty_pages", of_vm.dirty_pages),
        ("window_faults", of_vm.window_faults),
        ("replies_stale", of_vm.replies_stale),
        ("replies_refused", of_vm.replies_refused),
        ("tables_given", of_vm.tables_given),
        ("slot_requests", of_vm.slot_requests),
        ("slot_refusals", of_vm.slot_refusals),
        ("frames_left", pool.left()),
        ("frames_peak", pool.peak()),
    ]
}

/// Reports the figures of a VM for the summary.
pub fn report(vm: usize, vcpus: &[PfStats], of_vm: &VmStats, pool: &Pool, kernel: &mut impl Kernel) {
    for (key, value) in figures(vcpus, of_vm, pool) {
        if vm == 0 {
            kernel.stat(format_args!("{key}"), value);
        } else {
            kernel.stat(format_args!("vm{vm}.{key}"), value);
        }
    }
}
