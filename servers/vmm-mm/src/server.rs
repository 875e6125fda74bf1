//! Receive, resolve, reply.

use core::fmt::Arguments;
use ipc_proto::exit::{ExitMessage, Resume, ResumeFlags};
use ipc_proto::grant::{ClaimedGrant, Gfn, Grant, Rights};
use ipc_proto::memop::MemOp;
use ipc_proto::refused::Refused;
use ipc_proto::state::StateMask;
use ipc_proto::words::Words;
use rt::{Answer, Received, Task};
use spin::Mutex;
use vmm_mm::control::{MESSAGE, REPLY};
use vmm_mm::machine::{Kernel, Memory};
use vmm_mm::policy::Chosen;
use vmm_mm::serve::{INTERNAL, Pager};

/// Too large for the stack. Locked once, by the only thread, for as long as the server lives.
static PAGER: Mutex<Pager> = Mutex::new(Pager::empty());

/// The kernel and the task's own frames.
struct Machine {
    first_pfn: u64,
}

/// The server's main function.
pub fn main(task: Task) -> ! {
    let mut machine = Machine { first_pfn: task.info.first_pfn };
    let mut pager = PAGER.lock();
    let policy = policy(&task);
    log::info!("{} frames from pfn {:#x}, policy {}", task.info.frames, task.info.first_pfn, policy.name());
    let bits = task.info.guest_physical_bits;
    pager.open(task.info.first_pfn, task.info.frames, bits, policy, &mut machine);
    serve(&mut pager, &mut machine)
}

/// The policy that the manifest names. A pager that was told of one that it does not have must not run another.
fn policy(task: &Task) -> Chosen {
    let name = task.entry().option("policy").unwrap_or("demand");
    let mut policy = Chosen::by_name(name).unwrap_or_else(|| panic!("no policy {name}: there are {:?}", Chosen::NAMES));
    for option in &task.entry().options {
        if let Some(key) = option.key.strip_prefix("policy.")
            && let Err(why) = policy.set(key, &option.value)
        {
            panic!("policy {name}, option {key} = {}: {why:?}", option.value);
        }
    }
    policy
}

fn serve(pager: &mut Pager, machine: &mut Machine) -> ! {
    let mut next = rt::receive_words();
    loop {
        next = match next.fault() {
            Some(fault) => rt::reply_words(pager.answer(&fault, machine)),
            None => other(pager, machine, next),
        };
    }
}

/// Answers anything but a fault, if an answer is due, and receives what is next.
#[cold]
#[inline(never)]
fn other(pager: &mut Pager, machine: &mut Machine, message: Answer) -> Answer {
    let reply = match message.received() {
        Received::Fault(fault) => Some(pager.answer(&fault, machine)),
        Received::Call { vm, len } => Some(request(pager, machine, vm, len)),
        Received::RefusedReply(fault, refused) => Some(pager.after_refusal(&fault, refused, machine)),
        Received::Exit(exit) => {
            log::error!("the manifest made a pager the server of vm {}: {:?} is not answered", exit.vm, exit.exit);
            Some(park(&exit))
        }
        Received::Notice(bits) => {
            log::warn!("notifications {bits:#x}, asked for by nobody");
            None
        }
        Received::Unknown(answer) if answer.status == Refused::NotAsked as u64 => None,
        Received::Unknown(answer) => {
            log::error!("a message that this version does not know: {answer:x?}");
            Some(INTERNAL)
        }
    };
    match reply {
        Some(words) => rt::reply_words(words),
        None => rt::receive_words(),
    }
}

/// The vCPU stays where it is.
fn park(exit: &ExitMessage) -> Words {
    let flags = ResumeFlags::PARK;
    Resume { vcpu: exit.vcpu, vm: exit.vm, flags, write: StateMask::empty(), event: None }.to_words()
}

/// A request that is longer than any that this version knows is cut, and so malformed.
fn request(pager: &mut Pager, machine: &mut Machine, vm: usize, len: usize) -> Words {
    let mut bytes = [0; MESSAGE + 1];
    let len = len.min(bytes.len());
    rt::read_message(&mut bytes[..len]);
    let mut reply = [0; REPLY];
    let used = pager.request(vm, &bytes[..len], &mut reply, machine);
    rt::write_message(&reply[..used]);
    [used as u64, 0, 0, 0, 0, 0]
}

impl Memory for Machine {
    #[inline(always)]
    fn clear(&mut self, frame: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).clear();
    }

    #[inline(always)]
    fn word(&self, frame: u32, index: usize) -> u32 {
        rt::frame(self.first_pfn + u64::from(frame)).word(index)
    }

    #[inline(always)]
    fn set_word(&mut self, frame: u32, index: usize, value: u32) {
        rt::frame(self.first_pfn + u64::from(frame)).set_word(index, value);
    }
}

impl Kernel for Machine {
    fn unmap(&mut self, vm: usize, first: Gfn, pages: u64) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Unmap, [first.0, pages, 0, 0]).map(|words| words[0])
    }

    fn protect(&mut self, vm: usize, first: Gfn, pages: u64, keep: Rights) -> Result<u64, Refused> {
        rt::mem_op(vm, MemOp::Protect, [first.0, pages, u64::from(keep.bits()), 0]).map(|words| words[0])
    }

    fn map(&mut self, vm: usize, grant: &Grant) -> Result<u64, Refused> {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = grant.claim();
        rt::mem_op(vm, MemOp::Map, [shape, gfn, pfn, mmu_seq]).map(|words| words[0])
    }

    fn donate(&mut self, vm: usize, first: u64, count: u64) -> Result<(), Refused> {
        rt::donate(vm, first, count)
    }

    fn mapped(&mut self, vm: usize, gfn: Gfn) -> Option<Grant> {
        let [first, pfn, shape, ..] = rt::mem_op(vm, MemOp::Read, [gfn.0, 0, 0, 0]).ok()?;
        let shape = shape & !(3 << 32);
        let leaf = ClaimedGrant { shape, gfn: first, pfn, mmu_seq: 0 }.typed().ok()?;
        (gfn.0.wrapping_sub(first) < leaf.level.frames()).then_some(leaf)
    }

    fn mmu_seq(&mut self, vm: usize) -> Option<u64> {
        rt::mem_op(vm, MemOp::Info, [0; 4]).ok().map(|words| words[0])
    }

    fn further(&mut self, place: usize, claim: ClaimedGrant) {
        let ClaimedGrant { shape, gfn, pfn, mmu_seq } = claim;
        let mut bytes = [0; ClaimedGrant::BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip([shape, gfn, pfn, mmu_seq]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        rt::write_message_at(place * ClaimedGrant::BYTES, &bytes);
    }

    fn stat(&mut self, key: Arguments<'_>, value: u64) {
        rt::stat(key, value);
    }
}
