//! A guest for tests that waits when it is told to, and knows what its pages must hold.

use crate::policy::Chosen;
use crate::serve::Pager;
use crate::testing::{FIRST_PFN, FakeMachine, Seen, access, by_policy, slot};
use ipc_proto::fault::{ClaimedReply, Fault, Origin, Qualification};
use ipc_proto::grant::{Gfn, Rights};
use ipc_proto::refused::DenyReason;
use ipc_proto::slot::{DirtyPages, SlotFlags, SlotId, SlotReply, SlotRequest, Space};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// What a whole page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Zeros.
    Zero,
    /// Something that becomes smaller, different for each number.
    Easy(u32),
    /// Something that does not.
    Noise(u32),
}

impl Fill {
    fn words(self) -> Vec<u32> {
        let mut value = match self {
            Self::Zero => return std::vec![0; 1024],
            Self::Easy(seed) => return (0..1024).map(|n| if n % 32 == 0 { seed ^ n } else { seed }).collect(),
            Self::Noise(seed) => u64::from(seed) + 1,
        };
        let next = |_| {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (value >> 32) as u32
        };
        (0..1024).map(next).collect()
    }
}

pub(crate) struct Guest {
    pub pager: Box<Pager>,
    pub machine: FakeMachine,
    pub holds: BTreeMap<u64, Fill>,
    /// Steps of work that were done for faults that waited.
    pub notices: u64,
}

impl Guest {
    /// By that policy, with so many frames, and one slot from gfn 0 on.
    pub fn new(policy: &str, frames: u64, pages: u64, flags: SlotFlags) -> Self {
        Self::with(policy, frames, &[(1, 0, pages, flags)])
    }

    pub fn with(policy: &str, frames: u64, slots: &[(u16, u64, u64, SlotFlags)]) -> Self {
        let mut machine = FakeMachine::default();
        machine.tsc = 1;
        let mut pager = by_policy(policy, frames, &mut machine, slots);
        pager.wake(&mut machine);
        Self { pager, machine, holds: BTreeMap::new(), notices: 0 }
    }

    pub fn ask(&mut self, request: SlotRequest) -> SlotReply {
        self.pager.control(0, request, &mut self.machine)
    }

    pub fn fault(&self, vcpu: u16, gfn: u64, needs: Rights) -> Fault {
        let tried = if needs.contains(Rights::WRITE) { Qualification::WRITE } else { Qualification::READ };
        Fault { vcpu, mmu_seq: self.machine.mmu_seq, ..access(gfn, tried) }
    }

    /// What the pager answers, as it is.
    pub fn answer(&mut self, fault: &Fault) -> ClaimedReply {
        let mut words = self.pager.answer(fault, &mut self.machine);
        if let Err(refused) = self.machine.apply(&words) {
            words = self.pager.after_refusal(fault, refused, &mut self.machine);
        }
        ClaimedReply::from_words(&words).expect("a reply")
    }

    /// Does what is done at notices until the vCPU that waits under `token` is told to go on.
    pub fn wait(&mut self, token: u64) {
        let mut steps = 0;
        while !self.machine.ready.contains(&token) {
            steps += 1;
            assert!(steps < 10_000, "it waits for ever");
            self.notice();
        }
    }

    /// The time comes that was asked for.
    pub fn notice(&mut self) {
        let wake = self.machine.wake.take().expect("somebody asked for a notice");
        self.machine.tsc = self.machine.tsc.max(wake);
        self.notices += 1;
        self.pager.notice(&mut self.machine);
    }

    /// An access, as often as it takes.
    pub fn touch(&mut self, gfn: u64, needs: Rights) -> Result<(), DenyReason> {
        for _ in 0..100 {
            if self.machine.guest(gfn, needs) == Seen::Done {
                return Ok(());
            }
            let fault = self.fault(0, gfn, needs);
            match self.answer(&fault) {
                ClaimedReply::Pending(token) => self.wait(token),
                ClaimedReply::Deny(reason) => return Err(reason),
                ClaimedReply::Map(..) | ClaimedReply::Retry => {}
                ClaimedReply::Mmio(_) => panic!("gfn {gfn:#x} is memory"),
            }
        }
        panic!("gfn {gfn:#x}: the same fault for ever")
    }

