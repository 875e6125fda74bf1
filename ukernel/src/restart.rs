//! Supervision: a task is looked at, stopped, and started again from its pristine image with the frames that it had. Who waits
//! to ask it waits on, and asks the next incarnation. Nothing is allocated: the frames of every image were reserved at boot.

use crate::arch::cpu;
use crate::arch::paging::PhysMap;
use crate::core::{Context, Core};
use crate::figures;
use crate::task::Handle;
use crate::thread::{Life, State, Thread};
use ipc_proto::call::{Cause, Deed, notice};
use ipc_proto::grant::Pfn;
use ipc_proto::layout::BootInfo;
use ipc_proto::refused::Refused;
use ipc_proto::wire;
use ipc_proto::words::Words;

/// A supervisor's call: word 0 its handle, word 1 the task, word 2 what is to be done with it.
pub fn supervise(core: &mut Core, id: u8, words: &Words) -> Result<Words, Refused> {
    if core.system.tasks[usize::from(id)].handle(words[0])? != Handle::Machine {
        return Err(Refused::BadHandle);
    }
    let deed = Deed::from_number(words[2]).ok_or(Refused::UnknownVariant)?;
    let task = u8::try_from(words[1]).map_err(|_| Refused::BadHandle)?;
    let thread = core.threads.get(usize::from(task)).ok_or(Refused::BadHandle)?;
    let stopped = thread.state == State::Stopped;
    match deed {
        Deed::Look => {
            let Life { cause: (cause, detail), incarnation, image, .. } = thread.life;
            return Ok([u64::from(stopped), cause as u64, detail, u64::from(incarnation), u64::from(image), 0]);
        }
        Deed::Prove => return Ok([u64::from(figures::proof(core).is_some()), 0, 0, 0, 0, 0]),
        Deed::Stop if task == id => return Err(Refused::NoRight),
        Deed::Stop if !stopped => core.mark_stopped(task, (Cause::Killed, 0)),
        Deed::Stop => {}
        Deed::Start => start(core, task, words[3])?,
    }
    Ok([0; 6])
}

/// Starts a stopped task again with that image.
///
/// # Errors
/// `Unanswered` when it runs, `NoRight` when a VM was over with it, `BadCount` without such an image.
fn start(core: &mut Core, id: u8, image: u64) -> Result<(), Refused> {
    let (system, thread) = (core.system, &mut core.threads[usize::from(id)]);
    let task = thread.task;
    let chosen = usize::try_from(image).ok().and_then(|image| task.images.get(image)).ok_or(Refused::BadCount)?;
    if thread.state != State::Stopped {
        return Err(Refused::Unanswered);
    }
    if system.vms.iter().any(|vm| vm.server == id) {
        return Err(Refused::NoRight);
    }
    let (memory, root) = (&system.memory, task.space.root());
    task.images[usize::from(thread.life.image)].renew(memory);
    chosen.put_on(root, memory);
    memory.clear(task.message);
    thread.life.incarnation += 1;
    let Life { incarnation, kept, .. } = thread.life;
    // What fitted at boot fits now: two numbers are longer by a few bytes.
    let _ = tell(memory, task.info_pfn, &BootInfo { incarnation, kept, ..task.info.clone() });
    let life = Life { cause: (Cause::Nothing, 0), image: image as u8, busy: None, ..thread.life };
    // Whatever time the one before has asked for is not this one's.
    let (askers, messages, notices) = (thread.askers, thread.messages, thread.notices & !notice::TIMER);
    *thread = Thread::new(task, life);
    (thread.askers, thread.messages, thread.notices) = (askers, messages, notices);
    if core.ended_vms(id) != 0 {
        // The one before may have died over it.
        core.threads[usize::from(id)].notices |= notice::VM_ENDED;
    }
    // The CPU may have kept what was there before.
    core.user.enter_anew(task);
    core.make_ready(Context::Thread(id));
    Ok(())
}

/// Puts the boot information where the task finds it; `None` when it is too long.
pub fn tell(memory: &PhysMap, page: Pfn, info: &BootInfo) -> Option<()> {
    let mut bytes = [0; 1024];
    let len = wire::encode(info, &mut bytes[2..]).ok()?;
    bytes[..2].copy_from_slice(&(len as u16).to_le_bytes());
    memory.fill(page, &bytes);
    Some(())
}

/// How often to look whether somebody is busy for too long, in ticks, and when next: four times in the shortest time that any
/// task has; `None` when all may take as long as they like.
pub fn watch(threads: &[Thread]) -> Option<(u64, u64)> {
    let shortest = threads.iter().map(|thread| thread.task.patience).filter(|patience| *patience != 0).min()?;
    Some((shortest.div_ceil(4), cpu::tsc() + shortest))
}

impl Core {
    /// Stops whoever was busy with one message for longer than it may. A message is told from the next by their number, so that
    /// nobody has to note when each came: a task is stopped at the first look after its time.
    pub fn look_for_the_busy(&mut self, now: u64) {
        let Some((every, next)) = self.watch.as_mut().filter(|(_, next)| *next <= now) else { return };
        *next = now + *every;
        for id in 0..self.threads.len() {
            let Thread { task, state, messages, life, .. } = &mut self.threads[id];
            let patience = task.patience;
            let runs = matches!(state, State::Frame | State::Answered);
            match life.busy {
                _ if patience == 0 || !runs => life.busy = None,
                Some((since, number)) if number == *messages && now - since >= patience => {
                    let (cause, busy) = ((Cause::Deadline, patience), now - since);
                    self.has_stopped(id as u8, cause, format_args!("busy with one message for {busy} ticks"));
                }
                Some((_, number)) if number == *messages => {}
                Some(_) | None => life.busy = Some((now, *messages)),
            }
        }
    }
}
