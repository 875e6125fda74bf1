//! The server's start: what the manifest says becomes a pager.

use ipc_proto::slot::SlotId;
use rt::Task;
use spin::Mutex;
use vmm_mm::dirty::Way;
use vmm_mm::machine::{Cpu, Kernel};
use vmm_mm::policy::Chosen;
use vmm_mm::serve::Pager;
use vmm_mm::task::{self, Machine};

/// Too large for the stack. Locked once, by the only thread, for as long as the server lives.
static PAGER: Mutex<Pager> = Mutex::new(Pager::empty());

/// The server's main function.
pub fn main(task: Task) -> ! {
    let mut machine = Machine::of(&task);
    let mut pager = PAGER.lock();
    let policy = policy(&task);
    if task.info.incarnation == 0 {
        log::info!("{} frames from pfn {:#x}, policy {}", task.info.frames, task.info.first_pfn, policy.name());
    }
    let shares = task::frames(&task, task.info.frames);
    pager.prepare(task.info.first_pfn, &shares, task.info.guest_physical_bits, policy);
    equip(&mut pager, &task, &mut machine);
    images(&mut pager, &task);
    task::begin(&mut pager, (&task.info, &shares), &mut machine);
    pager.wake(&mut machine);
    match task.entry().option("measure") {
        None | Some("off") => task::serve(&mut pager, &mut machine, |_, _, _| None),
        Some("on") => task::serve(&mut pager, &mut machine, task::measured),
        Some(other) => panic!("option measure = {other}: there are on, off"),
    }
}

/// How writes are seen: as the manifest says, or the best way that the CPU has.
fn equip(pager: &mut Pager, task: &Task, machine: &mut Machine) {
    let wanted = task
        .entry()
        .option("dirty")
        .map(|name| Way::by_name(name).unwrap_or_else(|| panic!("option dirty = {name}: there are {:?}", Way::NAMES)));
    let cpu = task.info.vms.first().and_then(|vm| machine.cpu(usize::from(*vm))).unwrap_or(Cpu::PLAIN);
    if task.info.incarnation == 0 {
        log::info!("the CPU has {:?} and pages of {:?}", cpu.abilities, cpu.largest);
    }
    if let Err(way) = pager.equip(cpu, wanted) {
        panic!("option dirty = {}: this CPU does not have it", way.name());
    }
}

/// The slots whose content is a boot module of this task: options `image.SLOT = MODULE`.
fn images(pager: &mut Pager, task: &Task) {
    for option in &task.entry().options {
        let Some(slot) = option.key.strip_prefix("image.") else { continue };
        let module = task.info.modules.iter().position(|module| module.name == option.value);
        let image = slot.parse().ok().map(SlotId).zip(module);
        if !image.is_some_and(|(slot, module)| pager.set_image(slot, module)) {
            panic!("option {} = {}: no such slot or module of this task", option.key, option.value);
        }
    }
}

/// The policy that the manifest names. A pager that was told of one that it does not have must not run another.
fn policy(task: &Task) -> Chosen {
    let name = task.entry().option("policy").unwrap_or("demand");
    let mut policy = Chosen::by_name(name).unwrap_or_else(|| panic!("no policy {name}: there are {:?}", Chosen::NAMES));
    for option in &task.entry().options {
        if let Some(key) = option.key.strip_prefix("policy.")
            && let Err(why) = policy.set(key, option.value)
        {
            panic!("policy {name}, option {key} = {}: {why:?}", option.value);
        }
    }
    policy
}
