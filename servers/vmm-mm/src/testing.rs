//! A kernel for tests: it keeps what the replies map, as an EPT would, and the bytes of the frames.

use crate::machine::{Kernel, Memory, WORDS};
use crate::policy::Chosen;
use crate::serve::Pager;
use core::fmt::Arguments;
use ipc_proto::fault::{ClaimedReply, Fault, FaultKind, Origin, Qualification};
use ipc_proto::grant::{ClaimedGrant, Gfn, Gpa, Grant, Level, MemType, Pfn, Rights};
use ipc_proto::lifecycle::{Features, Hello};
use ipc_proto::refused::Refused;
use ipc_proto::slot::{Slot, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use ipc_proto::version::PROTOCOL;
use ipc_proto::words::Words;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// gfn to pfn and rights of small pages, of VM 0.
    pub ept: BTreeMap<u64, (u64, Rights)>,
    /// The same of large pages.
    pub large: BTreeMap<u64, (u64, Rights)>,
    /// Blocks that have a table for small pages; the kernel keeps one for ever, unless it `prunes`.
    tables: BTreeSet<u64>,
    /// The kernel frees a table when nothing is left in it.
    pub prunes: bool,
    /// The pager's message page: further grants of the reply.
    message: BTreeMap<usize, ClaimedGrant>,
    /// Frames that were given for tables.
    pub donated: u64,
    /// How many `Map` operations the kernel has tables for; `None` for enough.
    pub tables_left: Option<u64>,
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

    /// Does what an accepted reply does; hands back the first grant.
    pub(crate) fn install(&mut self, words: &Words) -> Option<Grant> {
        self.apply(words).expect("a reply that is accepted")
    }

    /// What the kernel does with a reply: the first grant, or why it was refused.
    pub(crate) fn apply(&mut self, words: &Words) -> Result<Option<Grant>, Refused> {
        match ClaimedReply::from_words(words).expect("a reply of this version") {
            ClaimedReply::Map(claim, more) => {
                let grant = claim.typed().expect("a grant that is one");
                self.grant(&grant)?;
                for place in 0..usize::from(more) {
                    let claim = self.message.remove(&place).expect("a further grant where it was announced");
                    self.grant(&claim.typed().expect("a grant that is one"))?;
                }
                Ok(Some(grant))
            }
            ClaimedReply::Mmio | ClaimedReply::Retry | ClaimedReply::Pending(_) | ClaimedReply::Deny(_) => Ok(None),
        }
    }

    /// Checks a grant as the kernel's `decode` does, and installs it. Says how many frames are mapped more.
    fn grant(&mut self, grant: &Grant) -> Result<u64, Refused> {
        let size = grant.level.frames();
        assert_eq!((grant.gfn.0 | grant.pfn.0) % size, 0, "gfn and pfn are multiples of the page");
        assert!((grant.gfn.0 / size) % 512 + u64::from(grant.count) <= 512, "a run lies in one table");
        assert!((1..=512).contains(&grant.count) && grant.pfn.0 >= FIRST_PFN);
        if grant.mmu_seq != self.mmu_seq {
            return Err(Refused::Stale);
        }
        let block = grant.gfn.0 & !511;
        match grant.level {
            Level::Page if self.large.contains_key(&block) => return Err(Refused::LargePageThere),
            Level::Large if self.tables.contains(&block) => return Err(Refused::TablesThere),
            Level::Page | Level::Large => {}
            Level::Huge => return Err(Refused::BadLevel),
        }
        let ept = if grant.level == Level::Page { &mut self.ept } else { &mut self.large };
        let mut added = 0;
        for n in 0..u64::from(grant.count) {
            let before = ept.insert(grant.gfn.0 + n * size, (grant.pfn.0 + n * size, grant.rights));
            added += if before.is_none() { size } else { 0 };
        }
        if grant.level == Level::Page {
            self.tables.insert(block);
        }
        Ok(added)
    }

    /// The reply was never sent: what was written for it does not count.
    pub(crate) fn drop_message(&mut self) {
        self.message.clear();
    }

    /// The frame behind `gfn` and what the guest may do with it.
    pub(crate) fn leaf(&self, gfn: u64) -> Option<(u64, Rights)> {
        let large = || self.large.get(&(gfn & !511)).map(|(pfn, rights)| (pfn + gfn % 512, *rights));
        self.ept.get(&gfn).copied().or_else(large)
    }

    /// What the guest reads from word `index` of page `gfn`.
    pub(crate) fn guest_word(&self, gfn: u64, index: usize) -> u32 {
        let (pfn, _) = self.leaf(gfn).expect("it is mapped");
        self.page((pfn - FIRST_PFN) as u32, index)
    }

    /// The guest writes word `index` of page `gfn`.
    pub(crate) fn guest_write(&mut self, gfn: u64, index: usize, value: u32) {
        let (pfn, rights) = self.leaf(gfn).expect("it is mapped");
        assert!(rights.contains(Rights::WRITE));
        self.set_word((pfn - FIRST_PFN) as u32, index, value);
    }

    /// Large pages that reach beyond a range are refused, as the kernel does.
    fn check_edges(&self, first: u64, pages: u64) -> Result<(), Refused> {
        let cut = |gfn: u64| {
            let block = gfn & !511;
            self.large.contains_key(&block) && (block < first || block + 512 > first + pages)
        };
        if cut(first) || cut(first + pages - 1) { Err(Refused::LargePageThere) } else { Ok(()) }
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
        self.check_edges(first.0, pages)?;
        self.mmu_seq += 1;
        let before = self.ept.len() + 512 * self.large.len();
        self.ept.retain(|gfn, _| gfn.wrapping_sub(first.0) >= pages);
        self.large.retain(|gfn, _| gfn.wrapping_sub(first.0) >= pages);
        if self.prunes {
            let ept = &self.ept;
            self.tables.retain(|block| ept.range(block..&(block + 512)).next().is_some());
        }
        Ok((before - self.ept.len() - 512 * self.large.len()) as u64)
    }

    fn protect(&mut self, _: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        self.asked.push(Asked::Protect(first.0, pages, keep));
        self.refused()?;
        self.check_edges(first.0, pages)?;
        self.mmu_seq += 1;
        let mut changed = 0;
        let leaves = self.ept.iter_mut().chain(self.large.iter_mut());
        for (_, (_, rights)) in leaves.filter(|(gfn, _)| gfn.wrapping_sub(first.0) < pages) {
            changed += u64::from(!keep.contains(*rights));
            *rights = rights.intersection(keep);
        }
        Ok(changed)
    }

    fn map(&mut self, _: usize, grant: &Grant) -> Result<u64, Refused> {
        self.refused()?;
        if self.tables_left == Some(0) {
            return Err(Refused::NoTables);
        }
        self.tables_left = self.tables_left.map(|left| left - 1);
        self.grant(grant)
    }

    fn donate(&mut self, _: usize, _: u64, count: u64) -> Result<(), Refused> {
        self.donated += count;
        self.tables_left = self.tables_left.map(|left| left + count);
        Ok(())
    }

    fn mapped(&mut self, _: usize, gfn: Gfn) -> Option<Grant> {
        let of = |gfn: u64, level, (pfn, rights): (u64, Rights)| Grant {
            gfn: Gfn(gfn),
            pfn: Pfn(pfn),
            count: 1,
            level,
            rights,
            mem_type: MemType::WriteBack,
            mmu_seq: 0,
        };
        let block = gfn.0 & !511;
        let large = self.large.get(&block).map(|leaf| of(block, Level::Large, *leaf));
        self.ept.get(&gfn.0).map(|leaf| of(gfn.0, Level::Page, *leaf)).or(large)
    }

    fn mmu_seq(&mut self, _: usize) -> Option<u64> {
        Some(self.mmu_seq)
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        self.message.insert(place, claim);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        self.stats.push((std::format!("{key}"), value));
    }
}

/// The state is large: tests keep it on the heap.
pub(crate) fn pager(frames: u64, machine: &mut FakeMachine) -> std::boxed::Box<Pager> {
    pager_of("demand", frames, machine)
}

pub(crate) fn pager_of(policy: &str, frames: u64, machine: &mut FakeMachine) -> std::boxed::Box<Pager> {
    let mut pager = std::boxed::Box::new(Pager::empty());
    let policy = Chosen::by_name(policy).expect("there is such a policy");
    pager.open(FIRST_PFN, frames, 40, policy, machine);
    pager
}

/// A pager whose VM 0 has been greeted and has these slots: number, base, pages, flags.
pub(crate) fn pager_with(
    frames: u64,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let pager = pager(frames, machine);
    greeted(pager, machine, slots)
}

/// As [`pager_with`], by another policy.
pub(crate) fn by_policy(
    policy: &str,
    frames: u64,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
    let pager = pager_of(policy, frames, machine);
    greeted(pager, machine, slots)
}

fn greeted(
    mut pager: std::boxed::Box<Pager>,
    machine: &mut FakeMachine,
    slots: &[(u16, u64, u64, SlotFlags)],
) -> std::boxed::Box<Pager> {
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
