//! What Bochs's debugger wrote down between two marks of the guest: every instruction that was executed.

use serde_json::{Value, json};

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The tick at which it was executed.
    pub tick: u64,
    /// Who executed it.
    pub who: Who,
    /// Where it is.
    pub address: u64,
    /// As the debugger shows it.
    pub text: String,
}

/// Who executed an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The guest.
    Guest,
    /// The kernel: the upper half of the address space.
    Kernel,
    /// A server: ring 3.
    Server,
}

/// The instructions between two marks, with the first tick and the last.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order in which they were executed.
    pub instructions: Vec<Instruction>,
}

/// The script that traces `count` times from one mark to the next, and then lets the machine run to its end.
#[must_use]
pub fn script(count: usize) -> String {
    format!("c\n{}", "trace on\nc\ntrace off\nc\n".repeat(count))
}

/// Every trace in what the debugger printed.
#[must_use]
pub fn read(debugger: &str) -> Vec<Trace> {
    let mut traces = Vec::new();
    let mut current: Option<Trace> = None;
    for line in debugger.lines() {
        if line.starts_with("Tracing enabled") {
            current = Some(Trace::default());
        } else if line.starts_with("Tracing disabled") {
            traces.extend(current.take());
        } else if let (Some(trace), Some(instruction)) = (&mut current, instruction(line)) {
            trace.instructions.push(instruction);
        }
    }
    traces
}

/// `(0).[146085288] [0x000000109020] 0008:ffffffff80109020 (unk. ctxt): push r15    ; 4157`
fn instruction(line: &str) -> Option<Instruction> {
    let (tick, rest) = line.strip_prefix("(0).[")?.split_once("] [")?;
    let (place, text) = rest.split_once("] ")?.1.split_once(" (")?;
    let (selector, address) = place.split_once(':')?;
    let text = text.split_once("): ")?.1.split(';').next()?.trim();
    let address = u64::from_str_radix(address, 16).ok()?;
    let ring = u16::from_str_radix(selector, 16).ok()? & 3;
    let who = match (ring, address >> 63) {
        (3, _) => Who::Server,
        (_, 1) => Who::Kernel,
        _ => Who::Guest,
    };
    Some(Instruction { tick: tick.parse().ok()?, who, address, text: text.to_owned() })
}

impl Trace {
    /// Ticks from the first instruction to the last, which is the mark.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        match (self.instructions.first(), self.instructions.last()) {
            (Some(first), Some(last)) => last.tick - first.tick,
            _ => 0,
        }
    }

    /// The costly events in it.
    #[must_use]
    pub fn events(&self) -> Events {
        let mut events = Events::default();
        let mut before = Who::Guest;
        for instruction in &self.instructions {
            match (before, instruction.who) {
                (Who::Guest, Who::Kernel) | (Who::Kernel, Who::Guest) => events.transitions += 1,
                (Who::Kernel, Who::Server) | (Who::Server, Who::Kernel) => events.ring_crossings += 1,
                (Who::Guest | Who::Server, Who::Server | Who::Guest) | (Who::Kernel, Who::Kernel) => {}
            }
            before = instruction.who;
            if instruction.who != Who::Guest {
                events.count(&instruction.text);
            }
        }
        events
    }
}

/// Events that cost more than the tick that they are here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// VM exits and VM entries.
    pub transitions: u64,
    /// Ring 0 to 3 and back.
    pub ring_crossings: u64,
    /// Writes to CR3.
    pub cr3_writes: u64,
    /// VMREAD.
    pub vmread: u64,
    /// VMWRITE.
    pub vmwrite: u64,
    /// INVEPT, INVVPID, INVPCID and INVLPG.
    pub invalidations: u64,
    /// RDMSR and WRMSR.
    pub msr: u64,
    /// FXSAVE, XSAVE and their likes.
    pub fpu_saves: u64,
    /// Locked operations.
    pub locked: u64,
    /// Times that the kernel looked for who runs next: direct IPC does not.
    pub scheduler: u64,
}

