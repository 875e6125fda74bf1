//! What backs pages beside frames of their own: the compressed store, shared frames, boot modules; and what is known of
//! each VM for it.

use crate::ahead::LargeAhead;
use crate::compress::Compressor;
use crate::cow::Shares;
use crate::handover::Standstill;
use crate::image::Images;
use crate::keep::Keeper;
use crate::machine::{Kernel, Memory};
use crate::memslot::MemSlot;
use crate::pending::{Jobs, Search};
use crate::policy::Chosen;
use crate::pool::Pool;
use crate::reclaim::{Hand, Victims};
use crate::seen::Seen;
use crate::sparse::Sparse;
use crate::store::Content;
use crate::zstore::Zstore;
use ipc_proto::manifest::{MAX_MODULES, MAX_VMS};

/// All of it.
pub struct Backing {
    /// What outlives the task.
    pub keeper: Keeper,
    /// Room to compress in.
    pub compressor: Compressor,
    /// How many pages have a shared frame.
    pub shares: Shares,
    /// Which slots have a boot module as their content.
    pub images: Images,
    /// Faults that are answered later.
    pub jobs: Jobs,
    /// Whether faults are answered.
    pub standstill: Standstill,
    /// By the VM's place in the manifest.
    pub vms: [VmBacking; MAX_VMS],
}

/// What is known of one VM.
pub struct VmBacking {
    /// Its compressed pages, in frames of its own.
    pub zstore: Zstore,
    /// Large pages that are zeroed already.
    pub ahead: LargeAhead,
    /// Where reclaim looks next.
    pub hand: Hand,
    /// What the policy gave up of where reclaim looked last, and is still there.
    pub victims: Option<Victims>,
    /// What looking for frames came to.
    pub search: Search,
    /// Where the policy looks next, unasked.
    pub survey: Hand,
    /// The frame of zeros that pages share, if any does.
    pub zero: Option<u32>,
    /// By boot module: the shared frame of each of its pages, plus one.
    pub images: [Sparse; MAX_MODULES],
    /// Who has seen which pages used.
    pub used: Seen,
    /// By fingerprint: the gfn, plus one, of a page that had it.
    pub seen: Sparse,
    /// What was done.
    pub counts: Counts,
}

/// What was done for a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages that were taken back, their frames with them.
    pub evictions: u64,
    /// Of those: pages of zeros, which need no room.
    pub same_filled: u64,
    /// Of those: pages that went to the compressed store.
    pub compressions: u64,
    /// Of those: pages of which one word is most, which need no LZ4.
    pub repeated: u64,
    /// Bytes that they needed there, of 4096 each.
    pub compressed_bytes: u64,
    /// Pages that did not become smaller, and stayed.
    pub incompressible: u64,
    /// Pages that came back from there.
    pub decompressions: u64,
    /// Pages that got a frame of their own because they were written.
    pub cow_breaks: u64,
    /// Pages of zeros that share one frame, ever.
    pub zero_shared: u64,
    /// Pages that gave their frame up for an equal page's.
    pub merged: u64,
    /// Pages that were read from a boot module.
    pub image_reads: u64,
    /// Faults that were answered later.
    pub pending: u64,
    /// Of those: faults on a page for which work was under way already.
    pub joined: u64,
    /// Ticks that the one that waited longest has waited.
    pub longest_wait: u64,
}

impl Backing {
    /// Nothing is backed.
    pub const EMPTY: Self = Self {
        keeper: Keeper::OFF,
        compressor: Compressor::EMPTY,
        shares: Shares::EMPTY,
        images: Images::NONE,
        jobs: Jobs::NONE,
        standstill: Standstill::No,
        vms: [const { VmBacking::NONE }; MAX_VMS],
    };

    /// Forgets the contents of a slot that are in no frame of their own, so that its tree can be cleared.
    pub fn forget(&mut self, vm: usize, slot: &mut MemSlot, pool: &mut Pool, memory: &mut impl Memory) {
        let mut from = 0;
        let elsewhere = |content| matches!(content, Content::Shared(_) | Content::Packed(_));
        while from < slot.pages()
            && let Some((offset, page)) = slot.tree.next(from, memory, |page| elsewhere(page.content()))
        {
            match page.content() {
                Content::Packed(place) => self.vms[vm].zstore.remove(place, pool, memory),
                Content::Shared(frame) => self.leave(vm, slot, offset, frame, pool, memory),
                Content::Nothing | Content::Own(_) => {}
            }
            slot.tree.set(offset, Content::Nothing, memory);
            from = offset + 1;
        }
        // What is gone may have been the reason that nothing could be taken back.
        self.vms[vm].search = Search::Fruitful;
        self.vms[vm].victims = None;
    }

    /// Reports what was done for a VM, and what the policy found of it.
    pub fn report(&self, vm: usize, policy: &Chosen, kernel: &mut impl Kernel) {
        let found = (0..).map_while(|number| policy.figure(vm, number));
        for (key, value) in self.figures(vm).into_iter().chain(found) {
            if vm == 0 {
                kernel.stat(format_args!("{key}"), value);
            } else {
                kernel.stat(format_args!("vm{vm}.{key}"), value);
            }
        }
    }

    /// What was done for a VM, by name.
    #[must_use]
    pub fn figures(&self, vm: usize) -> [(&'static str, u64); 19] {
        let VmBacking { counts, zstore, .. } = &self.vms[vm];
        // How many bytes of pages one byte of the store held, in hundredths.
        let ratio = (counts.compressions * 4096 * 100).checked_div(counts.compressed_bytes).unwrap_or(0);
        [
            ("evictions", counts.evictions),
            ("same_filled", counts.same_filled),
            ("compressions", counts.compressions),
            ("repeated_words", counts.repeated),
            ("compressed_bytes", counts.compressed_bytes),
            ("decompressions", counts.decompressions),
            ("incompressible", counts.incompressible),
            ("compression_ratio_percent", ratio),
            ("store_pages", zstore.pages()),
            ("store_frames", zstore.frames()),
            ("store_bytes", zstore.bytes()),
            ("cow_breaks", counts.cow_breaks),
            ("zero_shared", counts.zero_shared),
            ("merged", counts.merged),
            ("shared_frames", self.shares.frames()),
            ("image_reads", counts.image_reads),
            ("pending", counts.pending),
            ("joined", counts.joined),
            ("longest_wait", counts.longest_wait),
        ]
    }
}

impl VmBacking {
    const NONE: Self = Self {
        zstore: Zstore::EMPTY,
        ahead: LargeAhead::EMPTY,
        hand: Hand::START,
        victims: None,
        search: Search::Fruitful,
        survey: Hand::START,
        zero: None,
        images: [const { Sparse::EMPTY }; MAX_MODULES],
        used: Seen::EMPTY,
        seen: Sparse::EMPTY,
        counts: Counts::ZERO,
    };
}

impl Counts {
    /// None.
    pub const ZERO: Self = Self {
        evictions: 0,
        same_filled: 0,
        compressions: 0,
        repeated: 0,
        compressed_bytes: 0,
        incompressible: 0,
        decompressions: 0,
        cow_breaks: 0,
        zero_shared: 0,
        merged: 0,
        image_reads: 0,
        pending: 0,
        joined: 0,
        longest_wait: 0,
    };
}

#[cfg(test)]
pub(crate) mod guest;
