//! Boot: from what the loader left to a core that runs. A script over the manifest; after it nothing is allocated.

mod objects;
mod ram;

use crate::arch::apic::Apic;
use crate::arch::boot_memory::BootFrames;
use crate::arch::core_local::Stack;
use crate::arch::cpu::{self, Features};
use crate::arch::paging::PhysMap;
use crate::arch::tables::Tables;
use crate::arch::vmx::log as page_log;
use crate::arch::vmx::root::{self, EptCapabilities};
use crate::arch::{door, machine};
use crate::core::Core;
use crate::fail::end_boot;
use crate::frame::FrameTable;
use crate::grant::Shapes;
use crate::log;
use crate::restart;
use crate::system::System;
use crate::thread::{Life, Thread};
use heapless::{String, Vec};
use ipc_proto::grant::Level;
use ipc_proto::manifest::{MODULE, Manifest};
use ipc_proto::memop::Abilities;
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;
use multiboot2::BootInformation;
use ram::Module;

/// Most boot modules.
const MODULES: usize = 24;

/// What boot has found and made so far.
struct Boot {
    features: Features,
    frames: BootFrames,
    memory: PhysMap,
    modules: Vec<Module, MODULES>,
    manifest: Manifest,
    table: FrameTable,
}

/// Builds the system that the manifest describes. Ends the machine, saying why, when it cannot.
pub fn boot(information: Option<BootInformation<'static>>) -> &'static mut Core {
    let began = cpu::tsc();
    log::start();
    machine::silence_pic();
    match build(information, began) {
        Ok(core) => core,
        Err(why) => end_boot(format_args!("{why}")),
    }
}

/// Why the system cannot be built.
type Why = String<112>;

/// A reason in words; what does not fit is cut.
fn why(text: core::fmt::Arguments<'_>) -> Why {
    let mut why = Why::new();
    let _ = core::fmt::write(&mut why, text);
    why
}

fn build(information: Option<BootInformation<'static>>, began: u64) -> Result<&'static mut Core, Why> {
    let features = Features::read();
    let plain = |text: &str| why(format_args!("{text}"));
    if let Some(what) = root::missing(features) {
        return Err(why(format_args!("this machine cannot run guests: missing {what}")));
    }
    let information = information.ok_or_else(|| plain("the loader left no Multiboot2 information"))?;
    let modules = ram::modules(&information).ok_or_else(|| plain("too many boot modules"))?;
    let (mut frames, memory) =
        ram::map(&information, &modules, features).ok_or_else(|| plain("no memory for the kernel's tables"))?;
    let manifest = manifest(&modules)?;
    log::limit(manifest.log);
    let table =
        ram::frame_table(&information, &modules, &mut frames).ok_or_else(|| plain("no memory for the frame table"))?;
    root::start(&mut frames).map_err(plain)?;
    let boot = Boot { features, frames, memory, modules, manifest, table };
    boot.objects(began)
}

fn manifest(modules: &[Module]) -> Result<Manifest, Why> {
    let module = modules.iter().find(|module| module.name == MODULE);
    let module = module.ok_or_else(|| why(format_args!("no boot module is named {MODULE}")))?;
    let manifest: Manifest = wire::decode(module.bytes())
        .map_err(|error| why(format_args!("the manifest is not one of this version: {error:?}")))?;
    if !PROTOCOL.understands(manifest.version) {
        return Err(why(format_args!("the manifest speaks protocol {:?}, not {PROTOCOL:?}", manifest.version)));
    }
    Ok(manifest)
}

impl Boot {
    fn objects(mut self, began: u64) -> Result<&'static mut Core, Why> {
        let nothing_left = || why(format_args!("no memory for the kernel's objects"));
        let stack = Stack::new(&mut self.frames).ok_or_else(nothing_left)?;
        let tables: &'static mut Tables =
            self.frames.place_zeroed::<Tables>().ok_or_else(nothing_left)?.start(stack.trap(), door::trap_address());
        let tsc_hz = machine::tsc_frequency(cpu::tsc);
        let apic = Apic::start(self.features, cpu::tsc);
        let mut tasks = self.tasks(tsc_hz)?;
        let vms = self.vms(&tasks)?;
        let manifest = self.manifest.clone();
        objects::give_handles(&mut tasks, &manifest, &vms);
        let system = System {
            name: manifest.name.clone(),
            frames: self.table,
            memory: self.memory,
            tasks,
            vms,
            shapes: shapes(),
            abilities: abilities(),
            check: manifest.check,
            began,
        };
        let system = self.frames.place(system).ok_or_else(nothing_left)?;
        objects::fill_pools(system, &manifest)?;
        let addresses = tables.addresses();
        let core = self.frames.place(Core::new(system, tables, apic, stack)).ok_or_else(nothing_left)?;
        core.threads = system.tasks.iter().map(|task| Thread::new(task, Life::default())).collect();
        core.watch = restart::watch(&core.threads);
        core.arm_timer();
        stack.belongs_to(core);
        objects::vcpus(core, &mut self.frames, &manifest, addresses)?;
        for thread in 0..core.threads.len() {
            core.make_ready(crate::core::Context::Thread(thread as u8));
        }
        ::log::info!(
            "system {}: {} tasks, {} VMs, {} MHz, CPU has {:?}",
            core.system.name,
            core.threads.len(),
            core.system.vms.len(),
            tsc_hz / 1_000_000,
            self.features,
        );
        Ok(core)
    }
}

fn abilities() -> Abilities {
    let ept = EptCapabilities::read();
    let mut abilities = Abilities::empty();
    abilities.set(Abilities::ACCESSED_DIRTY, ept.contains(EptCapabilities::ACCESSED_DIRTY));
    abilities.set(Abilities::EXECUTE_ONLY, ept.contains(EptCapabilities::EXECUTE_ONLY));
    abilities.set(Abilities::LOG, page_log::supported());
    abilities
}

fn shapes() -> Shapes {
    let ept = EptCapabilities::read();
    let largest = if ept.contains(EptCapabilities::HUGE) {
        Level::Huge
    } else if ept.contains(EptCapabilities::LARGE) {
        Level::Large
    } else {
        Level::Page
    };
    Shapes { largest, execute_only: ept.contains(EptCapabilities::EXECUTE_ONLY) }
}