    pub fn write(&mut self, gfn: u64, fill: Fill) -> Result<(), DenyReason> {
        self.touch(gfn, Rights::WRITE)?;
        for (index, word) in fill.words().into_iter().enumerate() {
            self.machine.put(gfn, index, word);
        }
        self.holds.insert(gfn, fill);
        Ok(())
    }

    /// Reads a page, which must hold what was written.
    pub fn read(&mut self, gfn: u64) -> Result<(), DenyReason> {
        self.touch(gfn, Rights::READ)?;
        let expected = self.holds.get(&gfn).copied().unwrap_or(Fill::Zero);
        let words: Vec<u32> = (0..1024).map(|index| self.machine.guest_word(gfn, index)).collect();
        assert!(words == expected.words(), "gfn {gfn:#x} does not hold {expected:?}");
        Ok(())
    }

    /// The window of the VM's server: it cannot be told to wait.
    pub fn through_window(&mut self, gfn: u64, needs: Rights) -> ClaimedReply {
        let fault = Fault { origin: Origin::Window, ..self.fault(0, gfn, needs) };
        self.answer(&fault)
    }

    /// Gives the pager time until it asks for no more, or so often.
    pub fn idle(&mut self, most: usize) {
        for _ in 0..most {
            if self.machine.wake.is_none() {
                return;
            }
            self.notice();
        }
    }

    pub fn frame(&self, gfn: u64) -> Option<u64> {
        self.machine.leaf(gfn).map(|(pfn, _)| pfn - FIRST_PFN)
    }

    pub fn counts(&self) -> crate::backing::Counts {
        self.pager.backing.vms[0].counts
    }

    pub fn choose(&mut self, policy: &str) {
        self.pager.policy = Chosen::by_name(policy).expect("there is such a policy");
        self.pager.policy_changed(&mut self.machine);
    }

    pub fn dirty(&mut self, id: u16) -> BTreeSet<u64> {
        let (mut from, mut found) = (0, BTreeSet::new());
        loop {
            let reply = self.ask(SlotRequest::DirtyLog(Space::Normal, SlotId(id), from));
            let SlotReply::Dirty(DirtyPages { first, bits }) = reply else {
                assert_eq!(reply, SlotReply::Done);
                break;
            };
            let at = |place: u64| bits[(place / 64) as usize] >> (place % 64) & 1 == 1;
            found.extend((0..DirtyPages::PAGES).filter(|place| at(*place)).map(|place| first + place));
            from = first + DirtyPages::PAGES;
        }
        found
    }

    pub fn create(&mut self, id: u16, base: u64, pages: u64) -> SlotReply {
        self.ask(SlotRequest::Create(slot(id, base, pages, SlotFlags::empty())))
    }

    pub fn delete(&mut self, id: u16) {
        assert_eq!(self.ask(SlotRequest::Delete(Space::Normal, SlotId(id))), SlotReply::Done);
    }

    pub fn relocate(&mut self, id: u16, base: u64) {
        assert_eq!(self.ask(SlotRequest::Move(Space::Normal, SlotId(id), Gfn(base))), SlotReply::Done);
    }

    /// No frame is mapped twice unless it is shared, and none that is shared can be written.
    pub fn check(&self) {
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (gfn, (pfn, rights)) in &self.machine.ept {
            seen.entry(*pfn).or_default().push(*gfn);
            let frame = (pfn - FIRST_PFN) as u32;
            let shared = self.pager.backing.shares.pages(frame, &self.machine);
            assert!(shared == 0 || !rights.contains(Rights::WRITE), "gfn {gfn:#x} can write a shared frame");
            assert!(shared != 0 || seen[pfn].len() == 1, "frame {frame} is mapped at {:x?}", seen[pfn]);
        }
    }
}
