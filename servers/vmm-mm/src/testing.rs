//! A kernel for tests: it keeps what the replies map, as an EPT would, and the bytes of the frames.

use crate::machine::{Kernel, Memory, WORDS};
use crate::policy::Chosen;
use crate::serve::Pager;
use core::fmt::Arguments;
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{Gfn, Gpa, Grant, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use ipc_proto::version::PROTOCOL;
use ipc_proto::words::Words;
use std::collections::{BTreeMap, HashMap};
use std::string::String;
use std::vec::Vec;

/// The pfn of the pager's first frame in tests.
pub(crate) const FIRST_PFN: u64 = 0x1000;

/// What was asked of the kernel, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Unmap(u64, u64),
    Protect(u64, u64, Rights),
}

#[derive(Default)]
pub(crate) struct FakeMachine {
    frames: HashMap<u32, Vec<u32>>,
    /// gfn to pfn and rights, of VM 0.
    pub ept: BTreeMap<u64, (u64, Rights)>,
    pub asked: Vec<Asked>,
    /// The kernel refuses the next operation with this.
    pub refuse: Option<Refused>,
    pub stats: Vec<(String, u64)>,
    pub mmu_seq: u64,
    pub cleared: u64,
}

impl FakeMachine {
    /// Makes every frame hold rubbish, as memory does at boot.
    fn page(&self, frame: u32, index: usize) -> u32 {
        self.frames.get(&frame).map_or(0xdead_beef, |words| words[index])
    }

    /// Does what an accepted reply does; hands back the grant.
    pub(crate) fn install(&mut self, words: &Words) -> Option<Grant> {
        match ClaimedReply::from_words(words).expect("a reply of this version") {
            ClaimedReply::Map(claim, 0) => {
                let grant = claim.typed().expect("a grant that is one");
                assert_eq!(grant.mmu_seq, self.mmu_seq, "a grant carries the sequence number of its fault");
                self.ept.insert(grant.gfn.0, (grant.pfn.0, grant.rights));
                Some(grant)
            }
            ClaimedReply::Map(..) => panic!("demand maps one page"),
            ClaimedReply::Mmio | ClaimedReply::Retry | ClaimedReply::Pending(_) | ClaimedReply::Deny(_) => None,
        }
    }

    /// What the guest reads from word `index` of page `gfn`.
    pub(crate) fn guest_word(&self, gfn: u64, index: usize) -> u32 {
        self.page((self.ept[&gfn].0 - FIRST_PFN) as u32, index)
    }

    /// The guest writes word `index` of page `gfn`.
    pub(crate) fn guest_write(&mut self, gfn: u64, index: usize, value: u32) {
        let (pfn, rights) = self.ept[&gfn];
        assert!(rights.contains(Rights::WRITE));
        self.set_word((pfn - FIRST_PFN) as u32, index, value);
    }

    fn refused(&mut self) -> Result<(), Refused> {
        self.refuse.take().map_or(Ok(()), Err)
    }
}

impl Memory for FakeMachine {
    fn clear(&mut self, frame: u32) {
        self.cleared += 1;
        self.frames.insert(frame, std::vec![0; WORDS]);
    }

    fn word(&self, frame: u32, index: usize) -> u32 {
        self.page(frame, index)
    }

    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        self.frames.entry(frame).or_insert_with(|| std::vec![0xdead_beef; WORDS])[index] = value;
    }
}

impl Kernel for FakeMachine {
    fn unmap(&mut self, _: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        self.asked.push(Asked::Unmap(first.0, pages));
        self.refused()?;
        self.mmu_seq += 1;
        let before = self.ept.len();
        self.ept.retain(|gfn, _| gfn.wrapping_sub(first.0) >= pages);
        Ok((before - self.ept.len()) as u64)
    }

    fn protect(&mut self, _: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        self.asked.push(Asked::Protect(first.0, pages, keep));
        self.refused()?;
        self.mmu_seq += 1;
        let mut changed = 0;
        for (_, (_, rights)) in self.ept.iter_mut().filter(|(gfn, _)| gfn.wrapping_sub(first.0) < pages) {
            changed += u64::from(!keep.contains(*rights));
            *rights = rights.intersection(keep);
        }
        Ok(changed)
    }

    fn mapped(&mut self, _: usize, gfn: Gfn) -> Option<Rights> {
        self.ept.get(&gfn.0).map(|(_, rights)| *rights)
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        self.stats.push((std::format!("{key}"), value));
    }
}

/// The state is large: tests keep it on the heap.
pub(crate) fn pager(frames: u64, machine: &mut FakeMachine) -> std::boxed::Box<Pager> {
    let mut pager = std::boxed::Box::new(Pager::empty());
    let policy = Chosen::by_name("demand").expect("there is a demand policy");
    pager.open(FIRST_PFN, frames, 40, policy, machine);
    pager
}

/// A pager whose VM 0 has been greeted and has these slots: number, base, pages, flags.
pub(crate) fn pager_with(
    frames: u64,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let mut pager = pager(frames, machine);
    let hello = Hello { version: PROTOCOL, features: Features::empty() };
    assert!(matches!(pager.control(0, SlotRequest::Hello(hello), machine), SlotReply::Hello(_)));
    for (id, base, pages, flags) in slots {
        let slot = slot(*id, *base, *pages, *flags);
        assert_eq!(pager.control(0, SlotRequest::Create(slot), machine), SlotReply::Done);
    }
    pager
}

pub(crate) fn slot(id: u16, base: u64, pages: u64, flags: SlotFlags) -> Slot {
    Slot { id: SlotId(id), space: Space::Normal, base: Gfn(base), pages, flags }
}

/// A guest's access to the first byte of `gfn`.
pub(crate) fn access(gfn: u64, qualification: Qualification) -> Fault {
    Fault {
        vcpu: 0,
        vm: 0,
        tables_left: 100,
        origin: Origin::Vcpu,
        kind: FaultKind::Violation,
        gpa: Gpa(gfn << 12),
        qualification,
        idt_vectoring: 0,
        mmu_seq: 0,
    }
}

pub(crate) const READ: Qualification = Qualification::READ;
pub(crate) const WRITE: Qualification = Qualification::WRITE;
