//! What happens while nobody faults: time passes, and pages are mapped ahead.

use super::World;
use ipc_proto::grant::Gfn;
use ipc_proto::slot::{SlotRefused, SlotReply, SlotRequest};

impl World {
    /// Time passes until the fault that was promised is served.
    pub fn wait(&mut self, token: u64) {
        for _ in 0..10_000 {
            if self.machine.ready.contains(&token) {
                return;
            }
            self.time_passes();
        }
        panic!("the promise {token} is not kept");
    }

    /// The time comes that the pager has asked for, if it has.
    pub fn time_passes(&mut self) {
        if let Some(wake) = self.machine.wake.take() {
            self.machine.tsc = self.machine.tsc.max(wake);
            self.pager.notice(&mut self.machine);
        }
        self.pager.at_leisure(&mut self.machine);
        self.note_seen();
    }

    /// So many pages are mapped ahead, as far as there is memory.
    pub fn prefault(&mut self, first: u64, pages: u64) {
        let refuses = self.machine.refuse_after.is_some();
        let known = (first..first + pages).take_while(|gfn| self.at(*gfn).is_some()).count() as u64;
        let left = match self.ask(SlotRequest::Prefault(Gfn(first), pages)) {
            SlotReply::Done => 0,
            SlotReply::Left(left) => left,
            SlotReply::Refused(SlotRefused::NoSuchSlot) if known == 0 => return,
            SlotReply::Refused(SlotRefused::Kernel(_)) if known > 0 && refuses => return,
            SlotReply::Refused(SlotRefused::OutOfMemory) if known > 0 && (refuses || self.setting.is_short()) => return,
            reply => panic!("{known} of {pages} pages from gfn {first:#x} on have a slot: {reply:?}"),
        };
        let (done, gives_up) = (pages - left, refuses || self.setting.is_short());
        assert!(done == known || done < known && gives_up, "gfn {first:#x}: {done} pages, and {known} have a slot");
        for gfn in first..first + done {
            assert!(self.machine.leaf(gfn).is_some(), "gfn {gfn:#x} should be mapped, {left} of {pages} are left");
        }
    }
}
