//! Our pager as a program of the host: the library [`vmm_mm`] between two pipes.

pub mod flaw;
mod flawed;
mod machine;
mod port;

use anyhow::{Context, bail};
use flaw::Flaw;
use ipc_proto::call::Received;
use ipc_proto::fault::Fault;
use ipc_proto::host::Boot;
use ipc_proto::layout::{BootInfo, HANDED_OVER};
use ipc_proto::manifest::{MAX_VMS, Manifest, Task};
use ipc_proto::refused::Refused;
use ipc_proto::wire;
use ipc_proto::words::Words;
use machine::Machine;
use port::Port;
use vmm_mm::adopt::Broken;
use vmm_mm::alarm::Due;
use vmm_mm::control::{MESSAGE, REPLY};
use vmm_mm::dirty::Way;
use vmm_mm::machine::{Cpu, Kernel};
use vmm_mm::policy::Chosen;
use vmm_mm::serve::{INTERNAL, Pager};
use vmm_mm::shares::shares;

/// Serves until standard input ends; with a flaw, not as it should.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(flaw: Option<Flaw>) -> anyhow::Result<()> {
    let (port, boot) = Port::open()?;
    let Boot { info, manifest, frames } = boot;
    let info: BootInfo = wire::decode(&info).map_err(|error| anyhow::anyhow!("the boot information: {error:?}"))?;
    let manifest: Manifest = wire::decode(&manifest).map_err(|error| anyhow::anyhow!("the manifest: {error:?}"))?;
    let mut machine = Machine::new(port, frames.as_str(), info.first_pfn, flaw)?;
    machine.incarnation = info.incarnation;
    if flaw == Some(Flaw::Broods) && info.incarnation != 0 {
        flawed::sleep();
    }
    let task = manifest.tasks.get(usize::from(info.task)).context("the manifest has no such task")?;
    let huge = matches!(flaw, Some(Flaw::LargeInSecret | Flaw::IgnoresFixedRanges));
    let name = if huge { "huge" } else { task.option("policy").unwrap_or("demand") };
    let mut policy = Chosen::by_name(name).with_context(|| format!("there is no policy {name}"))?;
    for option in &task.options {
        if let Some(key) = option.key.strip_prefix("policy.")
            && let Err(why) = policy.set(key, &option.value)
        {
            bail!("option {key}: {why:?}");
        }
    }
    // The state is large.
    let mut pager = Box::new(Pager::empty());
    let shares = shares(&manifest.vms, &task.options, &info.vms, info.frames);
    let shares = shares.map_err(|wrong| anyhow::anyhow!("the frames cannot be shared out: {wrong:?}"))?;
    pager.prepare(info.first_pfn, &shares, info.guest_physical_bits, policy);
    equip(&mut pager, &info, task, &mut machine)?;
    if info.kept == HANDED_OVER && flaw != Some(Flaw::ForgetsWhatIsMapped) {
        let begun = pager.take_up(&shares, info.incarnation, &mut machine);
        begun.map_err(|broken| anyhow::anyhow!("what the incarnation before has handed over: {broken:?}"))?;
    } else if info.kept <= HANDED_OVER || flaw == Some(Flaw::ForgetsItsFrames) {
        pager.take_over(&shares, &mut machine);
        pager.keep_on(&mut machine).map_err(|out| anyhow::anyhow!("{out:?}"))?;
    } else if flaw == Some(Flaw::KeepsNothing) {
        bail!("nothing is known of the incarnation before");
    } else {
        match pager.adopt((info.kept, &shares), info.incarnation, &mut machine) {
            Err(Broken::Head) if flaw == Some(Flaw::BeginsAfresh) => pager.take_over(&shares, &mut machine),
            Err(broken) => bail!("what the incarnation before has left: {broken:?}"),
            Ok(_) => {}
        }
    }
    pager.wake(&mut machine);
    let mut server = Server { pager, machine, answered: 0 };
    server.serve()
}

/// How writes are seen: as the manifest says, or the best way that the CPU has.
fn equip(pager: &mut Pager, info: &BootInfo, task: &Task, machine: &mut Machine) -> anyhow::Result<()> {
    let named = |name: &str| Way::by_name(name).with_context(|| format!("there is no way {name} to see writes"));
    let wanted = task.option("dirty").map(named).transpose()?;
    let vm = *info.vms.first().context("it pages no VM")?;
    let cpu = machine.cpu(usize::from(vm)).unwrap_or(Cpu::PLAIN);
    pager.equip(cpu, wanted).map_err(|way| anyhow::anyhow!("this CPU cannot see writes by {}", way.name()))
}

/// The pager and what it works on.
struct Server {
    pager: Box<Pager>,
    machine: Machine,
    answered: u64,
}

impl Server {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut answer = None;
        if self.machine.flaw == Some(Flaw::AnswersFirst) {
            answer = Some([0; 6]);
        }
        // Standard input ends with the system.
        while let Some(message) = self.machine.receive(answer)? {
            answer = self.answer(message.status, message.words, &message.message)?;
            self.answered += 1;
        }
        if self.machine.flaw == Some(Flaw::Lingers) {
            flawed::sleep();
        }
        Ok(())
    }

    /// The words that answer a message; nothing for one that is not to be answered.
    fn answer(&mut self, status: u64, words: Words, bytes: &[u8]) -> anyhow::Result<Option<Words>> {
        let (pager, machine) = (&mut self.pager, &mut self.machine);
        machine.flawed_by_count(self.answered)?;
        let reply = match Received::from_number(status) {
            Some(Received::Fault) => match machine.read_fault(&words) {
                Some(fault) => Some(machine.flawed_reply(&fault, |fault, machine| pager.answer(fault, machine))),
                None => Some(INTERNAL),
            },
            Some(Received::RefusedReply) => match (Fault::from_words(&words), Refused::from_number(words[5])) {
                (Ok(fault), Some(refused)) => {
                    Some(machine.flawed_refusal(refused, |machine| pager.after_refusal(&fault, refused, machine)))
                }
                (Ok(_) | Err(_), _) => Some(INTERNAL),
            },
            Some(Received::Call) => {
                let vm = words[0] as usize;
                let len = (words[1] as usize).min(MESSAGE + 1);
                let request = machine.flawed_request(&bytes[..len.min(bytes.len())]);
                let mut reply = [0; REPLY];
                let used = pager.request(vm, &request, &mut reply, machine);
                let reply = machine.flawed_answer(&reply[..used]);
                machine.put(&reply);
                Some([reply.len() as u64, 0, 0, 0, 0, 0])
            }
            Some(Received::Notice) => {
                let over = if machine.flaw == Some(Flaw::HoldsOn) { 0 } else { words[1] };
                (0..MAX_VMS).filter(|vm| over >> vm & 1 != 0).for_each(|vm| pager.vm_ended(vm, machine));
                self.timer_came();
                self.machine.answers_notices().then_some([0; 6])
            }
            None if status == Refused::NotAsked as u64 => {
                (self.machine.flaw == Some(Flaw::AnswersRefusals)).then_some(INTERNAL)
            }
            Some(Received::Exit) | None => Some(INTERNAL),
        };
        Ok(reply)
    }

    /// Does what the time has come for.
    fn timer_came(&mut self) {
        let (pager, machine) = (&mut self.pager, &mut self.machine);
        let now = machine.now();
        let (due, next) = machine.alarm.rang(now);
        if next != 0 {
            machine.set_timer(next);
        }
        match due {
            Due::WaitedFor => pager.notice(machine),
            Due::Leisure => pager.at_leisure(machine),
            Due::Nothing => {}
        }
    }
}