impl Events {
    fn count(&mut self, text: &str) {
        let name = text.split_whitespace().next().unwrap_or_default();
        match name {
            "vmread" => self.vmread += 1,
            "vmwrite" => self.vmwrite += 1,
            "invept" | "invvpid" | "invpcid" | "invlpg" => self.invalidations += 1,
            "rdmsr" | "wrmsr" => self.msr += 1,
            "lock" => self.locked += 1,
            "mov" if text.starts_with("mov cr3") => self.cr3_writes += 1,
            // An exchange with memory is locked without a prefix.
            "xchg" if text.contains("ptr") => self.locked += 1,
            _ if name.contains("xsave") || name.contains("xrstor") => self.fpu_saves += 1,
            _ => {}
        }
    }

    /// What is more here than in `other`.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// Of one of `count` times.
    #[must_use]
    pub fn each(&self, count: u64) -> Self {
        self.with(self, |all, _| all / count.max(1))
    }

    fn with(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            transitions: of(self.transitions, other.transitions),
            ring_crossings: of(self.ring_crossings, other.ring_crossings),
            cr3_writes: of(self.cr3_writes, other.cr3_writes),
            vmread: of(self.vmread, other.vmread),
            vmwrite: of(self.vmwrite, other.vmwrite),
            invalidations: of(self.invalidations, other.invalidations),
            msr: of(self.msr, other.msr),
            fpu_saves: of(self.fpu_saves, other.fpu_saves),
            locked: of(self.locked, other.locked),
            scheduler: of(self.scheduler, other.scheduler),
        }
    }

    /// As an object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "transitions": self.transitions, "ring_crossings": self.ring_crossings, "cr3_writes": self.cr3_writes,
            "vmread": self.vmread, "vmwrite": self.vmwrite, "invept": self.invalidations, "msr": self.msr,
            "fpu_saves": self.fpu_saves, "locked": self.locked,
            "scheduler_calls": self.scheduler,
        })
    }

    /// In words; what there is none of is left out.
    #[must_use]
    pub fn text(&self) -> String {
        let all = [
            (self.transitions, "transitions"),
            (self.ring_crossings, "ring crossings"),
            (self.cr3_writes, "CR3 writes"),
            (self.vmread, "VMREAD"),
            (self.vmwrite, "VMWRITE"),
            (self.invalidations, "invalidations"),
            (self.msr, "MSR accesses"),
            (self.fpu_saves, "FPU saves"),
            (self.locked, "locked"),
            (self.scheduler, "scheduler calls"),
        ];
        let some: Vec<String> =
            all.iter().filter(|(count, _)| *count != 0).map(|(count, name)| format!("{count} {name}")).collect();
        some.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Next at t=0\nTracing enabled for CPU0\n\
        (0).[10] [0x0000136749b8] 0010:00000000001019b8 (unk. ctxt): mov qword ptr ds:[r8], r8 ; 4d8900\n\
        (0).[11] [0x000000109020] 0008:ffffffff80109020 (unk. ctxt): vmread rcx, rsi           ; 4157\n\
        (0).[12] [0x000000109022] 0008:ffffffff80109022 (unk. ctxt): lock cmpxchg byte ptr ds:[r8+40], cl ; 41\n\
        (0).[13] [0x000000109022] 002b:0000000000401000 (unk. ctxt): sysenter ; 0f34\n\
        (0).[14] [0x000000109024] 0008:ffffffff80109024 (unk. ctxt): mov cr3, rax ; 0f22\n\
        (0).[15] [0x0000136749bb] 0010:00000000001019bb (unk. ctxt): xchg bx, bx ; 6687db\n\
        Tracing disabled for CPU0\n(0).[99] [0x1] 0010:0000000000100000 (unk. ctxt): nop ; 90\n";

    #[test]
    fn a_trace_is_what_lies_between_the_marks_and_its_costly_events_are_counted() {
        let traces = read(SAID);
        assert_eq!(traces.len(), 1);
        assert_eq!((traces[0].instructions.len(), traces[0].ticks()), (6, 5));
        let expected =
            Events { transitions: 2, ring_crossings: 2, cr3_writes: 1, vmread: 1, locked: 1, ..Events::default() };
        assert_eq!(traces[0].events(), expected);
    }
}
