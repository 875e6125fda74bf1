//! Setting up the VM: its slots, its guest, the state it starts in.

use super::host_clock;
use super::pager::{Pager, PagerError};
use super::window::Ram;
use core::fmt;
use heapless::Vec;
use ipc_proto::layout::FLAT_GUEST;
use ipc_proto::manifest::in_place::Vm;
use ipc_proto::manifest::{BootProtocol, MAX_MODULES};
use ipc_proto::slot::{SlotFlags, SlotRequest, Space};
use ipc_proto::state::VcpuState;
use rt::Task;
use vcpu::cpuid::{self, Cpuid};
use vcpu::load::{Image, LoadError, flat, linux, multiboot};
use vcpu::machine::{Config, Machine};
use vcpu::memory::{BIOS_SLOT, RamMap};
use vcpu::msr::FastStrings;
use vcpu::{acpi, start};

/// Why the VM cannot be started.
#[derive(Debug)]
pub enum SetUpError {
    /// The manifest has no such VM.
    NoVm(u16),
    /// The pager does not do its part.
    Pager(PagerError),
    /// A boot module that the manifest does not give to this task.
    NoModule(&'static str),
    /// The guest of that module cannot be loaded.
    Load(&'static str, LoadError),
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVm(vm) => write!(f, "the manifest has no VM {vm}"),
            Self::Pager(error) => error.fmt(f),
            Self::NoModule(name) => write!(f, "the boot module {name} is not given to this task"),
            Self::Load(name, error) => write!(f, "cannot load {name}: {error}"),
        }
    }
}

impl From<PagerError> for SetUpError {
    fn from(error: PagerError) -> Self {
        Self::Pager(error)
    }
}

/// Makes the machine, fills its memory and the state that vCPU 0 starts in.
pub fn set_up(task: &Task, vm: u16, state: &mut VcpuState) -> Result<(Machine, Ram), SetUpError> {
    let entry = task.vms().nth(usize::from(vm)).ok_or(SetUpError::NoVm(vm))?;
    let map = RamMap::new(u64::from(entry.memory) << 12);
    let mut ram = Ram::new(vm, map);
    if entry.vcpus > 1 {
        log::warn!("{} vCPUs in the manifest: one is started, there is no way to start others", entry.vcpus);
    }
    *state = if entry.pager.is_some() {
        fill(task, &entry, vm, &mut ram, map)?
    } else {
        log::warn!("no pager for this VM: no slots are made and nothing is loaded");
        start::long_mode(FLAT_GUEST)
    };
    let info = &task.info;
    let config = Config {
        ram: map,
        cpuid: Cpuid::new(cpuid::host, info.tsc_hz, info.guest_physical_bits),
        tsc_hz: info.tsc_hz,
        strings: if info.fast_strings { FastStrings::On } else { FastStrings::Off },
        epoch: host_clock::epoch(task),
    };
    Ok((Machine::new(&config, rt::tsc()), ram))
}

fn fill(task: &Task, entry: &Vm<'static>, vm: u16, ram: &mut Ram, map: RamMap) -> Result<VcpuState, SetUpError> {
    let pager = Pager::greet(vm)?;
    for slot in map.slots() {
        pager.request(&SlotRequest::Create(slot))?;
    }
    let state = load(task, entry, ram, map)?;
    acpi::write(ram).map_err(|error| SetUpError::Load(entry.name, error.into()))?;
    ram.seal();
    pager.request(&SlotRequest::SetFlags(Space::Normal, BIOS_SLOT, SlotFlags::READONLY))?;
    Ok(state)
}

fn load(task: &Task, entry: &Vm<'static>, ram: &mut Ram, map: RamMap) -> Result<VcpuState, SetUpError> {
    let bytes = |name| task.module(name).ok_or(SetUpError::NoModule(name));
    let guest = &entry.guest;
    let mut modules: Vec<(&str, &[u8]), MAX_MODULES> = Vec::new();
    for name in guest.modules.iter().copied() {
        // The manifest holds no more modules than this list does.
        let _ = modules.push((name, bytes(name)?));
    }
    let image = Image {
        name: guest.kernel,
        kernel: bytes(guest.kernel)?,
        modules: &modules,
        command_line: guest.command_line,
        ram: map,
    };
    let loaded = match guest.protocol {
        BootProtocol::Linux => linux::load(&image, ram),
        BootProtocol::Multiboot => multiboot::load(&image, ram),
        BootProtocol::Flat => flat::load(&image, ram),
    };
    loaded.map_err(|error| SetUpError::Load(guest.kernel, error))
}
