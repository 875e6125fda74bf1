//! The pager: vmm-mm's own answers everywhere but in the ranges of [`plan`].

use crate::{PAGER, plan};
use ipc_proto::fault::{Fault, FaultReply, Origin, TopUp};
use ipc_proto::grant::{Gfn, Grant, Level, MemType, Pfn, Rights, SeenBy};
use ipc_proto::memop::{Harvest, MemOp};
use rt::{Received, Task};
use vmm_mm::policy::Chosen;
use vmm_mm::task::{self, Machine};

/// A frame for each page of the ranges, and as many as may be needed for large pages to be aligned; kept from the library.
const OWN: u64 = ((plan::END - plan::SINGLE) >> 12) + LARGE;
/// Frames of a large page.
const LARGE: u64 = Level::Large.frames();

/// What belongs to the ranges.
struct Ranges {
    /// The frame of the first page, but for large pages.
    first_pfn: u64,
    /// The first frame of the first large page.
    first_large: u64,
    /// The page that is being retried, and how often it was.
    retried: (u64, u32),
    /// Whether all pages of [`plan::BULK`] have been mapped and unmapped.
    timed: Timed,
    /// Whether those of [`plan::PROTECTED`] have been protected.
    protected: Timed,
}

#[derive(PartialEq, Eq)]
enum Timed {
    NotYet,
    Done,
}

/// Serves.
pub fn main(task: &Task) -> ! {
    let mut machine = Machine::of(task);
    let mut pager = PAGER.lock();
    let policy = Chosen::by_name("demand").expect("vmm-mm has it");
    let shared = task.info.frames - OWN;
    let shares = task::frames(task, shared);
    pager.open(task.info.first_pfn, &shares, task.info.guest_physical_bits, policy, &mut machine);
    let first_pfn = task.info.first_pfn + shared;
    let first_large = (first_pfn + ((plan::SMALL_END - plan::SINGLE) >> 12)).next_multiple_of(LARGE);
    let mut ranges = Ranges { first_pfn, first_large, retried: (0, 0), timed: Timed::NotYet, protected: Timed::NotYet };
    task::serve(&mut pager, &mut machine, |message, _, _| match message.fault() {
        Some(fault) => ranges.answer(&fault).map(|reply| reply.to_words(TopUp::default())),
        // The caller's: nothing travels, neither way.
        None => matches!(message.received(), Received::Call { len: 0, .. }).then_some([0; 6]),
    })
}

impl Ranges {
    /// The answer to a fault of the guest in one of the ranges.
    fn answer(&mut self, fault: &Fault) -> Option<FaultReply> {
        let gpa = fault.gpa.0;
        if fault.origin == Origin::Window || !(plan::SINGLE..plan::END).contains(&gpa) || fault.tables_left < 8 {
            return None;
        }
        let page = gpa >> 12;
        if gpa < plan::AROUND {
            return Some(self.map(fault, page, 1));
        }
        if gpa < plan::RETRIED {
            return Some(self.map(fault, page & !(plan::RUN - 1), plan::RUN));
        }
        if gpa < plan::BULK {
            return Some(self.retry(fault, page));
        }
        if gpa >= plan::LARGE {
            return Some(self.map_large(fault));
        }
        if gpa < plan::PROTECTED && self.timed == Timed::NotYet {
            self.timed = Timed::Done;
            self.time(fault);
            return Some(FaultReply::Retry);
        }
        if gpa >= plan::TRIGGER && self.protected == Timed::NotYet {
            self.protected = Timed::Done;
            protect(fault);
            return Some(FaultReply::Retry);
        }
        Some(self.map(fault, page, 1))
    }

    fn retry(&mut self, fault: &Fault, page: u64) -> FaultReply {
        if self.retried.0 != page {
            self.retried = (page, 0);
        }
        self.retried.1 += 1;
        if self.retried.1 > plan::RETRIES { self.map(fault, page, 1) } else { FaultReply::Retry }
    }

    fn map(&self, fault: &Fault, page: u64, count: u64) -> FaultReply {
        FaultReply::Map(self.grant(page, count, fault.mmu_seq), 0)
    }

    const fn map_large(&self, fault: &Fault) -> FaultReply {
        let page = (fault.gpa.0 >> 12) & !(LARGE - 1);
        let pfn = self.first_large + page - (plan::LARGE >> 12);
        FaultReply::Map(Grant { pfn: Pfn(pfn), level: Level::Large, ..self.grant(page, 1, fault.mmu_seq) }, 0)
    }

    const fn grant(&self, page: u64, count: u64, mmu_seq: u64) -> Grant {
        Grant {
            gfn: Gfn(page),
            pfn: Pfn(self.first_pfn + page - (plan::SINGLE >> 12)),
            count: count as u16,
            level: Level::Page,
            rights: Rights::all(),
            mem_type: MemType::WriteBack,
            mmu_seq,
            seen_by: SeenBy::Everyone,
        }
    }

    /// Maps and unmaps one page and then all pages of [`plan::BULK`]; the first map brings the table. Then the same for the
    /// debugger.
    fn time(&self, fault: &Fault) {
        let pages = plan::LENGTH >> 12;
        for (what, count) in [("first", 1), ("one", 1), ("run", pages)] {
            let (mapped, unmapped) = (self.map_unasked(fault, count, rt::tsc), unmap(fault, count, rt::tsc));
            rt::stat(format_args!("map.{what}"), mapped);
            rt::stat(format_args!("unmap.{what}"), unmapped);
        }
        self.map_unasked(fault, pages, marked);
        unmap(fault, pages, marked);
    }

    /// Maps `count` pages of [`plan::BULK`]; says the difference of what `clock` says before and after.
    #[inline(always)]
    fn map_unasked(&self, fault: &Fault, count: u64, clock: fn() -> u64) -> u64 {
        let vm = usize::from(fault.vm);
        let seq = rt::mem_op(vm, MemOp::Info, [0; 4]).map_or(0, |words| words[0]);
        let claim = self.grant(plan::BULK >> 12, count, seq).claim();
        let start = clock();
        let mapped = rt::mem_op(vm, MemOp::Map, [claim.shape, claim.gfn, claim.pfn, claim.mmu_seq]);
        let end = clock();
        assert_eq!(mapped.map(|words| words[0]), Ok(count), "pages mapped");
        end - start
    }
}

/// Unmaps `count` pages of [`plan::BULK`], as [`Ranges::map_unasked`] maps them.
#[inline(always)]
fn unmap(fault: &Fault, count: u64, clock: fn() -> u64) -> u64 {
    let start = clock();
    let unmapped = rt::mem_op(usize::from(fault.vm), MemOp::Unmap, [plan::BULK >> 12, count, 0, 0]);
    let end = clock();
    assert_eq!(unmapped.map(|words| words[0]), Ok(count), "pages unmapped");
    end - start
}

/// Takes the CPU's right to write from every page of [`plan::PROTECTED`].
fn protect(fault: &Fault) {
    let pages = plan::LENGTH >> 12;
    let arguments = [plan::PROTECTED >> 12, pages, Harvest::WriteProtect as u64, 0];
    let start = rt::tsc();
    let harvested = rt::mem_op(usize::from(fault.vm), MemOp::Harvest, arguments);
    let end = rt::tsc();
    assert_eq!(harvested.map(|words| words[0]), Ok(pages), "pages that could be written");
    rt::stat(format_args!("harvest.run"), end - start);
}

/// A mark for the debugger, in place of a clock.
#[inline(always)]
fn marked() -> u64 {
    crate::mark::mark();
    0
}
